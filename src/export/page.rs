//! The page: one HTML file without a network, which draws a document of `schemas/page.schema.json`.
//!
//! Its code is the bundle `templates/page.html`, which `web/build.mjs` makes.

use serde_json::Value as Json;

use crate::model::visible_json;

/// The bundle. [`DATA`] stands where the document goes.
const BUNDLE: &str = include_str!("../../templates/page.html");
const DATA: &str = "<!--DATA-->";

/// The page that draws a document.
pub fn page(document: Json) -> String {
    let (before, after) = BUNDLE.split_once(DATA).expect("the bundle has a place for its data");
    // Data must not end the script element that holds it.
    let data = visible_json(document).to_string().replace('<', "\\u003c");
    format!("{before}{data}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_has_one_place() {
        assert_eq!(BUNDLE.matches(DATA).count(), 1);
    }

    #[test]
    fn the_page_may_load_nothing() {
        assert!(BUNDLE.contains("content=\"default-src 'none'; style-src 'sha256-"));
        for word in ["src=\"", "@import", "fetch(", "XMLHttpRequest", "WebSocket"] {
            assert!(!BUNDLE.contains(word), "{word}");
        }
    }
}
