//! Documents and schemas are those that the tables of the program generate.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use flow::diagnostic::CODES;

use super::holds;
use crate::support::{Project, root};

#[test]
fn the_page_of_diagnostics_lists_every_code() {
    let mut page = "# Diagnostics\n\n\
        Every problem has a code. `flow check` reports all problems at once; with `--output json` each is an object with `code`,\n\
        `severity`, `message`, `labels` and `help`. This page is generated from the list in the program.\n"
        .to_owned();
    let mut area = "";
    for code in CODES {
        let (of, _) = code.code.split_once("::").expect("an area");
        if of != area {
            area = of;
            write!(page, "\n## {area}\n").expect("UTF-8");
        }
        write!(page, "\n**`{}`** — {}\n", code.code, code.explain).expect("UTF-8");
    }
    holds(&root().join("docs/diagnostics.md"), &page);
}

#[test]
fn every_code_that_is_raised_is_explained() {
    let listed: BTreeSet<&str> = CODES.iter().map(|code| code.code).collect();
    let mut raised = BTreeSet::new();
    walk(&root().join("src"), &mut |text| {
        for (at, _) in text.match_indices("Diagnostic::error(").chain(text.match_indices("Diagnostic::warning(")) {
            let rest = text[at..].split_once('(').map_or("", |(_, rest)| rest).trim_start();
            let Some(code) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
            raised.insert(code.to_owned());
        }
    });
    assert!(raised.len() > 40, "found only {raised:?}");
    let unexplained: Vec<_> = raised.iter().filter(|code| !listed.contains(code.as_str())).collect();
    assert!(unexplained.is_empty(), "no explanation of {unexplained:?}");
}

fn walk(folder: &Path, visit: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

#[test]
fn the_shipped_schemas_are_those_of_the_binary() {
    let project = Project::empty();
    for kind in ["catalog", "parameters", "pipeline", "event"] {
        let schema = project.run(["schema", kind]).exits(0).stdout;
        holds(&root().join(format!("schemas/{kind}.schema.json")), &schema);
    }
}

#[test]
fn the_schema_of_parameters_knows_the_keys_that_functions_read() {
    let schema = Project::empty().run(["schema", "parameters"]).exits(0).json();
    let rules = schema["$defs"]["value"]["allOf"].as_array().expect("rules");
    for (function, key, needed) in [("call_api", "paginator", "response"), ("generate", "response_format", "prompt")] {
        let definition = &schema["$defs"][function];
        assert!(definition["properties"][key]["description"].is_string(), "{function}");
        assert_eq!(definition["additionalProperties"], false, "{function}");
        let target = format!("#/$defs/{function}");
        let rule = rules.iter().find(|rule| rule["then"]["$ref"] == target.as_str()).expect(function);
        assert!(rule["if"]["required"].as_array().is_some_and(|all| all.iter().any(|one| one == needed)), "{rule}");
    }
}
