//! Kubernetes objects as YAML: without anchors, every string quoted that YAML 1.1 or 1.2 would read as something else.

use serde_json::Value as Json;

/// Comments, then the documents.
pub(super) fn write(comments: &[String], documents: &[Json]) -> String {
    let mut text = String::new();
    for line in comments {
        // What is quoted in a comment stays in it.
        text.push_str(&line.replace(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'], " "));
        text.push('\n');
    }
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        let written = serde_saphyr::to_string_with_options(document, options.clone());
        text.push_str(&written.expect("JSON can be written as YAML"));
        if !text.ends_with('\n') {
            text.push('\n');
        }
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
        ]);
        let text = write(&["# made\nup".to_owned()], &[json!({"args": words})]);
        assert!(text.starts_with("# made up\nargs:\n"), "{text}");
        assert_eq!(read(&text)["args"], words, "{text}");
        for plain in ["- 8\n", "- yes\n", "- on\n", "- 010\n", "- 1:30\n", "- 2026-11-26\n", "- 1e3\n"] {
            assert!(!text.contains(plain), "{plain} in\n{text}");
        }
    }

    proptest! {
        #[test]
        fn any_string_is_read_as_it_was_written(key in "\\PC{1,12}", value in "(\\PC|[\\n\\t :#'\"\\\\-]){0,40}") {
            let document = json!({"a": {key: [value]}});
            let text = write(&[], std::slice::from_ref(&document));
            prop_assert_eq!(read(&text), document, "{}", text);
        }
    }
}
