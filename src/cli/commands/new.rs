//! `flow new`: a starter project that runs offline: the shipped one, with a small table.

use std::path::Path;

use serde_json::json;

use crate::cli::{
    Exit,
    app::{App, Outcome},
    commands::run::shell_word,
    new_folder,
};

/// The files of a new project. The catalog, the parameters and the pipeline are the shipped ones.
const FILES: &[(&str, &str)] = &[
    ("catalog.yml", include_str!("../../../catalog.yml")),
    ("parameters.yml", include_str!("../../../parameters.yml")),
    ("globals.yml", include_str!("../../../globals.yml")),
    ("pipelines/embeddings.yml", include_str!("../../../pipelines/embeddings.yml")),
    ("conf/openai/parameters.yml", include_str!("../../../conf/openai/parameters.yml")),
    ("data/nodes.csv", include_str!("../../../data/nodes.csv")),
    ("data/README.md", include_str!("../../../data/README.md")),
    ("schemas/catalog.schema.json", include_str!("../../../schemas/catalog.schema.json")),
    ("schemas/parameters.schema.json", include_str!("../../../schemas/parameters.schema.json")),
    ("schemas/pipeline.schema.json", include_str!("../../../schemas/pipeline.schema.json")),
    (".gitignore", "/.flow/\n/data/work/\n/credentials.yml\n/conf/local/\n"),
];

pub(in crate::cli) fn new(app: &App, dir: &Path) -> Outcome {
    new_folder::write(app, dir, FILES.iter().copied())?;
    if app.json() {
        return Ok(app.document(&json!({"folder": dir.display().to_string()})));
    }
    if !app.global.quiet {
        let (dir, word) = (dir.display(), shell_word(&dir.display().to_string()));
        app.say(&format!("created a project in `{dir}`; next: cd {word} && flow run --pipeline embeddings"));
    }
    Ok(Exit::Done)
}
