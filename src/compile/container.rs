//! What a task looks like as a container: image, arguments, environment, volumes and resources.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::settings::{Settings, WORKDIR, Word};
use crate::config::Resources;

/// The folder for temporary files in a container.
const SCRATCH: &str = "/scratch";
/// Variables that object stores read besides those that the project names.
const OPTIONAL: &str = "flow-secrets";

/// The name of the Secret.
pub(super) fn secret(settings: &Settings) -> &str {
    settings.secret.as_deref().unwrap_or(OPTIONAL)
}

/// True for a location that every container reaches: on an object store, or in a volume.
pub(super) fn is_shared(location: &str, settings: &Settings) -> bool {
    if location.contains("://") {
        return !location.starts_with("memory:") && !location.starts_with("file:");
    }
    let path = Path::new(WORKDIR).join(location);
    // `..` would leave the folder that the path begins with.
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    plain && settings.volumes.iter().any(|volume| path.starts_with(&volume.path))
}

/// How a folder outlives a container.
pub(super) fn keep_folder(folder: &str) -> String {
    format!("mount a volume that holds the folder: `--volume CLAIM:{}`", Path::new(WORKDIR).join(folder).display())
}

/// The container of a task. `image` and `words` may hold what the engine fills in.
pub(super) fn container(image: &str, words: Vec<String>, resources: Resources, settings: &Settings) -> Json {
    let mut mounts = vec![json!({"name": "scratch", "mountPath": SCRATCH})];
    mounts.extend(settings.volumes.iter().map(|volume| json!({"name": volume.claim, "mountPath": volume.path})));
    let mut container = Map::new();
    let mut set = |key: &str, value: Json| drop(container.insert(key.to_owned(), value));
    set("name", json!("main"));
    set("image", json!(image));
    set("command", json!(["flow"]));
    set("args", json!(words));
    set("workingDir", json!(WORKDIR));
    set("env", Json::Array(variables(settings)));
    set("envFrom", json!([{"secretRef": {"name": secret(settings), "optional": true}}]));
    set("volumeMounts", Json::Array(mounts));
    let quantities = quantities(resources);
    if !quantities.is_empty() {
        // A limit on cores would only throttle.
        let limited = |key: &str| key != "cpu";
        let limits: Map<String, Json> = quantities.clone().into_iter().filter(|(key, _)| limited(key)).collect();
        let mut both = Map::from_iter([("requests".to_owned(), Json::Object(quantities))]);
        if !limits.is_empty() {
            both.insert("limits".to_owned(), Json::Object(limits));
        }
        set("resources", Json::Object(both));
    }
    Json::Object(container)
}

/// The volumes of a pod.
pub(super) fn volumes(settings: &Settings) -> Json {
    let claims = settings
        .volumes
        .iter()
        .map(|volume| json!({"name": volume.claim, "persistentVolumeClaim": {"claimName": volume.claim}}));
    [json!({"name": "scratch", "emptyDir": {}})].into_iter().chain(claims).collect()
}

/// The arguments of `flow`, where `fill` says what the engine puts into the blanks.
pub(super) fn arguments(words: Vec<Word>, fill: impl Fn(super::settings::Blank) -> String) -> Vec<String> {
    words
        .into_iter()
        .map(|word| match word {
            Word::Text(text) => literal(&text),
            Word::Engine(blank) => fill(blank),
        })
        .collect()
}

/// Kubernetes replaces `$(NAME)` in arguments and variables.
fn literal(text: &str) -> String {
    text.replace("$(", "$$(")
}

/// Secrets by reference; of the others, their values.
fn variables(settings: &Settings) -> Vec<Json> {
    let mut all = vec![json!({"name": "FLOW_TEMP_DIR", "value": SCRATCH})];
    all.extend(settings.variables.iter().map(|variable| match &variable.value {
        Some(value) => json!({"name": variable.name, "value": literal(value)}),
        // Only nodes that read it need it, and they say so when it is missing.
        None => json!({
            "name": variable.name,
            "valueFrom": {"secretKeyRef": {"name": secret(settings), "key": variable.name, "optional": true}},
        }),
    }));
    all
}

fn quantities(resources: Resources) -> Map<String, Json> {
    let mut all = Map::new();
    if let Some(milli) = resources.cpu_milli {
        let cpu = if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") };
        all.insert("cpu".to_owned(), json!(cpu));
    }
    if let Some(bytes) = resources.memory {
        all.insert("memory".to_owned(), json!(memory(bytes)));
    }
    if let Some(gpu) = resources.gpu {
        all.insert("nvidia.com/gpu".to_owned(), json!(gpu.to_string()));
    }
    all
}

/// Bytes as a quantity of Kubernetes: `16Gi`.
pub(super) fn memory(bytes: u64) -> String {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    match units.into_iter().find(|(_, power)| bytes > 0 && bytes.is_multiple_of(1 << power)) {
        Some((unit, power)) => format!("{}{unit}", bytes >> power),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::settings::Volume, *};

    #[test]
    fn locations_are_shared_on_stores_and_in_volumes() {
        let settings = Settings {
            volumes: vec![Volume { claim: "data".to_owned(), path: "/project/data/work".to_owned() }],
            ..Settings::default()
        };
        for (location, shared) in [
            ("s3://bucket/x", true),
            ("memory://x", false),
            ("file:///project/data/work/x", false),
            ("data/work", true),
            ("data/work/feat/x.parquet", true),
            ("data/workers", false),
            ("data/work/../x", false),
            ("/project/data/work/x", true),
            ("/tmp/x", false),
        ] {
            assert_eq!(is_shared(location, &settings), shared, "{location}");
        }
    }

    #[test]
    fn a_folder_is_kept_by_a_volume_at_its_place_in_the_container() {
        assert!(keep_folder(".flow/cache").ends_with("`--volume CLAIM:/project/.flow/cache`"));
        assert!(keep_folder("/cache").ends_with("`--volume CLAIM:/cache`"));
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (bytes, text) in [(16 << 30, "16Gi"), (1536 << 20, "1536Mi"), (2_000_000_000, "1953125Ki"), (1001, "1001")]
        {
            assert_eq!(memory(bytes), text);
        }
    }

    #[test]
    fn what_kubernetes_would_replace_stays_as_it_is() {
        assert_eq!(arguments(vec![Word::Text("a$(B)".to_owned())], |_| String::new()), ["a$$(B)"]);
    }
}
