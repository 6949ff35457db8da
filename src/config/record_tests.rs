//! What is reported about mappings, and what their getters give.

use super::*;
use crate::diagnostic::SourceId;

static INNER: &[Field] = &[Field::optional("rpm", Kind::OrWord("auto", &Kind::Integer(1, 100)), "auto", "")];
static FIELDS: &[Field] = &[
    Field::required("path", Kind::Text, "The location.").or(&["filepath"]),
    Field::optional("workers", Kind::Integer(1, i64::MAX), "10", ""),
    Field::optional("rate", Kind::Number(0.0, 1.0), "", ""),
    Field::optional("overwrite", Kind::Bool, "", ""),
    Field::optional("timeout", Kind::Duration, "", ""),
    Field::optional("memory", Kind::Bytes, "", ""),
    Field::optional("mode", Kind::Choice(&["stop", "continue"]), "", ""),
    Field::optional("columns", Kind::List(&Kind::Text), "", ""),
    Field::optional("api_key", Kind::Secret, "", ""),
    Field::optional("limits", Kind::Record(INNER), "", ""),
    Field::optional("extra", Kind::Map(&Kind::Integer(0, 9)), "", ""),
    Field::optional("free", Kind::Any, "", ""),
];

fn at(start: usize) -> Span {
    Span { source: SourceId(0), start, end: start + 1 }
}

fn map(entries: Vec<(&str, Value)>) -> Node {
    let entry = |(i, (key, value)): (usize, (&str, Value))| {
        (key.to_owned(), Entry { key_span: at(i * 2), node: Node::new(value, at(i * 2 + 1)) })
    };
    let entries = entries.into_iter().enumerate().map(entry).collect();
    Node::new(Value::Map(Map { entries }), at(99))
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn every_getter_reads_its_kind() {
    let list = Value::List(vec![Node::new(text("a"), at(0)), Node::new(Value::Int(2024), at(0))]);
    let node = map(vec![
        ("filepath", text("data/a")),
        ("workers", text("20")),
        ("rate", Value::Int(1)),
        ("overwrite", text("true")),
        ("timeout", text("500ms")),
        ("memory", text("2kB")),
        ("mode", text("stop")),
        ("columns", list),
        ("api_key", text("hunter2")),
        ("limits", map(vec![("rpm", text("auto"))]).value),
        ("extra", map(vec![("a", Value::Int(3))]).value),
        ("free", Value::Null),
        ("x-note", Value::Int(1)),
    ]);
    let mut problems = Diagnostics::default();
    let record = Record::read(&node, "dataset `d`", FIELDS, &mut problems).expect("a mapping");
    assert!(problems.as_slice().is_empty(), "{problems:?}");
    assert!(record.is_sound());
    assert_eq!(record.text("path"), Some("data/a"));
    assert_eq!(record.integer("workers"), Some(20));
    assert_eq!(record.number("rate"), Some(1.0));
    assert_eq!(record.bool("overwrite"), Some(true));
    assert_eq!(record.duration("timeout"), Some(Duration::from_millis(500)));
    assert_eq!(record.bytes("memory"), Some(2000));
    assert_eq!(record.word("mode"), Some("stop"));
    assert_eq!(record.texts("columns"), Some(vec!["a", "2024"]));
    assert_eq!(record.secret("api_key"), Some(Secret::new("hunter2")));
    let limits = record.record("limits").expect("a mapping");
    assert_eq!((limits.word("rpm"), limits.integer("rpm")), (Some("auto"), None));
    assert_eq!(record.map("extra").and_then(|m| m.get("a")).map(|n| &n.value), Some(&Value::Int(3)));
    assert_eq!(record.node("free").map(|n| &n.value), Some(&Value::Null));
    assert_eq!((record.span("path"), record.span("absent"), record.record_span()), (at(1), at(99), at(99)));
}

#[test]
fn every_problem_is_reported_and_its_value_withheld() {
    for (entries, code, message) in [
        (
            vec![("workers", text("many"))],
            "config::wrong-type",
            "`workers` of dataset `d` must be an integer, not a string",
        ),
        (
            vec![("workers", Value::Float(1.5))],
            "config::wrong-type",
            "`workers` of dataset `d` must be an integer, not 1.5",
        ),
        (
            vec![("workers", Value::Int(0))],
            "config::out-of-range",
            "`workers` of dataset `d` is 0, but must be 1 or more",
        ),
        (
            vec![("rate", Value::Float(f64::NAN))],
            "config::out-of-range",
            "`rate` of dataset `d` is NaN, but must be between 0 and 1",
        ),
        (
            vec![("mode", text("stp"))],
            "config::unknown-word",
            "`mode` of dataset `d` is `stp`, but must be one of `stop`, `continue`",
        ),
        (vec![("wrokers", Value::Int(1))], "config::unknown-key", "dataset `d` has an unknown key `wrokers`"),
        (
            vec![("filepath", text("b"))],
            "config::duplicate-alias",
            "dataset `d`: `filepath` is an alias of `path`, which is given as well",
        ),
        (
            vec![("columns", Value::List(vec![Node::new(Value::Null, at(0))]))],
            "config::wrong-type",
            "item 1 of `columns` of dataset `d` is empty",
        ),
        (
            vec![("timeout", Value::Int(-1))],
            "config::wrong-type",
            "`timeout` of dataset `d` must be a duration: seconds, or a string such as `500ms`, `10m` or `1h`, not -1",
        ),
        (
            vec![("memory", text("4GBB"))],
            "config::wrong-type",
            "`memory` of dataset `d` must be a size: bytes, or a string such as `512MiB` or `2GB`, not `4GBB`",
        ),
        (
            vec![("memory", Value::Secret(Secret::new("hunter2")))],
            "config::wrong-type",
            "`memory` of dataset `d` must be a size: bytes, or a string such as `512MiB` or `2GB`, not a secret",
        ),
        (
            vec![("memory", Value::List(Vec::new()))],
            "config::wrong-type",
            "`memory` of dataset `d` must be a size: bytes, or a string such as `512MiB` or `2GB`, not an empty list",
        ),
        (
            vec![("limits", map(vec![("rpm", Value::Int(500))]).value)],
            "config::out-of-range",
            "`rpm` of `limits` of dataset `d` is 500, but must be between 1 and 100",
        ),
        (
            vec![("extra", map(vec![("a", text("x"))]).value)],
            "config::wrong-type",
            "`a` of `extra` of dataset `d` must be an integer, not a string",
        ),
        (
            vec![("overwrite", Value::Int(1))],
            "config::wrong-type",
            "`overwrite` of dataset `d` must be `true` or `false`, not an integer",
        ),
    ] {
        let name = entries[0].0;
        let node = map([vec![("path", text("a"))], entries].concat());
        let mut problems = Diagnostics::default();
        let record = Record::read(&node, "dataset `d`", FIELDS, &mut problems).expect("a mapping");
        let found: Vec<_> = problems.as_slice().iter().map(|d| (d.code, d.message.as_str())).collect();
        assert_eq!(found, vec![(code, message)]);
        assert!(!record.is_sound());
        assert!(record.node(name).is_none(), "{name}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let node = map(vec![("a", Value::Int(1)), ("b", Value::Int(1)), ("workers", text("x"))]);
    let mut problems = Diagnostics::default();
    Record::read(&node, "dataset `d`", FIELDS, &mut problems);
    let codes: Vec<_> = problems.as_slice().iter().map(|d| d.code).collect();
    assert_eq!(codes, ["config::unknown-key", "config::unknown-key", "config::wrong-type", "config::missing-key"]);
    assert!(Record::read(&Node::new(Value::Int(1), at(0)), "dataset `d`", FIELDS, &mut problems).is_none());
}

#[test]
fn secrets_stay_out_of_texts_and_missing_ones_are_no_error() {
    let missing = Value::MissingSecret { variable: "KEY".into() };
    let node = map(vec![
        ("path", Value::Secret(Secret::new("https://u:p@h"))),
        ("api_key", missing.clone()),
        ("workers", missing),
    ]);
    let mut problems = Diagnostics::default();
    let record = Record::read(&node, "dataset `d`", FIELDS, &mut problems).expect("a mapping");
    let codes: Vec<_> = problems.as_slice().iter().map(|d| d.code).collect();
    assert_eq!(codes, ["config::secret-in-text"]);
    assert_eq!(record.missing_secret("api_key"), Some("KEY"));
    assert_eq!((record.secret("api_key"), record.text("path"), record.integer("workers")), (None, None, None));
}
