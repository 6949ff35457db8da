//! `sql`: any tables in, the rows of one query out, in DataFusion's dialect.

mod check;
mod lineage;

use std::{io, path::Path, sync::Arc};

use async_trait::async_trait;
use datafusion::{execution::SendableRecordBatchStream, prelude::SessionContext};
use indexmap::IndexMap;
use minijinja::{Environment, UndefinedBehavior};

use super::{
    Arguments, ColumnOrigin, Columns, Context, Function, FunctionError, Job, TableJob, Tables,
    spark::{self, Spark, Work},
};
use crate::{
    config::{ReadError, read_regular_file},
    diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean},
    model::{Fingerprint, Port, Shape, Signature},
};

const SIGNATURE: Signature = Signature {
    inputs: &[
        Port::optional("query", Shape::Value, "the query; input tables and parameters have the names of their ports"),
        Port::optional("file", Shape::Value, "a file that holds the query, relative to the project"),
    ],
    outputs: &[Port::required("result", Shape::Table, "the rows of the query")],
    more_inputs: Some(Shape::Table),
    anything: false,
};

/// See the module.
pub(super) struct Sql;

impl Function for Sql {
    fn name(&self) -> &'static str {
        "sql"
    }

    fn doc(&self) -> &'static str {
        "Runs one query over its input tables, in DataFusion's SQL; `{{ k }}` is replaced by the parameter under the port `k`"
    }

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        SIGNATURE
    }

    fn options(&self) -> &'static [&'static str] {
        spark::OPTIONS
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let text = |port: &str, problems: &mut Diagnostics| {
            let node = arguments.value(port)?;
            if node.as_text().is_none() {
                let message = format!("`{port}` of node `{}` must be a string, not {}", arguments.node, node.kind());
                problems.push(Diagnostic::error("config::wrong-type", message).at(node.span, ""));
            }
            Some((node.as_text()?.to_owned(), node.span))
        };
        let given = |port: &str| arguments.value(port).is_some() || arguments.is_unknown(port);
        let (query, file) = (text("query", problems), text("file", problems));
        if given("query") == given("file") {
            let message = format!("node `{}` needs one of `query` and `file`", arguments.node);
            let problem = Diagnostic::error("sql::bad-query", message).at(arguments.span, "");
            problems.push(if given("query") { problem.help("it has both; keep one") } else { problem });
            return None;
        }
        let (template, span) = match (query, file) {
            (Some(query), _) => query,
            (None, Some((file, span))) => {
                let path = arguments.root.join(&file);
                match query_file(&path) {
                    Ok(template) => (template, span),
                    Err(error) => {
                        let message = format!("node `{}`: the query `{file}` {error}", arguments.node);
                        problems.push(Diagnostic::error("sql::bad-query", message).at(span, ""));
                        return None;
                    }
                }
            }
            // Reported above, or where the parameter is defined.
            (None, None) => return None,
        };
        let spark = Spark::of(arguments, problems);
        match render(&template, arguments) {
            // Its dialect is Spark's.
            Ok(query) if spark.is_some() => {
                Some(Job::Table(Arc::new(SqlJob { node: arguments.node.to_owned(), query, span, spark })))
            }
            Ok(query) => match too_long(&query) {
                None => match check::check_syntax(&query, &arguments.tables) {
                    Ok(()) => {
                        Some(Job::Table(Arc::new(SqlJob { node: arguments.node.to_owned(), query, span, spark: None })))
                    }
                    // An input that could not be read was reported.
                    Err(_) if !arguments.unknown.is_empty() => None,
                    Err(problem) => {
                        problems.push(problem.diagnostic(arguments.node, &query, span));
                        None
                    }
                },
                Some(reason) => {
                    let message = format!("node `{}`: its query has {reason}", arguments.node);
                    problems.push(Diagnostic::error("sql::bad-query", message).at(span, ""));
                    None
                }
            },
            // A value that could not be read was reported already.
            Err(error) if !arguments.unknown.is_empty() && error.kind() == minijinja::ErrorKind::UndefinedError => None,
            Err(error) => {
                let message = format!("node `{}`: its query cannot be rendered: {error}", arguments.node);
                let names = arguments.values.keys().map(String::as_str);
                let help = undefined(&error, &template).and_then(|name| did_you_mean(&name, names));
                problems.push(Diagnostic::error("sql::bad-query", message).at(span, "").help_opt(help));
                None
            }
        }
    }
}

/// Operators of one expression, and `UNION`s of one query. Each is a level of a tree that the planner goes down, and its stack
/// is bounded.
const MAX_OPERATORS: usize = 2000;
const MAX_SET_OPERATIONS: usize = 300;

/// What a query has too much of, with the limit.
fn too_long(query: &str) -> Option<String> {
    use datafusion::sql::sqlparser::{
        dialect::GenericDialect,
        keywords::Keyword,
        tokenizer::{Token, Tokenizer},
    };
    // What cannot be read is reported by the planner.
    let tokens = Tokenizer::new(&GenericDialect {}, query).tokenize().unwrap_or_default();
    // Operators so far in the expression at each depth of brackets.
    let mut operators = vec![0_usize];
    let mut sets = 0;
    for token in &tokens {
        // There is always one more than brackets that are open.
        let here = operators.len() - 1;
        match token {
            Token::LParen | Token::LBracket => operators.push(0),
            Token::RParen | Token::RBracket if operators.len() > 1 => drop(operators.pop()),
            Token::Comma | Token::SemiColon => operators[here] = 0,
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => {
                operators[here] += 1
            }
            Token::DoubleColon => operators[here] += 1,
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR => operators[here] += 1,
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE => operators[here] = 0,
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => sets += 1,
                _ => {}
            },
            _ => {}
        }
        if operators[here.min(operators.len() - 1)] > MAX_OPERATORS {
            let help = "give the values as a list (`IN (…)`) or as a table of their own";
            return Some(format!("an expression with more than {MAX_OPERATORS} operators; {help}"));
        }
        if sets > MAX_SET_OPERATIONS {
            let help = "divide it into several nodes, or read the files as one dataset";
            return Some(format!("more than {MAX_SET_OPERATIONS} `UNION`, `INTERSECT` and `EXCEPT`; {help}"));
        }
    }
    None
}

fn query_file(path: &Path) -> Result<String, ReadError> {
    let not_text = |_| ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, "not valid UTF-8"));
    String::from_utf8(read_regular_file(path)?).map_err(not_text)
}

/// Renders a query with the node's parameters. A missing parameter is an error, never an empty string.
fn render(template: &str, arguments: &Arguments<'_>) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let values: serde_json::Map<String, serde_json::Value> =
        arguments.values.iter().map(|(name, node)| (name.clone(), node.to_json())).collect();
    environment.render_str(template, minijinja::value::Serde(values))
}

/// The undefined variable that rendering failed on, if it was one.
fn undefined(error: &minijinja::Error, template: &str) -> Option<String> {
    (error.kind() == minijinja::ErrorKind::UndefinedError).then_some(())?;
    let range = error.range()?;
    template.get(range).map(|text| text.trim().to_owned())
}

#[derive(Debug)]
struct SqlJob {
    node: String,
    query: String,
    /// Where the query is, or the name of its file.
    span: Span,
    /// The engine, unless it is this process.
    spark: Option<Spark>,
}

#[async_trait]
impl TableJob for SqlJob {
    async fn load(&self, context: &Context) -> Result<(), FunctionError> {
        match &self.spark {
            Some(spark) => spark.load(&self.node, context).await,
            None => Ok(()),
        }
    }

    fn needs_python(&self) -> bool {
        self.spark.is_some()
    }

    fn is_local(&self) -> bool {
        self.spark.is_none()
    }

    fn fingerprint(&self) -> Fingerprint {
        // The same text may mean something else in another dialect.
        let dialect = if self.spark.is_some() { "sql of spark" } else { "sql" };
        Fingerprint::builder(dialect).text(&self.query).finish()
    }

    async fn columns(
        &self,
        inputs: &IndexMap<String, Option<Columns>>,
        session: &SessionContext,
    ) -> Result<Option<Columns>, Diagnostic> {
        if self.spark.is_some() {
            return Ok(None);
        }
        let bound = check::bind(&self.query, inputs, session).await;
        bound.map_err(|problem| problem.diagnostic(&self.node, &self.query, self.span))
    }

    async fn origins(&self, inputs: &IndexMap<String, Option<Columns>>, session: &SessionContext) -> Vec<ColumnOrigin> {
        // Its dialect is another one.
        if self.spark.is_some() {
            return Vec::new();
        }
        match check::plan(&self.query, inputs, session).await {
            Ok(Some((plan, _))) => lineage::origins(&plan, &|name| inputs.contains_key(name)),
            _ => Vec::new(),
        }
    }

    fn query(&self) -> Option<&str> {
        Some(&self.query)
    }

    async fn run(&self, inputs: Tables, context: &Context) -> Result<SendableRecordBatchStream, FunctionError> {
        match &self.spark {
            Some(spark) => spark.run(&self.node, Work::Query(&self.query), inputs, context).await,
            None => query(&context.session, inputs, &self.query).await,
        }
    }
}

/// Runs one query over named tables. Nothing but a query is allowed: no DDL, no writing, no settings.
async fn query(
    session: &SessionContext,
    tables: Tables,
    text: &str,
) -> Result<SendableRecordBatchStream, FunctionError> {
    // Tables of one node are invisible to others: the catalog is the node's own, memory is shared.
    let session = SessionContext::new_with_config_rt(session.copied_config(), session.runtime_env());
    for (name, table) in tables {
        session.register_table(datafusion::common::TableReference::bare(name), table)?;
    }
    let options = datafusion::execution::context::SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let frame = session.sql_with_options(text, options).await?;
    Ok(frame.execute_stream().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_too_deep_for_the_planner_is_refused_and_a_wide_one_is_not() {
        let sum = |count: usize| format!("select {} as x", vec!["1"; count + 1].join("+"));
        let union = |count: usize| vec!["select 1"; count + 1].join(" union all ");
        let conditions = format!("select 1 where {}", vec!["a = 1"; 2 * MAX_OPERATORS].join(" or "));
        for (query, reason) in [
            (sum(MAX_OPERATORS), None),
            (sum(MAX_OPERATORS + 1), Some("operators")),
            (sum(20_000), Some("operators")),
            (union(MAX_SET_OPERATIONS), None),
            (union(3000), Some("UNION")),
            (conditions, Some("operators")),
            (format!("select {}", vec!["a + 1 + b"; 3000].join(", ")), None),
            (format!("select 1 where a in ({})", vec!["-1"; 30_000].join(",")), None),
            (format!("select {}", vec!["f(a + 1) "; 3000].join("")), None),
            (format!("select '{}'", "+".repeat(30_000)), None),
            ("select 'unclosed".to_owned(), None),
            (")".repeat(100), None),
        ] {
            let found = too_long(&query);
            match reason {
                Some(reason) => assert!(found.is_some_and(|found| found.contains(reason)), "{reason}"),
                None => assert_eq!(found, None),
            }
        }
    }
}
