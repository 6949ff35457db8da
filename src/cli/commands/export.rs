//! `flow export`: the project in the form that other programs read.

use std::path::Path;

use serde_json::Value as Json;

use crate::{
    cli::{
        Exit,
        app::{App, Outcome},
        commands::{config::masked, run::shell_word},
        new_folder,
    },
    export::{GraphView, kedro_viz},
    model::visible_json,
};

/// Writes what `kedro viz run --load-file` reads.
pub(in crate::cli) fn export_kedro_viz(app: &App, dir: &Path) -> Outcome {
    let workspace = app.workspace()?;
    let all = GraphView::new(&workspace.graph, workspace.graph.nodes().iter().map(|node| node.id));
    let of = |name: &String| (name.clone(), GraphView::of_pipelines(&workspace.graph, name));
    let pipelines: Vec<_> = all.pipelines.iter().map(of).collect();
    let parameters = masked(workspace.project.parameters.to_json(), &app.secrets);
    let files = kedro_viz(&all, &pipelines, &|name| parameter(&parameters, name));
    new_folder::write(app, dir, files.into_iter().map(|(name, content)| (name, visible_json(content).to_string())))?;
    if app.json() {
        return Ok(app.document(&serde_json::json!({"folder": dir.display().to_string()})));
    }
    if !app.global.quiet {
        let (dir, word) = (dir.display(), shell_word(&dir.display().to_string()));
        app.say(&format!("wrote {dir}; next: kedro viz run --load-file {word}"));
    }
    Ok(Exit::Done)
}

/// The value of `params:a.b` or `parameters`; keys may have dots.
fn parameter(all: &Json, name: &str) -> Json {
    fn find(value: &Json, path: &str) -> Option<Json> {
        let map = value.as_object()?;
        if let Some(found) = map.get(path) {
            return Some(found.clone());
        }
        let heads = path.match_indices('.').map(|(dot, _)| (&path[..dot], &path[dot + 1..]));
        heads.into_iter().find_map(|(head, rest)| find(map.get(head)?, rest))
    }
    match name.strip_prefix("params:") {
        Some(path) => find(all, path).unwrap_or(Json::Null),
        None => all.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parameter;

    #[test]
    fn parameters_are_found_under_keys_with_dots() {
        let all = json!({"a": {"b": 1}, "e.n": {"model": {"x": 2}}});
        assert_eq!(parameter(&all, "params:a.b"), json!(1));
        assert_eq!(parameter(&all, "params:e.n.model"), json!({"x": 2}));
        assert_eq!(parameter(&all, "params:none"), json!(null));
        assert_eq!(parameter(&all, "parameters"), all);
    }
}
