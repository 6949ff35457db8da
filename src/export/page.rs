//! The page: one HTML file without a network, which draws a document of `schemas/page.schema.json`; and the live one, which asks
//! the server that it came from.
//!
//! Their code is in the bundles `templates/page.html` and `templates/live.html`, which `web/build.mjs` makes.

use serde_json::Value as Json;

use crate::model::visible_json;

/// The bundle. [`DATA`] stands where the document goes.
const BUNDLE: &str = include_str!("../../templates/page.html");
const DATA: &str = "<!--DATA-->";
/// The bundle of the live page.
const LIVE: &str = include_str!("../../templates/live.html");

/// The page that draws a document.
pub fn page(document: Json) -> String {
    let (before, after) = BUNDLE.split_once(DATA).expect("the bundle has a place for its data");
    // Data must not end the script element that holds it.
    let data = visible_json(document).to_string().replace('<', "\\u003c");
    format!("{before}{data}{after}")
}

/// True if a text that begins like this is such a page.
pub fn is_page(beginning: &str) -> bool {
    beginning.starts_with("<!doctype html>\n<html lang=\"en\">\n") && beginning.contains("<title>flow</title>")
}

/// The live page, and the content security policy under which it works.
pub fn live_page() -> (&'static str, String) {
    let (_, rest) =
        LIVE.split_once("http-equiv=\"Content-Security-Policy\" content=\"").expect("the bundle has a policy");
    let (policy, _) = rest.split_once('"').expect("the policy ends");
    (LIVE, format!("{policy}; frame-ancestors 'none'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_has_one_place() {
        assert_eq!(BUNDLE.matches(DATA).count(), 1);
    }

    #[test]
    fn the_live_page_may_ask_its_own_server_and_nobody_else() {
        let (page, policy) = live_page();
        assert!(policy.starts_with("default-src 'none'; connect-src 'self'; style-src 'sha256-"), "{policy}");
        assert!(policy.ends_with("frame-ancestors 'none'") && !policy.contains("http"), "{policy}");
        assert!(!page.contains("src=\"") && !page.contains("@import"));
    }

    #[test]
    fn the_page_may_load_nothing() {
        assert!(BUNDLE.contains("content=\"default-src 'none'; style-src 'sha256-"));
        for word in ["src=\"", "@import", "fetch(", "XMLHttpRequest", "WebSocket"] {
            assert!(!BUNDLE.contains(word), "{word}");
        }
    }
}
