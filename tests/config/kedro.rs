//! Kedro's own projects resolve as in Kedro, except for the differences that docs/kedro.md lists.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value as Json, json};

use crate::support::{Project, root};

/// An intended difference: project, environment, and the heading of docs/kedro.md that says why.
struct Difference {
    project: &'static str,
    env: &'static str,
    what: What,
    heading: &'static str,
}

enum What {
    /// Strings with one prefix have another one here.
    Prefix(&'static str, &'static str),
    /// At a pointer into the parameters there are further keys, as JSON.
    More(&'static str, &'static str),
}

const DIFFERENCES: &[Difference] = &[
    // An environment's `_base_location` reaches the base's entries too: their paths begin with it.
    Difference {
        project: "viz-demo-project",
        env: "prod",
        what: What::Prefix("data/", "s3://my_bucket/production/"),
        heading: "### Layers are merged before interpolation",
    },
    Difference {
        project: "viz-demo-project",
        env: "prod",
        what: What::More("/split_options", r#"{"random_state": 3, "target": "price"}"#),
        heading: "### Parameters and globals are merged deeply",
    },
    Difference {
        project: "layers",
        env: "prod",
        what: What::Prefix("/base/", "/prod/"),
        heading: "### Layers are merged before interpolation",
    },
];

fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("expected").is_dir())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no projects in {}", folder.display());
    cases
}

/// Applies the differences to what Kedro gives.
fn expected(project: &str, env: &str, mut value: Json) -> Json {
    for difference in DIFFERENCES.iter().filter(|d| (d.project, d.env) == (project, env)) {
        match difference.what {
            What::Prefix(from, to) => replace(&mut value, from, to),
            What::More(pointer, keys) => {
                let keys: serde_json::Map<String, Json> = serde_json::from_str(keys).expect("JSON");
                if let Some(Json::Object(map)) = value.pointer_mut(pointer) {
                    map.extend(keys);
                }
            }
        }
    }
    value
}

fn replace(value: &mut Json, from: &str, to: &str) {
    match value {
        Json::String(text) if text.starts_with(from) => *text = format!("{to}{}", &text[from.len()..]),
        Json::Array(list) => list.iter_mut().for_each(|item| replace(item, from, to)),
        Json::Object(map) => map.values_mut().for_each(|item| replace(item, from, to)),
        _ => {}
    }
}

fn hold_against_kedro(folder: &Path) {
    let runner = Project::empty();
    for case in cases(folder) {
        let name = case.file_name().expect("a name").to_string_lossy().into_owned();
        for file in fs::read_dir(case.join("expected")).expect("expectations") {
            let file = file.expect("an entry").path();
            let env = file.file_stem().expect("a name").to_string_lossy().into_owned();
            let kedro: Json = serde_json::from_str(&fs::read_to_string(&file).expect("UTF-8")).expect("JSON");
            for part in ["globals", "parameters", "catalog", "credentials"] {
                let mut arguments =
                    vec!["-C", case.to_str().expect("UTF-8"), "config", "show", part, "--output", "json"];
                // Kedro's default environment may have no folder, which is not an error there.
                if case.join("conf").join(&env).is_dir() {
                    arguments.extend(["--env", &env]);
                }
                let output = runner.run(arguments);
                if let Some(value) = kedro[part].get("value") {
                    let found = output.exits(0).json();
                    let wanted = expected(&name, &env, value.clone());
                    assert_eq!(canonical(&found), canonical(&wanted), "{part} of {name}, {env}");
                } else if kedro[part]["error"] == "MissingConfigException" && part == "credentials" {
                    assert_eq!(output.exits(0).json(), json!({}), "no credentials file is no error: {name}");
                } else {
                    output.exits(2);
                }
            }
        }
    }
}

/// Keys in one order; floats and integers are distinct, as in Kedro.
fn canonical(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let mut entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", canonical(value))).collect();
            entries.sort();
            format!("{{{}}}", entries.join(",\n"))
        }
        Json::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[test]
fn shapes_of_kedro_projects_give_kedros_values() {
    hold_against_kedro(&root().join("tests/config/kedro"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
fn public_projects_give_kedros_values_where_they_are_available() {
    // The projects belong to others and are not part of this repository.
    if let Some(folder) = std::env::var_os("FLOW_COMPAT_DIR") {
        hold_against_kedro(Path::new(&folder));
    }
}

#[test]
fn every_difference_is_explained() {
    let page = fs::read_to_string(root().join("docs/kedro.md")).expect("docs/kedro.md");
    for Difference { project, heading, .. } in DIFFERENCES {
        assert!(page.contains(heading), "{project}: no `{heading}` in docs/kedro.md");
    }
}
