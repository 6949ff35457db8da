//! `paginator`: how the pages of one answer are found, with dlt's names.

use reqwest::{Url, header::HeaderMap};
use serde_json::{Value as Json, json};

use super::{answers::Selector, template::text_of_json};
use crate::{
    config::{Field, Kind, Record},
    function::problems::Problems,
};

/// The keys of `paginator`.
pub static FIELDS: &[Field] = &[
    Field::required(
        "type",
        Kind::Choice(&["json_link", "header_link", "cursor", "offset", "page_number"]),
        "How the next page is found.",
    ),
    Field::optional("next_url_path", Kind::Text, "$.next", "`json_link`: a JSONPath to the address of the next page."),
    Field::optional("links_next_key", Kind::Text, "next", "`header_link`: the relation in the header `Link`."),
    Field::optional(
        "cursor_path",
        Kind::Text,
        "$.cursors.next",
        "`cursor`: a JSONPath to the cursor of the next page.",
    ),
    Field::optional("cursor_param", Kind::Text, "cursor", "`cursor`: the parameter that carries it."),
    Field::optional("limit", Kind::Integer(1, 1_000_000), "100", "`offset`: the items of a page."),
    Field::optional("limit_param", Kind::Text, "limit", "`offset`: the parameter with the items of a page."),
    Field::optional("offset_param", Kind::Text, "offset", "`offset`: the parameter with the first item."),
    Field::optional("base_page", Kind::Integer(0, 1), "0", "`page_number`: the number of the first page."),
    Field::optional("page_param", Kind::Text, "page", "`page_number`: the parameter with the number of the page."),
    Field::optional(
        "total_path",
        Kind::Text,
        "",
        "A JSONPath to the total: of items for `offset`, of pages for `page_number`; without it, an empty page is the last.",
    ),
    Field::optional("max_pages", Kind::Integer(1, 1_000_000), "1000", "More pages are an error of the row."),
];

/// How the pages of one answer are found.
#[derive(Debug, Clone)]
pub struct Paginator {
    kind: PaginatorKind,
    total: Option<Selector>,
    /// More pages are an error.
    pub max_pages: usize,
}

#[derive(Debug, Clone)]
enum PaginatorKind {
    JsonLink(Selector),
    HeaderLink(String),
    Cursor(Selector, String),
    Offset { limit: u64, limit_param: String, offset_param: String },
    PageNumber { base: u64, param: String },
}

/// The next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextPage {
    /// There is none.
    None,
    /// At another address.
    Address(String),
    /// With these parameters.
    Parameters(Vec<(String, String)>),
}

impl Paginator {
    /// Reads the mapping.
    pub fn read(record: &Record<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let text = |name: &str, default: &str| record.text(name).unwrap_or(default).to_owned();
        let mut path = |name: &str, default: &str| {
            Selector::read(record.text(name).unwrap_or(default), record.span(name), problems)
        };
        let number =
            |name: &str, default: u64| record.integer(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(default);
        let kind = match record.word("type")? {
            "json_link" => PaginatorKind::JsonLink(path("next_url_path", "$.next")?),
            "header_link" => PaginatorKind::HeaderLink(text("links_next_key", "next")),
            "cursor" => PaginatorKind::Cursor(path("cursor_path", "$.cursors.next")?, text("cursor_param", "cursor")),
            "offset" => PaginatorKind::Offset {
                limit: number("limit", 100),
                limit_param: text("limit_param", "limit"),
                offset_param: text("offset_param", "offset"),
            },
            _ => PaginatorKind::PageNumber { base: number("base_page", 0), param: text("page_param", "page") },
        };
        let total = match record.text("total_path") {
            Some(text) => Some(Selector::read(text, record.span("total_path"), problems)?),
            None => None,
        };
        let max_pages = usize::try_from(number("max_pages", 1000)).unwrap_or(usize::MAX);
        Some(Self { kind, total, max_pages })
    }

    /// The parameters of the first page.
    pub fn first(&self) -> Vec<(String, String)> {
        self.parameters(0)
    }

    fn parameters(&self, page: u64) -> Vec<(String, String)> {
        match &self.kind {
            PaginatorKind::Offset { limit, limit_param, offset_param } => {
                vec![(limit_param.clone(), limit.to_string()), (offset_param.clone(), (page * limit).to_string())]
            }
            PaginatorKind::PageNumber { base, param } => vec![(param.clone(), (base + page).to_string())],
            _ => Vec::new(),
        }
    }

    /// What follows page number `page`, counted from 0, which had `items` items.
    pub fn next(&self, page: u64, items: usize, body: &Json, headers: &HeaderMap) -> NextPage {
        let first =
            |path: &Selector| path.nodes(body).first().map(|node| text_of_json(node)).filter(|text| !text.is_empty());
        let total = self.total.as_ref().and_then(|path| path.nodes(body).first()?.as_u64());
        match &self.kind {
            PaginatorKind::JsonLink(path) => first(path).map_or(NextPage::None, NextPage::Address),
            PaginatorKind::HeaderLink(relation) => link(headers, relation).map_or(NextPage::None, NextPage::Address),
            PaginatorKind::Cursor(path, param) => {
                first(path).map_or(NextPage::None, |cursor| NextPage::Parameters(vec![(param.clone(), cursor)]))
            }
            PaginatorKind::Offset { limit, .. } => {
                let last = total.map_or(items == 0, |total| (page + 1) * limit >= total);
                if last || items == 0 { NextPage::None } else { NextPage::Parameters(self.parameters(page + 1)) }
            }
            PaginatorKind::PageNumber { .. } => {
                let last = total.map_or(items == 0, |total| page + 1 >= total);
                if last || items == 0 { NextPage::None } else { NextPage::Parameters(self.parameters(page + 1)) }
            }
        }
    }

    /// As written, for the identity of answers. Another text for the same pages makes all of them be paid again.
    pub fn identity(&self) -> String {
        let kind = match &self.kind {
            PaginatorKind::JsonLink(path) => json!({"json_link": path.text()}),
            PaginatorKind::HeaderLink(relation) => json!({"header_link": relation}),
            PaginatorKind::Cursor(path, param) => json!({"cursor": [path.text(), param]}),
            PaginatorKind::Offset { limit, limit_param, offset_param } => {
                json!({"offset": [limit, limit_param, offset_param]})
            }
            PaginatorKind::PageNumber { base, param } => json!({"page_number": [base, param]}),
        };
        json!([kind, self.total.as_ref().map(Selector::text)]).to_string()
    }
}

/// The address with a relation in the header `Link` (RFC 8288).
fn link(headers: &HeaderMap, relation: &str) -> Option<String> {
    for value in headers.get_all("link") {
        let mut rest = value.to_str().unwrap_or_default();
        // A comma may also be part of an address.
        while let Some((address, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
            let parameters;
            (parameters, rest) = after.split_at(after.find('<').unwrap_or(after.len()));
            let named = parameters.split([';', ',']).any(|parameter| {
                let parameter = parameter.trim().strip_prefix("rel=").map(|rel| rel.trim_matches('"'));
                parameter.is_some_and(|rel| rel.split_whitespace().any(|rel| rel == relation))
            });
            if named {
                return Some(address.to_owned());
            }
        }
    }
    None
}

/// The address of a next page, if it is at the same server: credentials are sent nowhere else.
pub fn same_server(current: &Url, next: &str) -> Option<Url> {
    let next = current.join(next).ok()?;
    let origin = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    (origin(current) == origin(&next)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_page_at_another_server_is_not_followed() {
        let url = Url::parse("https://host/a?x=1").expect("an address");
        for (next, expected) in [
            ("https://host/a?page=2", Some("https://host/a?page=2")),
            ("/b", Some("https://host/b")),
            ("?page=3", Some("https://host/a?page=3")),
            ("http://host/a", None),
            ("https://host.evil.example/a", None),
            ("//evil.example", None),
        ] {
            assert_eq!(same_server(&url, next).as_ref().map(Url::as_str), expected, "{next}");
        }
    }

    #[test]
    fn links_are_found_by_their_relation() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "link",
            r#"<https://h/1>; rel="prev", <https://h/3>; title="x"; rel="next last""#.parse().expect("a header"),
        );
        assert_eq!(link(&headers, "next").as_deref(), Some("https://h/3"));
        assert_eq!(link(&headers, "first"), None);
        headers.insert(
            "link",
            "<https://h/?ids=1,2>; rel=first, <https://h/?ids=3,4>; rel=next".parse().expect("a header"),
        );
        assert_eq!(link(&headers, "next").as_deref(), Some("https://h/?ids=3,4"));
        headers.insert("link", "no link at all; rel=next".parse().expect("a header"));
        assert_eq!(link(&headers, "next"), None);
    }

    #[test]
    fn offsets_end_at_the_total_or_at_an_empty_page() {
        let kind = || PaginatorKind::Offset { limit: 2, limit_param: "limit".into(), offset_param: "offset".into() };
        let open = Paginator { kind: kind(), total: None, max_pages: 9 };
        let none = HeaderMap::new();
        let second = NextPage::Parameters(vec![("limit".into(), "2".into()), ("offset".into(), "2".into())]);
        assert_eq!(open.next(0, 2, &json!({}), &none), second);
        assert_eq!(open.next(1, 0, &json!({}), &none), NextPage::None);
    }
}
