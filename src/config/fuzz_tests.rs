//! YAML, interpolation and `--params`, for texts that nobody expects: a value or problems with their places, in bounded time.

use crate::{
    config::{load::tests::Folder, parse_yaml, tree::Value},
    diagnostic::{Diagnostics, Sources, render},
    model::fuzz::{Random, fuzz},
};

const CORPUS: &[&str] = &[
    include_str!("../../catalog.yml"),
    include_str!("../../parameters.yml"),
    include_str!("../../pipelines/embeddings.yml"),
    include_str!("../../conf/openai/parameters.yml"),
    include_str!("../../tests/fuzz/odd.yml"),
];

const WORDS: &[&str] = &[
    "${",
    "}",
    "${globals:",
    "${oc.env:USER}",
    "${runtime_params:a,1}",
    "${a}",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    "? ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "!!str ",
    "!x ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\t",
    "# ",
    "\u{feff}",
    "\r",
    "0x1F",
    ".inf",
    "~",
    "1_000",
    "1e3",
    "2001-12-14",
    "\u{85}",
    "\\",
    "\0",
    "{x}",
    "@table",
    "params:",
];

fn has_only_json(value: &Value) -> bool {
    match value {
        Value::Float(number) => number.is_finite(),
        Value::List(list) => list.iter().all(|node| has_only_json(&node.value)),
        Value::Map(map) => map.entries.values().all(|entry| has_only_json(&entry.node.value)),
        _ => true,
    }
}

#[test]
fn yaml_is_a_value_or_a_problem_with_its_place() {
    fuzz("yaml", 9000, |random| {
        let text = random.mutated_text(CORPUS, WORDS);
        let (mut sources, mut problems) = (Sources::default(), Diagnostics::default());
        let source = sources.add("fuzzed.yml", text.as_str());
        let node = parse_yaml(source, &text, &mut problems);
        assert!(node.is_some() || problems.has_errors(), "refused without a word: {text:?}");
        for problem in problems.as_slice() {
            assert!(!problem.labels.is_empty(), "a problem without a place: {problem:?}");
        }
        let shown = render(problems.as_slice(), &sources, false);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
        let Some(node) = node.filter(|_| !problems.has_errors()) else { return };
        if has_only_json(&node.value) {
            // JSON is YAML: written as such, it reads as the same value.
            let json = node.to_json().to_string();
            let source = sources.add("again.yml", json.as_str());
            let mut problems = Diagnostics::default();
            let again = parse_yaml(source, &json, &mut problems);
            if !problems.has_errors() {
                assert_eq!(again.expect("a value").to_json().to_string(), json, "{text:?}");
            }
        }
    });
}

const PARAMS: &[&str] = &[
    "embeddings.node.batch_size=100",
    "a.b=1,+c=[1, 2],++d={x: y}",
    "nearest.query='SELECT 1',a=${globals:paths.raw}",
    "api_key=sk-canary-0123456789abcdefghij,x=\"q,=\"",
    "a.0.b=~,a[1]=2,embeddings={}",
];

fn project(random: &mut Random) -> Folder {
    let mut files: Vec<(&str, String)> = vec![
        ("catalog.yml", CORPUS[0].to_owned()),
        ("parameters.yml", CORPUS[1].to_owned()),
        ("globals.yml", "paths:\n  raw: data\n  work: data/work\n".to_owned()),
        ("pipelines/main.yml", CORPUS[2].to_owned()),
    ];
    let which = random.below(files.len());
    files[which].1 = random.mutated_text(&[&files[which].1, CORPUS[4]], WORDS);
    let borrowed: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    Folder::of(&borrowed)
}

#[test]
fn a_project_is_loaded_or_refused_with_places() {
    fuzz("interpolation", 900, |random| {
        let folder = project(random);
        let (project, problems, sources) = folder.load(None, &[]);
        assert!(project.is_some() || !problems.is_empty(), "refused without a word");
        let shown = render(&problems, &sources, false);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
        assert!(shown.len() < 4 << 20, "{} bytes of problems", shown.len());
    });
}

#[test]
fn params_are_obeyed_or_refused_and_no_key_in_them_is_shown() {
    let words = [WORDS, &["=", ",", "+", "++", ".", "[0]", "sk-canary-0123456789abcdefghij"]].concat();
    let folder = Folder::of(&[
        ("parameters.yml", CORPUS[1]),
        ("catalog.yml", CORPUS[0]),
        ("globals.yml", "paths: {raw: a, work: b}"),
    ]);
    fuzz("params", 1500, |random| {
        let text = random.mutated_text(PARAMS, &words);
        let (project, problems, sources) = folder.load(None, &[&text]);
        assert!(project.is_some() || !problems.is_empty(), "refused without a word: {text:?}");
        let shown = render(&problems, &sources, false);
        assert!(!shown.contains("sk-canary-0123456789abcdefghij"), "{shown}");
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
    });
}
