//! Whole projects in folders of their own.

use std::fs;

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    config::PipelineSpec,
    diagnostic::{Diagnostic, render},
};

/// A project in a folder that is gone afterwards.
pub(in crate::config) struct Folder(tempfile::TempDir);

impl Folder {
    pub(in crate::config) fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            folder.write(name, text.as_bytes());
        }
        folder
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    pub(in crate::config) fn load(
        &self,
        env: Option<&str>,
        params: &[&str],
    ) -> (Option<Project>, Vec<Diagnostic>, Arc<Sources>) {
        self.load_at("", env, params)
    }

    fn load_at(
        &self,
        below: &str,
        env: Option<&str>,
        params: &[&str],
    ) -> (Option<Project>, Vec<Diagnostic>, Arc<Sources>) {
        let params: Vec<String> = params.iter().map(|text| (*text).to_owned()).collect();
        let environment = |name: &str| (name == "USER").then(|| "ada".to_owned());
        let start = self.0.path().join(below);
        let options = LoadOptions {
            project: Some(&start),
            env,
            params: &params,
            environment: &environment,
            ask: None,
            pipelines: &[],
        };
        let mut problems = Diagnostics::default();
        let (sources, project) = load(&options, &mut problems);
        (project, problems.into_sorted(), sources)
    }

    /// The project, when nothing at all is wrong with it.
    pub(super) fn sound(&self, env: Option<&str>, params: &[&str]) -> Project {
        let (project, problems, sources) = self.load(env, params);
        assert!(problems.is_empty(), "{}", render(&problems, &sources, false));
        project.expect("no problems")
    }

    /// The codes of the problems, sorted by location.
    fn codes(&self) -> Vec<&'static str> {
        let (_, problems, _) = self.load(None, &[]);
        problems.iter().map(|problem| problem.code).collect()
    }
}

fn catalog(project: &Project) -> Json {
    let entries = project.catalog.entries.values().chain(&project.catalog.patterns);
    Json::Object(entries.map(|spec| (spec.name.clone(), spec.options.to_json())).collect())
}

#[test]
fn the_nearest_folder_upward_is_the_project() {
    let flat = Folder::of(&[("catalog.yml", ""), ("a/b/c.txt", "")]);
    let kedro = Folder::of(&[("conf/base/catalog.yml", ""), ("src/x.txt", "")]);
    let root = |folder: &Folder, below: &str| folder.load_at(below, None, &[]).0.map(|project| project.root);
    assert_eq!(root(&flat, "a/b").as_deref(), Some(flat.0.path()));
    assert_eq!(root(&kedro, "src").as_deref(), Some(kedro.0.path()));
    assert_eq!(root(&kedro, "conf/base").as_deref(), Some(kedro.0.path()), "`conf/base` is no project of its own");
    assert_eq!(Folder::of(&[]).codes(), ["config::no-project"]);
}

#[test]
fn the_environment_local_needs_no_folder() {
    let folder = Folder::of(&[("catalog.yml", "a: {type: csv, path: a.csv}\n")]);
    assert_eq!(folder.sound(Some("local"), &[]).env.as_deref(), Some("local"));
}

#[test]
fn environments_lie_over_the_base_before_anything_is_resolved() {
    let folder = Folder::of(&[
        (
            "catalog.yml",
            "a: {type: csv, path: '${globals:root}/a', load_args: {x: 1}}\nb: {type: csv, path: '${_t.p}'}\n_t: {p: base}\n",
        ),
        ("parameters.yml", "m: {x: 1, y: '${.x}', z: '${oc.env:USER}'}\n"),
        ("globals.yml", "root: /base\n_hidden: 1\n"),
        ("conf/local/parameters.yml", "m: {x: 2}\n"),
        ("conf/prod/catalog.yml", "a: {type: parquet, path: '${globals:root}/p'}\n_t: {p: prod}\n"),
        ("conf/prod/globals.yml", "root: /prod\n"),
    ]);
    let local = folder.sound(None, &[]);
    assert_eq!(local.env.as_deref(), Some("local"));
    assert_eq!(local.parameters.to_json(), json!({"m": {"x": 2, "y": 2, "z": "ada"}}));
    assert_eq!(local.globals.to_json(), json!({"root": "/base"}));
    assert_eq!(catalog(&local)["b"]["path"], "base");
    let prod = folder.sound(Some("prod"), &["m.x=3"]);
    assert_eq!(prod.parameters.to_json(), json!({"m": {"x": 3, "y": 3, "z": "ada"}}));
    assert_eq!(
        catalog(&prod),
        json!({"a": {"type": "parquet", "path": "/prod/p"}, "b": {"type": "csv", "path": "prod"}})
    );
    assert_eq!(folder.sound(Some("base"), &[]).parameters.to_json()["m"]["x"], 1);
    let (_, problems, _) = folder.load(Some("prdo"), &[]);
    assert_eq!(problems[0].code, "config::unknown-environment");
    assert_eq!(problems[0].help[0], "did you mean `prod`?");
    let (_, problems, _) = folder.load(Some("../conf/prod"), &[]);
    assert_eq!(problems[0].code, "config::unknown-environment");
}

#[test]
fn a_kedro_folder_is_read_as_kedro_reads_it() {
    let folder = Folder::of(&[
        ("conf/base/catalog_raw.yml", "a: {type: pandas.CSVDataset, filepath: '${_root}/a'}\n_root: data\n"),
        ("conf/base/nested/catalog_more.yaml", "b: {type: pandas.CSVDataset, filepath: b}\n"),
        ("conf/base/catalog/deep/any.json", "{\"c\": {\"type\": \"pandas.CSVDataset\"}}"),
        ("conf/base/catalog/.hidden.yml", "d: ["),
        ("conf/base/logging.yml", "version: 1"),
        ("conf/base/parameters.yml", "m: {x: 1}\n"),
        ("conf/base/parameters_more.yml", "m: {y: 2}\n"),
        ("conf/base/globals.yml", "g: 1\n"),
        ("conf/local/credentials.yml", "db: {user: u, password: p}\n"),
        ("pipelines/p.yml", "nodes: []\n"),
    ]);
    let project = folder.sound(None, &[]);
    assert_eq!(
        catalog(&project),
        json!({"a": {"type": "pandas.CSVDataset", "filepath": "data/a"}, "b": {"type": "pandas.CSVDataset", "filepath": "b"},
            "c": {"type": "pandas.CSVDataset"}})
    );
    assert_eq!(project.parameters.to_json(), json!({"m": {"x": 1, "y": 2}}));
    assert_eq!(project.credentials.to_json(), json!({"db": {"user": "***", "password": "***"}}));
    assert_eq!(project.pipelines.len(), 1);
    folder.write("conf/base/catalog_twice.yml", b"a: {type: x}\n");
    assert_eq!(folder.codes(), ["config::duplicate-name"]);
}

#[test]
fn the_blog_posts_own_yaml_loads_without_a_key() {
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/seed");
    let options = LoadOptions {
        project: Some(Path::new(seed)),
        env: None,
        params: &["embeddings.node.batch_size=100".into()],
        environment: &|_| None,
        ask: None,
        pipelines: &[],
    };
    let mut problems = Diagnostics::default();
    let (sources, project) = load(&options, &mut problems);
    assert!(problems.as_slice().is_empty(), "{}", render(problems.as_slice(), &sources, false));
    let project = project.expect("no problems");
    let spark = project.catalog.resolve("embeddings.feat.bucketized_nodes@spark").expect("an entry");
    assert_eq!(spark.spec.kind.value, "spark.SparkDataset");
    assert_eq!(spark.spec.options.get("filepath").and_then(Node::as_text), Some("data/tmp/feat/bucketized_nodes"));
    let node = project.parameters.at_path("embeddings.node").expect("a dotted key");
    assert_eq!(node.get("batch_size").map(|n| &n.value), Some(&Value::Int(100)));
    assert_eq!(
        node.at_path("model.openai_api_key").map(|n| &n.value),
        Some(&Value::MissingSecret { variable: "OPENAI_API_KEY".into() })
    );
}

#[test]
fn credentials_are_filled_in_by_name_at_any_depth() {
    let folder = Folder::of(&[
        (
            "catalog.yml",
            "a: {type: x, credentials: s3}\nb: {type: x, dataset: {type: y, credentials: s3}}\n\
             c: {type: x, credentials: {account_name: n, sas: '${oc.env:NO}'}}\nd: {type: x, credentials: null}\n'{n}_e': {type: x, credentials: s3}\n",
        ),
        ("credentials.yml", "s3: {key: '${oc.env:NO_KEY}', anon: false}\n"),
    ]);
    let project = folder.sound(None, &[]);
    let secret = |name: &str, path: &str| {
        let resolved = project.catalog.resolve(name).expect(name);
        resolved.spec.options.at_path(path).expect(path).value.clone()
    };
    let missing = |variable: &str| Value::MissingSecret { variable: variable.into() };
    assert_eq!(secret("a", "credentials.key"), missing("NO_KEY"));
    assert_eq!(secret("b", "dataset.credentials.key"), missing("NO_KEY"));
    assert_eq!(secret("x_e", "credentials.key"), missing("NO_KEY"));
    assert_eq!(secret("c", "credentials.sas"), missing("NO"));
    assert!(matches!(secret("c", "credentials.account_name"), Value::Secret(_)));
    assert_eq!(secret("d", "credentials"), Value::Null);
    folder.write("catalog.yml", b"a: {type: x, credentials: s33}\n");
    assert_eq!(folder.codes(), ["catalog::unknown-credentials"]);
}

#[test]
fn headers_are_masked_and_their_variables_known_as_secrets_but_for_common_words() {
    let folder = Folder::of(&[
        (
            "catalog.yml",
            "a: {type: csv, path: 'https://h/a.csv', credentials: {username: me, headers: {X-Web: web-key}}}\n",
        ),
        (
            "parameters.yml",
            "m: {headers: {X-Corp: 'I am ${oc.env:USER}', Accept: application/json}, path: '${oc.env:USER}/x'}\n\
             n: '${oc.env:OTHER,x}'\n",
        ),
    ]);
    let project = folder.sound(None, &["+m.headers.X-Given=given-key"]);
    assert_eq!(project.secret_variables.iter().collect::<Vec<_>>(), ["USER"]);
    let mut secrets: Vec<String> = project.secrets().iter().map(|secret| secret.expose().to_owned()).collect();
    secrets.sort_unstable();
    assert_eq!(secrets, ["I am ada", "given-key", "web-key"]);
    let headers = project.parameters.at_path("m.headers").expect("headers").to_json();
    assert_eq!(headers, json!({"X-Corp": "***", "Accept": "***", "X-Given": "***"}));
}

#[test]
fn patterns_make_entries_from_names() {
    let folder = Folder::of(&[
        (
            "catalog.yml",
            "'{ns}.{name}@table': {type: '{ns}.Type', path: '${globals:root}/{ns}/{name}', save_args: {max_workers: '{n}'}}\n",
        ),
        ("globals.yml", "root: data\n"),
    ]);
    assert_eq!(folder.codes(), ["catalog::unknown-placeholder"]);
    folder.write(
        "catalog.yml",
        b"'{ns}.{name}@table': {type: '{ns}.Type', path: '${globals:root}/{ns}/{name}', list: ['{name}']}\n\
          '{n}_workers': {type: x, save_args: {max_workers: '{n}'}, note: '{{n}}'}\nexplicit.a@table: {type: y, sql: 'select {x}'}\n'{any}': {type: memory}\n",
    );
    let project = folder.sound(None, &[]);
    let resolve = |name: &str| {
        let resolved = project.catalog.resolve(name).expect(name);
        (resolved.pattern, resolved.spec.kind.value, resolved.spec.options.to_json())
    };
    let (pattern, kind, options) = resolve("spark.a.b@table");
    assert_eq!((pattern.as_deref(), kind.as_str()), (Some("{ns}.{name}@table"), "spark.Type"));
    assert_eq!(options, json!({"type": "spark.Type", "path": "data/spark/a.b", "list": ["a.b"]}));
    assert_eq!(resolve("20_workers").2, json!({"type": "x", "save_args": {"max_workers": 20}, "note": "{n}"}));
    assert_eq!(resolve("explicit.a@table").0, None);
    assert_eq!(resolve("explicit.a@table").2["sql"], "select {x}");
    assert_eq!(resolve("whatever").0.as_deref(), Some("{any}"));
    folder.write("catalog.yml", b"'{a}': {type: x}\n'{b}': {type: x}\n");
    assert_eq!(folder.codes(), ["catalog::several-catch-alls"]);
}

#[test]
fn every_problem_of_the_catalog_comes_at_once() {
    let folder = Folder::of(&[(
        "catalog.yml",
        "a: 1\nb: {tpye: csv}\nc@d@e: {type: x}\nparams:f: {type: x}\n'{g': {type: x}\nh: {type: [1]}\ni: {type: '${no}'}\nj: {type: x, version: 1}\n_k: 1\n",
    )]);
    assert_eq!(
        folder.codes(),
        [
            "catalog::entry",
            "config::missing-key",
            "catalog::name",
            "catalog::name",
            "catalog::pattern",
            "config::wrong-type",
            "interpolation::missing-key",
            "catalog::version",
        ]
    );
}

#[test]
fn live_keys_are_refused_outside_credentials_and_never_shown() {
    let key = "sk-proj-abcdefghijklmnop1234";
    let parameters = format!("model:\n  api_key: {key}\n  note: 'Bearer {key}'\n  fallback: ${{oc.env:USER,{key}}}\n");
    let folder = Folder::of(&[
        ("catalog.yml", ""),
        ("parameters.yml", &parameters),
        ("credentials.yml", &format!("a: {key}\n")),
    ]);
    let (_, problems, sources) = folder.load(None, &[]);
    assert_eq!(problems.iter().map(|p| p.code).collect::<Vec<_>>(), ["secret::literal-key"; 3]);
    let rendered = render(&problems, &sources, false);
    assert!(!rendered.contains("abcdefghijklmnop"), "{rendered}");
    assert!(rendered.contains("parameters.yml:2:12"), "{rendered}");
}

#[test]
fn a_file_that_cannot_be_read_hides_nothing_of_the_others() {
    let folder = Folder::of(&[("catalog.yml", "a: {tpye: x}\n"), ("parameters.yml", "a: [\n")]);
    assert_eq!(folder.codes(), ["config::missing-key", "yaml::syntax"]);
    folder.write("parameters.yml", b"a: \xff\n");
    assert_eq!(folder.codes(), ["config::missing-key", "yaml::encoding"]);
    folder.write("parameters.yml", b"\xff\xfea\0:\0");
    let (_, problems, _) = folder.load(None, &[]);
    assert!(problems[1].help[0].contains("UTF-16"));
    let big = fs::File::create(folder.0.path().join("parameters.yml")).expect("a file");
    big.set_len(100 << 20).expect("a large file");
    assert_eq!(folder.codes(), ["config::missing-key", "config::file-too-large"]);
}

fn node<'p>(pipelines: &'p [PipelineSpec], pipeline: &str, name: &str) -> &'p crate::config::NodeSpec {
    let pipeline = pipelines.iter().find(|p| p.name == pipeline).expect(pipeline);
    pipeline.nodes.iter().find(|node| node.name.value == name).unwrap_or_else(|| panic!("{name} in {pipeline:?}"))
}

fn bound(bindings: &crate::config::Bindings) -> Vec<(Option<&str>, &str)> {
    bindings.list.iter().map(|b| (b.port.as_ref().map(|port| port.value.as_str()), b.dataset.value.as_str())).collect()
}

#[test]
fn pipelines_take_every_form_of_inputs_and_outputs() {
    let folder = Folder::of(&[
        ("catalog.yml", ""),
        ("parameters.yml", "f: sql\n"),
        (
            "pipelines/a.yml",
            "description: One line\nnodes:\n  - name: one\n    function: ${params:f}\n    inputs: {df: a@x, n: 'params:k'}\n    outputs: b\n    tags: t.u\n\
             \x20   resources: {cpu: 1}\n  - {name: two, function: g, inputs: [a, b], outputs: [c], after: [one, other], namespace: ns, tags: [x, y]}\n\
             \x20 - {name: three, function: g, outputs: {p: d}, namespace: ns, after: two}\n",
        ),
        ("pipelines/sub/b.yml", ""),
    ]);
    let pipelines = folder.sound(None, &[]).pipelines;
    assert_eq!(pipelines.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a", "sub.b"]);
    assert_eq!(pipelines[0].description.as_deref(), Some("One line"));
    let one = node(&pipelines, "a", "one");
    assert_eq!(one.function.value, "sql");
    assert_eq!(bound(&one.inputs), [(Some("df"), "a@x"), (Some("n"), "params:k")]);
    assert_eq!((bound(&one.outputs), one.tags.as_slice()), (vec![(None, "b")], &["t.u".to_owned()][..]));
    assert_eq!(one.resources.and_then(|resources| resources.cpu_milli), Some(1000));
    let two = node(&pipelines, "a", "ns.two");
    assert_eq!(bound(&two.inputs), [(None, "a"), (None, "b")]);
    assert_eq!(two.after.iter().map(|a| a.value.as_str()).collect::<Vec<_>>(), ["one", "other"]);
    assert_eq!(two.namespace.as_deref(), Some("ns"));
    let three = node(&pipelines, "a", "ns.three");
    assert_eq!(three.after[0].value, "ns.two", "a name in the node's own namespace comes first");
}

#[test]
fn includes_follow_kedros_modular_pipelines() {
    let folder = Folder::of(&[
        ("catalog.yml", ""),
        (
            "pipelines/_train.yml",
            "nodes:\n  - {name: split, function: f, inputs: [table@spark, 'params:size', parameters], outputs: [train, test]}\n\
             \x20 - {name: fit, function: g, inputs: [train, 'params:size'], outputs: model@pickle, after: split, tags: a, namespace: in}\n",
        ),
        (
            "pipelines/all.yml",
            "include:\n  - pipeline: _train\n    namespace: uk\n    inputs: {table: uk_table}\n    outputs: [model]\n    parameters: {size: shared}\n    tags: [uk]\n\
             \x20 - {pipeline: _train, namespace: fr, inputs: table@spark, prefix_datasets: true}\nnodes:\n  - {name: own, function: f, inputs: model@table}\n",
        ),
        ("pipelines/plain.yml", "include: [all]\n"),
        ("pipelines/outer.yml", "include: [{pipeline: all, namespace: o}]\n"),
    ]);
    let pipelines = folder.sound(None, &[]).pipelines;
    assert_eq!(
        pipelines.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["all", "outer", "plain"],
        "`_` files serve includes only"
    );
    let split = node(&pipelines, "all", "uk.split");
    assert_eq!(bound(&split.inputs), [(None, "uk_table@spark"), (None, "params:shared"), (None, "parameters")]);
    assert_eq!(bound(&split.outputs), [(None, "uk.train"), (None, "uk.test")]);
    let fit = node(&pipelines, "all", "uk.in.fit");
    assert_eq!(bound(&fit.outputs), [(None, "model@pickle")]);
    assert_eq!(fit.after[0].value, "uk.split");
    assert_eq!((fit.namespace.as_deref(), fit.tags.join(",")), (Some("uk.in"), "a,uk".to_owned()));
    let french = node(&pipelines, "all", "fr.split");
    assert_eq!(bound(&french.inputs), [(None, "table@spark"), (None, "params:fr.size"), (None, "parameters")]);
    assert_eq!(bound(&node(&pipelines, "outer", "o.uk.split").inputs)[0], (None, "o.uk_table@spark"));
    assert_eq!(node(&pipelines, "plain", "own").span, node(&pipelines, "all", "own").span);
}

#[test]
fn every_problem_of_the_pipelines_comes_at_once() {
    let folder = Folder::of(&[
        ("catalog.yml", ""),
        (
            "pipelines/a.yml",
            "nodse: []\nnodes:\n  - {name: 'a b', function: f, inputs: a}\n  - {name: b}\n  - {name: c, function: f, inputs: {x: [a]}}\n  - {name: d, function: f}\n  - e\n",
        ),
        (
            "pipelines/b.yml",
            "include:\n  - {pipeline: p, inputs: [tble, x, 'params:k'], outputs: [tab], parameters: [j]}\n  - {pipeline: nope}\n  - b\n",
        ),
        ("pipelines/p.yml", "nodes: [{name: n, function: f, inputs: [table, 'params:k'], outputs: x}]\n"),
        ("pipelines/q.yml", "nodes: {a: 1}\ninclude: {a: 1}\n"),
    ]);
    assert_eq!(
        folder.codes(),
        [
            "config::unknown-key",
            "pipeline::name",
            "config::missing-key",
            "config::wrong-type",
            "pipeline::idle-node",
            "config::wrong-type",
            "pipeline::include-name",
            "pipeline::include-name",
            "pipeline::include-name",
            "pipeline::include-name",
            "pipeline::include-name",
            "pipeline::unknown-include",
            "pipeline::include-cycle",
            "config::wrong-type",
            "config::wrong-type",
        ]
    );
}

#[test]
fn includes_that_multiply_are_refused() {
    let mut files = vec![("catalog.yml".to_owned(), String::new())];
    files.push(("pipelines/p0.yml".into(), "nodes: [{name: n, function: f, inputs: a, outputs: b}]".into()));
    for i in 1..40 {
        let before = i - 1;
        files.push((
            format!("pipelines/p{i}.yml"),
            format!("include: [{{pipeline: p{before}, namespace: a}}, {{pipeline: p{before}, namespace: b}}]"),
        ));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let codes = Folder::of(&files).codes();
    assert!(codes.contains(&"pipeline::too-many-nodes"), "{codes:?}");
}

#[test]
fn a_name_that_only_params_know_is_an_error_unless_it_is_added() {
    let folder = Folder::of(&[
        (
            "catalog.yml",
            "a: {type: csv, path: \"${oc.env:USER,${runtime_params:folder}}\"}\nb: {type: csv, path: \"${runtime_params:${params:which},x}\"}\n\
             c: {type: csv, path: \"${params:deep.place,y}\"}\n",
        ),
        ("parameters.yml", "embed: {batch_size: 500, model: {name: m}, list: [{x: 1}]}\nwhich: dynamic\nempty:\n"),
        ("pipelines/_p.yml", "nodes: [{name: n, function: f, inputs: ['params:limit', 'params:embed']}]"),
        ("pipelines/q.yml", "include: [{pipeline: _p, namespace: ns, parameters: [embed]}]"),
    ]);
    for (params, wanted) in [
        ("embed.batch_size=1", None),
        ("embed.batchsize=1", Some(("embed.batchsize", "did you mean `embed.batch_size`?"))),
        ("+embed.batchsize=1", None),
        ("++embed.batchsize=1,++embed.batch_size=2", None),
        ("embed={batch_size: 2}", None),
        ("embed={batchsize: 2}", Some(("embed.batchsize", "did you mean `embed.batch_size`?"))),
        ("embed.model={name: n}", None),
        ("embed.model.nmae=n", Some(("embed.model.nmae", "did you mean `embed.model.name`?"))),
        ("embed.list.0.x=2", None),
        ("embed.list.0.y=2", Some(("embed.list.0.y", "write `+embed.list.0.y=…` to add it"))),
        ("empty={a: 1}", None),
        ("empty.a=1", Some(("empty.a", "write `+empty.a=…` to add it"))),
        ("folder=x", None),
        ("foldr=x", Some(("foldr", "did you mean `folder`?"))),
        ("dynamic=x", None),
        ("deep.place=x", None),
        ("deep={place: x}", None),
        ("deep.plaice=x", Some(("deep.plaice", "did you mean `deep.place`?"))),
        ("ns.limit=3", None),
        ("limit=3", Some(("limit", "write `+limit=…` to add it"))),
        ("+new.a=1,new.b=2", Some(("new.b", "write `+new.b=…` to add it"))),
        ("new=1,new.b=2", Some(("new", "write `+new=…` to add it"))),
    ] {
        let (_, problems, _) = folder.load(None, &[params]);
        let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.message.as_str())).collect();
        match wanted {
            None => assert_eq!(found, [], "{params}"),
            Some((path, help)) => {
                let message = format!("unknown parameter `{path}`");
                assert_eq!(found, [("config::unknown-parameter", message.as_str())], "{params}");
                assert!(problems[0].help.iter().any(|text| text == help), "{params}: {:?}", problems[0].help);
            }
        }
    }
    let (_, problems, sources) = folder.load(None, &["+embed.batch_size=1"]);
    assert!(
        render(&problems, &sources, false)
            .contains("`+embed.batch_size` adds `embed.batch_size`, which exists already")
    );
    let secret = folder.load(None, &["embed.model.api_key=hunter2-and-more"]);
    let shown = render(&secret.1, &secret.2, false);
    assert!(shown.contains("unknown parameter `embed.model.api_key`") && !shown.contains("hunter2"), "{shown}");
}
