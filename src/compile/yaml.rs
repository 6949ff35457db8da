//! Kubernetes objects as documents of one YAML file.

use serde_json::Value as Json;

use crate::config::to_yaml;

/// Comments, then the documents.
pub(super) fn write(comments: &[String], documents: &[Json]) -> String {
    let mut text = String::new();
    for line in comments {
        // What is quoted in a comment stays in it.
        text.push_str(&line.replace(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'], " "));
        text.push('\n');
    }
    text + &documents.iter().map(to_yaml).collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_follow_their_comments_which_stay_on_their_lines() {
        let text = write(&["# made\nup".to_owned()], &[json!({"a": 1}), json!({"b": ["8"]})]);
        assert_eq!(text, "# made up\na: 1\n---\nb:\n- \"8\"\n");
    }
}
