//! JSON values as YAML.

use serde_json::Value as Json;

/// A value as block YAML, without anchors, every string quoted that YAML 1.1 or 1.2 would read as something else.
pub fn to_yaml(value: &Json) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = serde_saphyr::to_string_with_options(value, options).expect("JSON can be written as YAML");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        config::parse_yaml,
        diagnostic::{Diagnostics, SourceId},
    };

    fn read(text: &str) -> Json {
        let mut problems = Diagnostics::default();
        let tree = parse_yaml(SourceId(0), text, &mut problems);
        assert!(!problems.has_errors(), "{:?}\n{text}", problems.as_slice());
        tree.expect("a tree").to_json()
    }

    #[test]
    fn words_that_yaml_reads_as_something_else_are_quoted() {
        let words = json!([
            "8",
            "yes",
            "on",
            "010",
            "1:30",
            "null",
            "~",
            "",
            " a",
            "a: b",
            "# c",
            "{{x}}",
            "*a",
            "&a",
            "!t",
            "- x",
            "1e3",
            "0x1f",
            "2026-11-26",
            "a\nb",
            "ü",
            "%x",
            "@x",
            "`x`",
            "'",
            "\"",
            "\\",
            "true",
            "-",
            "=",
            "<<",
            ".5",
            ".inf",
            "1_000",
        ]);
        let text = to_yaml(&json!({"args": words}));
        assert_eq!(read(&text)["args"], words, "{text}");
        for plain in ["- 8\n", "- yes\n", "- on\n", "- 010\n", "- 1:30\n", "- 2026-11-26\n", "- 1e3\n"] {
            assert!(!text.contains(plain), "{plain} in\n{text}");
        }
    }

    proptest! {
        #[test]
        fn any_string_is_read_as_it_was_written(key in "\\PC{1,12}", value in "(\\PC|[\\n\\t :#'\"\\\\-]){0,40}") {
            let document = json!({"a": {key: [value]}});
            let text = to_yaml(&document);
            prop_assert_eq!(read(&text), document, "{}", text);
        }
    }
}
