//! The rules of interpolation, as tables.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{Interpolator, Roots};
use crate::{
    config::{Node, Value, tree_path::TreeKind, yaml},
    diagnostic::{Diagnostic, Diagnostics, SourceId, Sources, render},
};

/// The files of a project.
#[derive(Default, Clone, Copy)]
struct Files<'t> {
    catalog: &'t str,
    parameters: &'t str,
    globals: &'t str,
    credentials: &'t str,
    runtime: &'t str,
}

fn variable(name: &str) -> Option<String> {
    match name {
        "USER" => Some("ada".into()),
        "NUMBER" => Some("007".into()),
        "LIST" => Some("[1, a]".into()),
        "OPENAI_API_KEY" => Some("sk-live".into()),
        _ => None,
    }
}

fn resolve(files: Files<'_>, kind: TreeKind) -> (Node, Vec<Diagnostic>, Sources) {
    let mut sources = Sources::default();
    let mut problems = Diagnostics::default();
    let mut read = |name: &str, text: &str| {
        let id: SourceId = sources.add(name, text);
        yaml::parse_file(id, text, &mut problems).expect(text)
    };
    let catalog = read("catalog.yml", files.catalog);
    let parameters = read("parameters.yml", files.parameters);
    let globals = read("globals.yml", files.globals);
    let credentials = read("credentials.yml", files.credentials);
    let runtime = read("--params", files.runtime);
    let roots = Roots { parameters: &parameters, globals: &globals, runtime: &runtime };
    let root = match kind {
        TreeKind::Catalog => &catalog,
        TreeKind::Globals => &globals,
        TreeKind::Credentials => &credentials,
        _ => &parameters,
    };
    let node = Interpolator::new(roots, &sources, &variable, &mut problems).entries(kind, root);
    (node, problems.into_sorted(), sources)
}

fn parameters(text: &str) -> Json {
    let (node, problems, sources) = resolve(Files { parameters: text, ..Files::default() }, TreeKind::Parameters);
    assert!(problems.is_empty(), "{}", render(&problems, &sources, false));
    node.to_json()
}

#[test]
fn whole_values_keep_their_type_and_texts_get_pythons_spelling() {
    let base = "i: 1\nf: 1.0\nb: true\nn: null\nbig: 1e10\ns: x\nm: {a: 1, b: [x, null]}\nl: [1, [2]]\n";
    for (value, wanted) in [
        ("${i}", json!(1)),
        ("${f}", json!(1.0)),
        ("${b}", json!(true)),
        ("${n}", json!(null)),
        ("${m}", json!({"a": 1, "b": ["x", null]})),
        ("${l}", json!([1, [2]])),
        ("${i}${s}", json!("1x")),
        ("<${b} ${n} ${f} ${big}>", json!("<True None 1.0 10000000000.0>")),
        ("<${m}>", json!("<{'a': 1, 'b': ['x', None]}>")),
        ("${l[1][0]}", json!(2)),
        ("${l.0}", json!(1)),
        ("${l[-1].0}", json!(2)),
        ("${m.b[0]}", json!("x")),
        ("${[m][a]}", json!(1)),
        (r"\${i}", json!("${i}")),
        (r"\\${i}", json!(r"\1")),
        ("$5 $${i}", json!("$5 $1")),
        ("${oc.select:m.a}", json!(1)),
        ("${oc.select:no.such}", json!(null)),
        ("${oc.select:no.such,7}", json!(7)),
        ("${oc.create:{a: [1, ${i}]}}", json!({"a": [1, 1]})),
        ("${oc.decode:'[1, 2]'}", json!([1, 2])),
        ("${oc.decode:${oc.env:NUMBER}}", json!("007")),
        ("${oc.decode:${oc.env:LIST}}", json!([1, "a"])),
        ("${oc.decode:null}", json!(null)),
        ("${oc.dict.keys:m}", json!(["a", "b"])),
        ("${oc.dict.values:${m}}", json!([1, ["x", null]])),
        ("${oc.env:USER}", json!("ada")),
        ("${env:USER}", json!("ada")),
        ("${oc.env:NUMBER}", json!("007")),
        ("${oc.env:NO,12}", json!("12")),
        ("${oc.env:NO,null}", json!(null)),
        ("${oc.env:NO,${s}}", json!("x")),
        ("${oc.env:USER,${oc.env:NO}}", json!("ada")),
        ("${env:NO,'a, b'}", json!("a, b")),
    ] {
        let text = format!("{base}v: {}\n", serde_json::to_string(value).expect("a string"));
        assert_eq!(parameters(&text)["v"], wanted, "{value}");
    }
}

#[test]
fn relative_nested_and_dotted_paths() {
    for (text, wanted) in [
        ("a: {b: 1, v: '${.b}'}", json!(1)),
        ("a: {b: {v: '${..c}'}, c: 2}", json!(2)),
        ("a: [3, '${.0}']\nv: '${a[1]}'", json!(3)),
        ("a: {x: 4}\nk: x\nv: '${a.${k}}'", json!(4)),
        ("a: {x: 4}\nk: x\nv: '${a[${k}]}'", json!(4)),
        ("a: {x: 4}\nk: a.x\nv: '${${k}}'", json!(4)),
        ("w: {k: .x, x: 5, v: '${${.k}}'}", json!(5)),
        ("embeddings.node: {batch_size: 6}\nv: '${embeddings.node.batch_size}'", json!(6)),
        ("a: {b.c: {d: 7}, b: {c: 8}}\nv: '${a.b.c.d}'", json!(7)),
        ("a.b: {x: 1}\na: {b: {y: 9}}\nv: '${a.b.y}'", json!(9)),
        ("1: one\nv: '${1}'", json!("one")),
        ("a: '${b}'\nb: '${c}'\nc: 10\nv: '${a}'", json!(10)),
        ("a: '${m}'\nm: {x: '${.y}', y: 11}\nv: '${a.x}'", json!(11)),
        ("a: {x: '${b.y}', y: 12}\nb: '${a}'\nv: '${b.x}'", json!(12)),
        ("_t: &t {base: x, v: '${.base}'}\nw: {<<: *t, base: 13}\nv: '${w.v}'", json!(13)),
        ("v: |\n  SELECT ${a}\n  FROM t\na: 1\n", json!("SELECT 1\nFROM t\n")),
    ] {
        let all = parameters(text);
        let found = ["a", "w"].iter().find_map(|k| all[k].get("v").or_else(|| all[k]["b"].get("v")));
        assert_eq!(all.get("v").or(found), Some(&wanted), "{text}: {all}");
    }
}

#[test]
fn other_files_are_reached_by_their_resolvers() {
    let files = Files {
        globals: "paths: {tmp: /tmp, list: [a]}\nnull_: null\nhome: '${paths.tmp}/${oc.env:USER}'\n",
        parameters: "embeddings.node: {batch_size: 500}\nn: 1\n",
        runtime: "n: 9\na: {b: x}\n",
        catalog: "a:\n  p: ${globals:paths.tmp}/feat\n  l: ${globals:paths.list.0}\n  d: ${globals:no,[1, 2]}\n  \
                  z: ${globals:null_,1}\n  h: ${globals:home}\n  b: ${params:embeddings.node.batch_size}\n  \
                  r: ${runtime_params:a.b}\n  s: ${runtime_params:no, ${.p}}\n  t: ${_template.x}\n  all: ${globals:paths}\n_template: {x: 1}\n",
        ..Files::default()
    };
    let (node, problems, sources) = resolve(files, TreeKind::Catalog);
    assert!(problems.is_empty(), "{}", render(&problems, &sources, false));
    assert_eq!(
        node.to_json()["a"],
        json!({"p": "/tmp/feat", "l": "a", "d": [1, 2], "z": null, "h": "/tmp/ada", "b": 500, "r": "x", "s": "/tmp/feat", "t": 1,
            "all": {"tmp": "/tmp", "list": ["a"]}})
    );
}

#[test]
fn what_cannot_be_resolved_says_where_and_why() {
    for (text, code, place, part) in [
        ("a: ${b}", "interpolation::missing-key", "1:4", "there is no `b` in the parameters"),
        ("paths: {temp: x}\na: x${paths.tmp}", "interpolation::missing-key", "2:5", "did you mean `temp`?"),
        ("a: ${globals:x.y}", "interpolation::missing-key", "1:4", "no `x.y` in the globals"),
        ("a: ${runtime_params:x}", "interpolation::missing-key", "1:4", "no `x` in `--params`"),
        ("a: ${globals:_x}", "interpolation::missing-key", "1:4", "private"),
        ("a: ${...b}", "interpolation::missing-key", "1:4", "too many dots"),
        ("a: ${oc.env:NO_SUCH}", "interpolation::missing-variable", "1:4", "`NO_SUCH` is not set"),
        ("a: ${a}", "interpolation::cycle", "1:4", "`params:a` → `params:a`"),
        (
            "a: ${b}\nb: ${c.d}\nc: {d: '${a}'}",
            "interpolation::cycle",
            "1:4",
            "`params:a` → `params:b` → `params:c.d` → `params:a`",
        ),
        ("a: ${b.x}\nb: ${a}", "interpolation::cycle", "1:4", "`params:a` → `params:b` → `params:a`"),
        ("a: ${b.x}\nb: ${c}\nc: ${b}", "interpolation::cycle", "1:4", "`params:b` → `params:c` → `params:b`"),
        ("a: ???\nb: ${a}", "interpolation::missing-value", "2:4", "`params:a` is `???`"),
        ("a: ${no.such.resolver:x}", "interpolation::unknown-resolver", "1:4", "`no.such.resolver`"),
        ("a: ${globls:x}", "interpolation::unknown-resolver", "1:4", "did you mean `globals`?"),
        ("a: ${oc.env}", "interpolation::missing-key", "1:4", "`oc.env`"),
        ("a: ${oc.env:}", "interpolation::arguments", "1:4", "a name and at most a default, but 0"),
        ("a: ${oc.dict.keys:b}\nb: 1", "interpolation::arguments", "1:4", "takes a mapping, not an integer"),
        ("a: ${oc.decode:[1]}", "interpolation::arguments", "1:4", "takes a string, not a list"),
        ("a: \"${oc.decode:'[1'}\"", "interpolation::syntax", "1:5", "cannot be parsed"),
        ("a: ${b", "interpolation::syntax", "1:4", "no closing `}`"),
        ("a: ${b #}", "interpolation::syntax", "1:4", "begins a comment"),
        ("a: \"é\\n${f:é}\"", "interpolation::syntax", "1:12", "needs quotes here"),
        ("a: 'it''s ${b}'", "interpolation::missing-key", "1:11", "`b`"),
        ("a: |\n  x ${c}\n  y ${b}\nc: 1", "interpolation::missing-key", "3:5", "`b`"),
        ("a: >\n  x\n  y ${b}\n", "interpolation::missing-key", "3:5", "`b`"),
    ] {
        let (_, problems, sources) = resolve(Files { parameters: text, ..Files::default() }, TreeKind::Parameters);
        let rendered = render(&problems, &sources, false);
        let first = problems.first().expect(text);
        assert_eq!(first.code, code, "{rendered}");
        assert_eq!(sources.location(first.labels[0].span), format!("parameters.yml:{place}"), "{rendered}");
        assert!(rendered.contains(part), "{rendered}");
    }
}

#[test]
fn all_problems_come_at_once_and_each_once() {
    let text = "a: ${x}\nb: {c: '${y}', d: '${a}'}\ne: '${x}'\n";
    let (node, problems, _) = resolve(Files { parameters: text, ..Files::default() }, TreeKind::Parameters);
    assert_eq!(problems.len(), 3, "{problems:?}");
    let unresolved = |path: &str| node.at_path(path).is_none();
    assert!(["a", "b.c", "b.d", "e"].into_iter().all(unresolved), "{node:?}");
    assert!(node.at_path("b").is_some(), "what is beside it stays");
}

#[test]
fn secrets_stay_secret_wherever_they_go() {
    let files = Files {
        parameters: "api_key: hunter2\nheader: Bearer ${.api_key}\nurl: https://u:${globals:db.password}@h\n\
                     copy: {inner: '${api_key}'}\nauth: ['${oc.env:OPENAI_API_KEY}']\ntext: '${copy}'\n\
                     made: '${oc.create:{a: ${api_key}}}'\ncut: '${oc.decode:${api_key}}'\nmax_tokens: 5\ntoken: {a: b, c: 7}\n",
        globals: "db: {password: hunter3}\n",
        ..Files::default()
    };
    let (node, problems, sources) = resolve(files, TreeKind::Parameters);
    assert!(problems.is_empty(), "{}", render(&problems, &sources, false));
    let shown = format!("{node:?} {}", node.to_json());
    for secret in ["hunter2", "hunter3", "sk-live", "\"b\""] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    let exposed = |path: &str| match &node.at_path(path).expect(path).value {
        Value::Secret(secret) => secret.expose().to_owned(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(exposed("header"), "Bearer hunter2");
    assert_eq!(exposed("url"), "https://u:hunter3@h");
    assert_eq!(exposed("copy.inner"), "hunter2");
    assert_eq!(exposed("made.a"), "hunter2");
    assert_eq!(exposed("cut"), "hunter2");
    assert_eq!(exposed("token.c"), "7");
    assert_eq!(node.to_json()["auth"], json!(["***"]));
    assert_eq!(node.to_json()["max_tokens"], json!(5));
}

#[test]
fn every_header_is_a_secret_and_what_is_only_called_so_is_none() {
    let files = Files {
        parameters: "api: {headers: {X-Corp: hunter2, X-Number: 7, X-Unset: '${oc.env:NO_SUCH}', X-User: 'I am ${oc.env:USER}'}}\n\
                     copy: '${api.headers}'\nreferred: {headers: '${globals:corp}'}\nflag: {headers: true, header: true}\n\
                     text: {headers: '${oc.env:USER}'}\ncolumns: {headers: {path: $.h}}\n",
        globals: "corp: {X-Corp: hunter3}\n",
        catalog: "headers: {type: csv, path: h.csv}\ncredentials: {type: csv, path: c.csv}\n",
        ..Files::default()
    };
    let (node, problems, sources) = resolve(files, TreeKind::Parameters);
    assert!(problems.is_empty(), "{}", render(&problems, &sources, false));
    // A parameter of a user's function may have the name, too: its numbers stay numbers.
    let hidden = json!({"X-Corp": "***", "X-Number": 7, "X-Unset": "***", "X-User": "***"});
    let shown = json!({
        "api": {"headers": hidden},
        "copy": hidden,
        "referred": {"headers": {"X-Corp": "***"}},
        "flag": {"headers": true, "header": true},
        "text": {"headers": "ada"},
        "columns": {"headers": {"path": "$.h"}},
    });
    assert_eq!(node.to_json(), shown);
    let unset = node.at_path("api.headers.X-Unset").map(|node| &node.value);
    assert_eq!(unset, Some(&Value::MissingSecret { variable: "NO_SUCH".into() }));
    let (node, problems, _) = resolve(files, TreeKind::Catalog);
    assert!(problems.is_empty(), "{problems:?}");
    let datasets =
        json!({"headers": {"type": "csv", "path": "h.csv"}, "credentials": {"type": "csv", "path": "c.csv"}});
    assert_eq!(node.to_json(), datasets, "datasets may have these names");
}

#[test]
fn a_missing_secret_is_no_error_and_names_its_variable() {
    let files = Files {
        parameters: "openai_api_key: ${oc.env:NO_SUCH}\nheader: Bearer ${.openai_api_key}\nother: ${oc.env:NO_TOKEN}\n",
        credentials: "db: {user: '${oc.env:NO_USER}', port: 5432, ssl: true, none: null}\n",
        ..Files::default()
    };
    let (node, problems, _) = resolve(files, TreeKind::Parameters);
    assert!(problems.is_empty(), "{problems:?}");
    let missing = |node: &Node, path: &str| match &node.at_path(path).expect(path).value {
        Value::MissingSecret { variable } => variable.clone(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(missing(&node, "openai_api_key"), "NO_SUCH");
    assert_eq!(missing(&node, "header"), "NO_SUCH");
    assert_eq!(missing(&node, "other"), "NO_TOKEN");
    let (credentials, problems, _) = resolve(files, TreeKind::Credentials);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(missing(&credentials, "db.user"), "NO_USER");
    assert_eq!(credentials.to_json(), json!({"db": {"user": "***", "port": "***", "ssl": "***", "none": null}}));
}

#[test]
fn hostile_references_end_in_an_error() {
    let chain: String = (0..10_000).map(|i| format!("a{i}: ${{a{}}}\n", i + 1)).chain(["a10000: 1\n".into()]).collect();
    let doubling: String = std::iter::once("a0: [x, x]\n".to_owned())
        .chain((1..60).map(|i| format!("a{i}: ['${{a{}}}', '${{a{}}}']\n", i - 1, i - 1)))
        .collect();
    let growing: String = std::iter::once("a0: xxxxxxxxxxxxxxxx\n".to_owned())
        .chain((1..60).map(|i| format!("a{i}: ${{a{}}}${{a{}}}\n", i - 1, i - 1)))
        .collect();
    let long_path = format!("a: ${{{}}}\n", vec!["b"; 50_000].join("."));
    let soup = format!("a: \"{}\"\n", "${".repeat(50_000));
    for (text, codes) in [
        (chain, &["interpolation::too-deep"][..]),
        (doubling, &["interpolation::too-large"]),
        (growing, &["interpolation::too-large"]),
        (long_path, &["interpolation::syntax"]),
        (soup, &["interpolation::syntax"]),
    ] {
        let (_, problems, _) = resolve(Files { parameters: &text, ..Files::default() }, TreeKind::Parameters);
        let found: BTreeSet<_> = problems.iter().map(|p| p.code).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), codes);
    }
}

#[test]
fn a_reference_on_two_branches_of_a_path_is_not_a_cycle() {
    let text = "a: {b: '${t}'}\n'a.b': '${t}'\nt: '${u}'\nu: {x: 1}\nv: '${a.b.c}'\n";
    let (_, problems, _) = resolve(Files { parameters: text, ..Files::default() }, TreeKind::Parameters);
    let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.message.as_str())).collect();
    assert_eq!(found, [("interpolation::missing-key", "there is no `a.b.c` in the parameters")]);
}

#[test]
fn a_long_chain_of_references_on_a_path_is_not_a_cycle() {
    let chain = |length: usize| {
        let links = (1..length).map(|i| format!("a{i}: '${{a{}}}'\n", i - 1));
        let path = format!("v: '${{a{}.x}}'\n", length - 1);
        std::iter::once("a0: {x: 1}\n".to_owned()).chain(links).chain([path]).collect::<String>()
    };
    assert_eq!(parameters(&chain(200))["v"], json!(1));
    let text = chain(1000);
    let (_, problems, _) = resolve(Files { parameters: &text, ..Files::default() }, TreeKind::Parameters);
    assert!(!problems.is_empty() && problems.iter().all(|p| p.code == "interpolation::too-deep"), "{problems:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_interpolation_panic(value in "[ab.${}\\[\\]:,'\\\\ 01\u{e9}]{0,24}", other in "[ab.${}\\[\\]:01]{0,12}") {
        let quoted = |text: &str| serde_json::to_string(text).expect("a string");
        let text = format!("a: {}\nb: {{a: {}, b: [1, {}]}}\n", quoted(&value), quoted(&other), quoted(&other));
        let (_, problems, sources) = resolve(Files { parameters: &text, ..Files::default() }, TreeKind::Parameters);
        render(&problems, &sources, false);
    }
}
