//! The two ways in: a file that must be a mapping, and a value of any kind.

use granit_parser::Parser;

use super::{builder::Builder, errors::syntax_error};
use crate::{
    config::tree::{MAX_DEPTH, Map, Node, Value},
    diagnostic::{Diagnostic, Diagnostics, SourceId, Span},
};

/// Reads a file that must be a mapping. An empty file is an empty mapping. `None` when it was refused.
pub(in crate::config) fn parse_file(source: SourceId, text: &str, problems: &mut Diagnostics) -> Option<Node> {
    let node = parse(source, text, problems)?;
    match node.value {
        Value::Map(_) => Some(node),
        Value::Null => Some(Node::new(Value::Map(Map::default()), node.span)),
        _ => {
            let kind = node.kind();
            problems.push(
                Diagnostic::error("yaml::not-a-mapping", format!("the file holds {kind} where a mapping is expected"))
                    .at(Span { end: node.span.start + 1, ..node.span }, "")
                    .help("write `name: value` lines"),
            );
            None
        }
    }
}

/// Reads one YAML value of any kind. An empty text is `null`. `None` when it was refused.
pub fn parse(source: SourceId, text: &str, problems: &mut Diagnostics) -> Option<Node> {
    // A block at the end of a file without a newline ends without one, as PyYAML and Kedro read it.
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        block_scalar_eof_without_line_feed: true,
    };
    let mut builder = Builder::new(source, text);
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.event(event, builder.span(span.byte_range())),
            Err(error) => Err(syntax_error(&error, source, text, builder.open_bracket())),
        };
        if let Err(problem) = step {
            builder.refuse(problem);
            break;
        }
    }
    builder.finish(problems)
}
