//! Parsing YAML, as tables: values, and errors with their locations.

use super::{builder::MAX_WARNINGS, parse};
use crate::{
    config::Node,
    diagnostic::{Diagnostic, Diagnostics, Severity, SourceId, Sources, Span, render},
};

fn read(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    let mut problems = Diagnostics::default();
    let node = parse(SourceId(0), text, &mut problems);
    (node, problems.into_sorted())
}

fn json(text: &str) -> String {
    let (node, problems) = read(text);
    assert!(problems.iter().all(|p| p.severity == Severity::Warning), "{text}: {problems:?}");
    node.expect(text).to_json().to_string()
}

#[test]
fn values_keep_their_types() {
    for (text, wanted) in [
        ("", "null"),
        ("# only a comment\n", "null"),
        ("a: 1\nb: [x, 2.5, ~]\nc: {d: true}", r#"{"a":1,"b":["x",2.5,null],"c":{"d":true}}"#),
        ("a: \"1\"\nb: 'x'\nc: !!str 1\nd: ! 1", r#"{"a":"1","b":"x","c":"1","d":"1"}"#),
        ("a: !!int 3\nb: !!float 3", r#"{"a":3,"b":3.0}"#),
        ("a: 2024-01-31\nb: yes\nc: 010", r#"{"a":"2024-01-31","b":"yes","c":10}"#),
        ("1: a\ntrue: b\n1.50: c\n? d\n: e", r#"{"1":"a","true":"b","1.50":"c","d":"e"}"#),
        ("a: |\n  x\n  y\nb: >\n  x\n  y\n", r#"{"a":"x\ny\n","b":"x y\n"}"#),
        ("\u{feff}a: 1", r#"{"a":1}"#),
        ("a:\t1", r#"{"a":1}"#),
        ("a:\r\n  b: 1\r\n", r#"{"a":{"b":1}}"#),
        ("a:\nb: ''", r#"{"a":null,"b":""}"#),
        ("{\"a\": [1, {\"b\": null}]}", r#"{"a":[1,{"b":null}]}"#),
    ] {
        assert_eq!(json(text), wanted, "{text}");
    }
}

#[test]
fn anchors_and_merges_follow_yaml_1_1_as_kedro_does() {
    for (text, wanted) in [
        ("a: &x {p: 1}\nb: *x", r#"{"a":{"p":1},"b":{"p":1}}"#),
        ("a: &x 1\nb: &x 2\nc: *x", r#"{"a":1,"b":2,"c":2}"#),
        ("_b: &b {p: 1, q: 2}\nc:\n  q: 3\n  <<: *b", r#"{"_b":{"p":1,"q":2},"c":{"p":1,"q":3}}"#),
        ("a: &a {p: 1}\nb: &b {p: 2, q: 2}\nc: {<<: [*a, *b]}", r#"{"a":{"p":1},"b":{"p":2,"q":2},"c":{"p":1,"q":2}}"#),
        ("a: &a {p: 1}\nb: &b {p: 2}\nc:\n  <<: *a\n  <<: *b", r#"{"a":{"p":1},"b":{"p":2},"c":{"p":2}}"#),
        ("a: &a {p: {x: 1}}\nb: {<<: *a, p: {y: 2}}", r#"{"a":{"p":{"x":1}},"b":{"p":{"y":2}}}"#),
        ("a: &a {p: 1}\nb: &b {<<: *a}\nc: {<<: *b}", r#"{"a":{"p":1},"b":{"p":1},"c":{"p":1}}"#),
        ("a: {<<: {p: 1}, q: 2}\nb: {\"<<\": 1}", r#"{"a":{"p":1,"q":2},"b":{"<<":1}}"#),
        ("a: &k key\n*k : 1", r#"{"a":"key","key":1}"#),
    ] {
        assert_eq!(json(text), wanted, "{text}");
    }
}

#[test]
fn spans_cover_what_was_written() {
    let text = "a:\n  - \"ü\" # note\n  - {b: 1}\nc: &x |\n  text\nd: *x\n";
    let (node, _) = read(text);
    let node = node.expect(text);
    let written = |span: Span| &text[span.start..span.end];
    let map = node.as_map().expect("a mapping");
    assert_eq!(written(map.entries["a"].key_span), "a");
    let list = map.get("a").expect("a");
    assert_eq!(written(list.span), "- \"ü\" # note\n  - {b: 1}");
    assert_eq!(written(list.as_list().expect("a list")[0].span), "\"ü\"");
    assert_eq!(written(list.as_list().expect("a list")[1].span), "{b: 1}");
    assert!(written(map.get("d").expect("d").span).starts_with("text"), "an alias has the location of its anchor");
    assert!(written(node.span).starts_with("a:") && written(node.span).ends_with("*x"));
}

#[test]
fn what_is_refused_says_where_and_how_to_fix_it() {
    for (text, code, place, part) in [
        ("a: 1\nb: 2\n\"a\": 3", "yaml::duplicate-key", "3:1", "first here"),
        ("a: *b", "yaml::unknown-anchor", "1:4", "no anchor `&b`"),
        ("a: *bse\nc: &base 1", "yaml::unknown-anchor", "1:4", "did you mean `base`?"),
        ("a: &x [*x]", "yaml::recursive-alias", "1:8", "cannot contain itself"),
        ("a: 1\n---\nb: 2", "yaml::several-documents", "2:1", "one document per file"),
        ("a: {<<: 1}", "yaml::merge", "1:5", "not an integer"),
        ("{a}: 1", "yaml::complex-key", "1:1", "put the key in quotes"),
        ("a: !secret x", "yaml::tag", "1:12", "unknown tag `!secret`"),
        ("a: !!int x", "yaml::tag", "1:10", "does not fit"),
        ("a: [${b}]", "yaml::syntax", "1:6", "put a value with `${…}` in quotes"),
        ("a: ${f: b}", "yaml::syntax", "1:7", "put a value with `${…}` in quotes"),
        ("a:\n\tb: 1", "yaml::syntax", "2:1", "indent with spaces"),
        ("a:\n  b: 1\n\tc: 2", "yaml::syntax", "3:1", "indent with spaces"),
        ("a: \"x\\d\"", "yaml::syntax", "1:6", "unknown escape"),
        ("a: \"x", "yaml::syntax", "1:4", "unterminated quoted"),
        ("a: [1, 2\nb: 3", "yaml::syntax", "2:2", "this bracket is still open"),
        ("a: @x", "yaml::syntax", "1:4", "put the value in quotes"),
        ("a: 1\n  b: 2", "yaml::syntax", "2:4", "indent"),
    ] {
        let mut sources = Sources::default();
        sources.add("x.yml", text);
        let (node, problems) = read(text);
        assert!(node.is_none(), "{text}");
        let error = problems.iter().find(|p| p.severity == Severity::Error).expect(text);
        let rendered = render(&problems, &sources, false);
        assert_eq!(error.code, code, "{rendered}");
        assert_eq!(sources.location(error.labels[0].span), format!("x.yml:{place}"), "{rendered}");
        assert!(rendered.contains(part), "{rendered}");
    }
}

#[test]
fn every_duplicate_key_is_reported() {
    let (_, problems) = read("a: 1\na: 2\nb: {c: 1, c: 2}");
    assert_eq!(problems.len(), 2);
}

#[test]
fn words_of_yaml_1_1_get_a_warning_with_their_line() {
    let (node, problems) = read("on: 1\na: yes\nb: 'yes'\nc: 010\nd: 1:30\n");
    assert!(node.is_some());
    let messages: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "`yes` is a string in YAML 1.2, but the boolean `true` in YAML 1.1",
            "`010` is the number 10 in YAML 1.2, but an octal number in YAML 1.1",
            "`1:30` is a string in YAML 1.2, but a number in base 60 in YAML 1.1",
        ]
    );
    let (_, many) = read(&"- yes\n".repeat(3 * MAX_WARNINGS));
    assert_eq!(many.len(), MAX_WARNINGS.min(many.len() - 1) + 1);
    assert!(many.iter().any(|p| p.message.starts_with("100 more")), "{:?}", many[0]);
}

#[test]
fn hostile_files_are_refused_in_bounded_time() {
    let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..12).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "))))
        .collect();
    let chain: String = std::iter::once("a0: &a0 {k0: 0}\n".to_owned())
        .chain((1..10_000).map(|i| format!("a{i}: &a{i} {{<<: *a{}, k{i}: 0}}\n", i - 1)))
        .collect();
    let nested: String = std::iter::once("a0: &a0 [x]\n".to_owned())
        .chain((1..1000).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)))
        .collect();
    for (text, code) in [
        (bomb, "yaml::too-many-aliases"),
        (chain, "yaml::too-many-aliases"),
        (nested, "yaml::too-deep"),
        ("[".repeat(10_000), "yaml::too-deep"),
        ("- ".repeat(10_000), "yaml::too-deep"),
        ("{a: ".repeat(10_000), "yaml::too-deep"),
    ] {
        let (node, problems) = read(&text);
        assert!(node.is_none());
        assert_eq!(problems[0].code, code, "{:?}", problems[0]);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a<&*: \\n\\t\"'{}\\[\\],|>!?#%@$ü0-]{0,60}") {
        let mut sources = Sources::default();
        sources.add("x.yml", text.as_str());
        let (node, problems) = read(&text);
        proptest::prop_assert!(node.is_some() || problems.iter().any(|p| p.severity == Severity::Error));
        render(&problems, &sources, false);
    }
}
