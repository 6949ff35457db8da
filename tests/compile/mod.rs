//! `flow compile`: the files of each target, byte for byte and through the parsers of others.

mod argo;
mod scripts;

use std::path::Path;

use serde_json::Value as Json;

use crate::{
    config::holds,
    support::{Output, Project, root},
};

const IMAGE: &str = "--image registry.example/project:1 --volume flow-data:/project/data";

/// The names of the tasks, each with its nodes and what comes before.
fn tasks(output: &Output) -> Vec<String> {
    let json = output.json();
    let words = |list: &Json, between: &str| {
        list.as_array()
            .expect("a list")
            .iter()
            .map(|one| one.as_str().expect("a name"))
            .collect::<Vec<_>>()
            .join(between)
    };
    let line = |task: &Json| {
        let name = task["name"].as_str().expect("a name");
        format!("{name} = {} <- {}", words(&task["nodes"], "+"), words(&task["after"], " "))
    };
    json["tasks"].as_array().expect("tasks").iter().map(line).collect()
}

/// A project of placeholders: nodes as `name: inputs -> outputs`, all in the fuse group `g` but those with a `!` in front.
fn sketch(nodes: &[&str]) -> Project {
    let mut names = std::collections::BTreeSet::new();
    let mut text = "nodes:\n".to_owned();
    for node in nodes {
        let (name, data) = node.split_once(": ").expect("a name");
        let (inputs, outputs) = data.split_once(" -> ").expect("an arrow");
        let (name, tags) = match name.strip_prefix('!') {
            Some(name) => (name, "[]"),
            None => (name, "[argowf.fuse, argowf.fuse-group.g]"),
        };
        names.extend(format!("{inputs},{outputs}").split(',').map(str::to_owned));
        text.push_str(&format!(
            "  - {{name: {name}, function: placeholder, inputs: [{inputs}], outputs: [{outputs}], tags: {tags}}}\n"
        ));
    }
    let catalog: String =
        names.iter().map(|name| format!("{name}: {{type: csv, path: 's3://b/{name}.csv'}}\n")).collect();
    Project::empty().file("catalog.yml", &catalog).file("parameters.yml", "{}").file("pipelines/main.yml", &text)
}

/// What differs between machines and versions.
fn stable(project: &Project, output: &Output) -> String {
    let folder = project.path("").canonicalize().expect("the project");
    let digest = output.json()["plan_digest"].as_str().expect("a digest").to_owned();
    let files = output.json();
    let files = files["files"].as_array().expect("files");
    let shown = |file: &Json| {
        format!("==> {} <==\n{}", file["name"].as_str().expect("a name"), file["text"].as_str().expect("a text"))
    };
    let text: String = files.iter().map(shown).collect();
    text.replace(folder.to_str().expect("UTF-8").trim_end_matches('/'), "/work/project")
        .replace(project.path("").to_str().expect("UTF-8").trim_end_matches('/'), "/work/project")
        .replace(&digest, "DIGEST")
        .replace(&format!("(flow {})", env!("CARGO_PKG_VERSION")), "(flow VERSION)")
}

fn expected(name: &str) -> std::path::PathBuf {
    root().join("tests/compile/expected").join(name)
}

#[test]
fn the_shipped_project_is_written_byte_for_byte_as_expected() {
    let project = Project::shipped();
    for (name, line) in [
        ("slurm.txt", "compile slurm --shards 8 --parallel 2 --output json".to_owned()),
        ("argo.txt", format!("compile argo --shards 8 --parallel 2 --schedule @daily {IMAGE} --output json")),
        ("k8s-job.txt", format!("compile k8s-job -n add_node_embeddings --shards 8 {IMAGE} --output json")),
    ] {
        let output = project.flow(&line).exits(0);
        holds(&expected(name), &stable(&project, &output));
        assert_eq!(output.stdout, project.flow(&line).exits(0).stdout, "the same on every call");
    }
}

#[test]
fn the_pipeline_of_the_blog_post_is_one_task_as_its_tags_ask_and_four_with_shards() {
    let project = Project::empty();
    for name in ["catalog.yml", "globals.yml", "parameters.yml", "pipelines/embeddings.yml"] {
        project
            .write(name, &std::fs::read_to_string(root().join("tests/fixtures/seed").join(name)).expect("the fixture"));
    }
    // Its files are in `data/tmp`: on a volume, or on a shared file system.
    let fused = project.flow(&format!("compile argo {IMAGE} --output json")).exits(0);
    assert_eq!(
        tasks(&fused),
        [
            "node-embeddings = bucketize_nodes+add_node_embeddings <- ",
            "count-embeddings = count_embeddings <- node-embeddings"
        ]
    );
    let shards = project.flow("compile slurm --shards 8 --output json").exits(0);
    assert_eq!(
        tasks(&shards),
        [
            "node-embeddings = bucketize_nodes <- ",
            "add-node-embeddings-shards = add_node_embeddings <- node-embeddings",
            "add-node-embeddings-gather = add_node_embeddings <- add-node-embeddings-shards",
            "count-embeddings = count_embeddings <- add-node-embeddings-gather",
        ]
    );
}

#[test]
fn groups_that_would_wait_for_each_other_or_share_a_name_become_valid_tasks() {
    let cyclic = sketch(&["a: in -> a1,a2", "b: a1 -> b1", "!x: a2 -> x1", "c: b1,x1 -> out"]);
    let output = cyclic.flow("compile argo --image x --output json").exits(0);
    assert_eq!(tasks(&output), ["g = a+b <- ", "x = x <- g", "g-2 = c <- g x"]);
    assert!(output.stderr.contains("compile::divided-group"), "{}", output.stderr);
    let ambiguous = sketch(&["a: in -> a1", "b: a1 -> b1", "c: in -> c1", "d: c1 -> d1"]);
    let output = ambiguous.flow("compile argo --image x --output json").exits(0);
    assert_eq!(tasks(&output), ["g = a+b <- ", "g-2 = c+d <- "]);
    assert!(output.stderr.is_empty(), "{}", output.stderr);
}

#[test]
fn data_that_another_task_cannot_reach_is_refused_with_the_way_out() {
    let project = Project::shipped();
    let output = project.flow("compile argo --shards 8 --image x").exits(2);
    for part in [
        "error[compile::not-shared]",
        "pipelines/embeddings.yml:",
        "`embeddings.feat.bucketized_nodes` (data/work/feat/bucketized_nodes) is on a pod's own disk, but `add_node_embeddings`",
        "give it a path on an object store, or share its folder with `--volume CLAIM:/project/…`",
        "`embeddings.prm.nearest_nodes` (data/work/prm/nearest_nodes.csv) is on a pod's own disk, and is lost when",
    ] {
        assert!(output.stderr.contains(part), "{part}\n{}", output.stderr);
    }
    assert_eq!(output.stdout, "");
    let memory = sketch(&["!a: in -> m", "!b: m -> out"]).edit(
        "catalog.yml",
        "m: {type: csv, path: 's3://b/m.csv'}",
        "m: {type: memory}",
    );
    let output = memory.flow("compile slurm").exits(2);
    assert!(output.stderr.contains("compile::in-memory"), "{}", output.stderr);
}

#[test]
fn options_of_another_target_and_missing_ones_are_refused() {
    let project = Project::shipped();
    for (line, message) in [
        ("compile slurm --image x", "`flow compile slurm` takes no `--image`"),
        ("compile k8s-job --image x --schedule @daily", "`flow compile k8s-job` takes no `--schedule`"),
        ("compile argo", "`flow compile argo` needs `--image`"),
        ("compile argo --image x --schedule tomorrow", "five fields of cron"),
        ("compile argo --image x --volume data", "expected CLAIM:/PATH"),
        ("compile argo --image x --secret My_Secret", "the name of an object of Kubernetes"),
        ("compile argo --image x --volume d:/project/data --ledger runs", "`--ledger runs` is on a pod's own disk"),
        ("compile slurm --ledger https://example.org/runs", "`--ledger`: https://example.org/runs: it is only read"),
        ("compile slurm --ledger s3://KEY:hidden123@b/runs", "`--ledger`: s3://b/runs: a bucket's URL holds no keys"),
        (
            "compile slurm --ledger az://c/runs?sv=2&sig=hidden123",
            "`--ledger`: az://c/runs: a bucket's URL holds no query",
        ),
        ("compile slurm --ledger /dev/shm/runs", "`--ledger /dev/shm/runs` is on the disk of one host"),
        ("compile nomad", "slurm"),
        ("compile slurm --shards 0", "0"),
    ] {
        let output = project.flow(line).exits(2);
        assert!(output.stderr.contains(message), "{line}: {}", output.stderr);
        assert!(!output.stderr.contains("hidden123"), "{line}: {}", output.stderr);
    }
    project.flow("compile slurm --tags nothing").exits(2);
    project.flow("compile slurm -x bucketize_nodes,add_node_embeddings,find_nearest_nodes").exits(4);
}

#[test]
fn secrets_are_refused_in_arguments_and_named_in_manifests() {
    let project = Project::shipped()
        .edit("parameters.yml", "    provider: static", "    provider: openai\n    model: m\n    api_key: ${oc.env:OPENAI_API_KEY}\n    base_url: ${oc.env:OUR_URL,'http://localhost'}")
        .env("OPENAI_API_KEY", "sk-proj-abcdefghijklmnop0123456789")
        .env("OUR_URL", "http://gateway.example/v1");
    let text = project.flow(&format!("compile argo {IMAGE}")).exits(0).stdout;
    assert!(!text.contains("sk-proj"), "{text}");
    assert!(text.contains("key: OPENAI_API_KEY") && text.contains("http://gateway.example/v1"), "{text}");
    let project = project.env("FLOW_PARAMS", "embeddings.node.model.api_key=sk-proj-zzzzzzzzzzzzzzzz0123456789");
    let output = project.flow("compile slurm").exits(2);
    assert!(output.stderr.contains("holds a secret") && !output.stderr.contains("sk-proj"), "{}", output.stderr);
}

#[test]
fn headers_are_refused_in_arguments_and_named_in_manifests_whatever_their_names() {
    let model = "    provider: openai\n    model: m\n    base_url: http://gateway.example/v1\n    \
                 headers: {X-Corp: 'Corp ${oc.env:CORP}', Accept: application/json}";
    let project = Project::shipped()
        .edit("parameters.yml", "    provider: static", model)
        // Too short to be recognized by its value.
        .env("CORP", "co7")
        .env("OUR_WORD", "application");
    let project = project.more("parameters.yml", "word: ${oc.env:OUR_WORD}\n");
    let text = project.flow(&format!("compile argo {IMAGE}")).exits(0).stdout;
    assert!(!text.contains("co7") && text.contains("key: CORP"), "{text}");
    assert!(text.contains("value: application"), "a common word is no secret elsewhere: {text}");
    let project = project.env("FLOW_PARAMS", "embeddings.node.model.headers.X-Corp=h9");
    let output = project.flow("compile slurm").exits(2);
    assert!(output.stderr.contains("X-Corp=***` holds a secret"), "{}", output.stderr);
}

#[test]
fn what_is_given_for_the_interpreter_and_for_little_memory_is_obeyed() {
    let project = Project::shipped().edit(
        "pipelines/embeddings.yml",
        "    function: compute_embeddings",
        "    function: compute_embeddings\n    resources: {memory: 100Mi, time: 30s}",
    );
    let folder = project.path("").canonicalize().expect("the project").display().to_string();
    for (python, expected) in [
        ("venv/bin/python", format!("--python {folder}/venv/bin/python")),
        ("python3.11", "--python python3.11".to_owned()),
    ] {
        let text = project.flow(&format!("compile slurm --shards 2 --python {python}")).exits(0).stdout;
        assert!(text.contains(&expected), "{text}");
        assert!(text.contains("--memory-limit 64MiB") && text.contains("--time=00:02:00"), "{text}");
    }
    let text = project.flow(&format!("compile argo --shards 2 --python venv/bin/python {IMAGE}")).exits(0).stdout;
    assert!(text.contains("- --python\n      - venv/bin/python\n"), "{text}");
    // A name may begin with `-`.
    let project = sketch(&["-a: in -> m", "!--force: m -> out"]);
    let compiled = project.flow("compile slurm --nodes -a,--force -o jobs --output json").exits(0);
    assert_eq!(tasks(&compiled), ["g = -a <- ", "force = --force <- g"]);
    assert!(project.read("jobs/force.sbatch").contains("    --nodes \\\n    --force \\\n"));
}

#[test]
fn files_go_to_a_folder_and_what_others_wrote_there_stays() {
    let project = Project::shipped();
    project.flow("compile slurm --shards 2 -o jobs").exits(0);
    let files = [
        "add-node-embeddings-gather.sbatch",
        "add-node-embeddings-shards.sbatch",
        "find-nearest-nodes.sbatch",
        "node-embeddings.sbatch",
        "submit.sh",
    ];
    assert_eq!(project.files("jobs"), files);
    project.flow("compile slurm --shards 3 -o jobs").exits(0);
    assert!(project.read("jobs/add-node-embeddings-shards.sbatch").contains("--array=0-2%3"));
    project.write("jobs/submit.sh", "#!/bin/bash\nrm -rf everything\n");
    let output = project.flow("compile slurm -o jobs").exits(3);
    assert!(output.stderr.contains("was not made by `flow compile`"), "{}", output.stderr);
    assert_eq!(project.read("jobs/submit.sh"), "#!/bin/bash\nrm -rf everything\n");
    assert!(project.read("jobs/add-node-embeddings-shards.sbatch").contains("--array=0-2%3"), "nothing was written");
}

#[test]
fn scripts_of_an_earlier_call_are_not_left_beside_those_that_are_submitted() {
    let project = Project::shipped();
    project.flow("compile slurm --shards 4 -o jobs").exits(0);
    project.write("jobs/mine.sbatch", "#!/bin/bash\nsleep 1\n");
    project.write("jobs/logs/old.log", "# Made by `flow compile slurm` (flow 0.1.0)\n");
    let output = project.flow("compile slurm -o jobs").exits(0);
    let removed = "; removed add-node-embeddings-gather.sbatch, add-node-embeddings-shards.sbatch of an earlier call";
    assert!(output.stderr.contains(removed), "{}", output.stderr);
    let left = ["find-nearest-nodes.sbatch", "logs/old.log", "mine.sbatch", "node-embeddings.sbatch", "submit.sh"];
    assert_eq!(project.files("jobs"), left);
    project.flow("compile slurm --shards 4 -o jobs").exits(0);
    let again = project.flow("compile slurm -o jobs --output json").exits(0).json();
    assert_eq!(again["removed"].as_array().map(Vec::len), Some(2), "{again}");
    assert_eq!(project.files("jobs"), left);
}

#[test]
fn manifests_of_another_selection_stay() {
    let project = Project::shipped();
    let line = |options: &str| format!("compile argo {IMAGE} {options} -o jobs");
    project.flow(&line("")).exits(0);
    project.flow(&line("--shards 4")).exits(0);
    project.flow("compile slurm -o jobs").exits(0);
    assert!(project.files("jobs").contains(&"embeddings.yaml".to_owned()), "{:?}", project.files("jobs"));
}

#[test]
fn an_image_has_a_name() {
    let project = Project::shipped();
    for image in ["", " ", "a b", "a\nb"] {
        let output = project.run(["compile", "argo", "--image", image]).exits(2);
        assert!(output.stderr.contains("expected the name of an image"), "{image:?}: {}", output.stderr);
    }
}

#[test]
fn paid_answers_that_are_lost_with_the_pod_before_their_table_is_written_are_warned_about() {
    let project = Project::empty()
        .file(
            "catalog.yml",
            "t: {type: parquet, path: 's3://b/t.parquet'}\no: {type: parquet, path: 's3://b/o.parquet'}\n",
        )
        .file("parameters.yml", "model: {provider: openai, model: m, api_key: test}\n")
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - name: embed
                function: compute_embeddings
                inputs: {dfs: t, model: params:model}
                outputs: o
            ",
        );
    let warned = |project: &Project, line: &str| {
        let stderr = project.flow(line).exits(0).stderr;
        if stderr.is_empty() { None } else { Some(stderr) }
    };
    let text = warned(&project, "compile argo --image x").expect("a warning");
    for part in [
        "warning[compile::answers-not-kept]",
        "node `embed` writes a table at its end",
        "`.flow/cache`, on a pod's own disk",
        "`--volume CLAIM:/project/.flow/cache`",
        "pipelines/main.yml:2",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for line in ["compile argo --image x --volume claim:/project/.flow", "compile slurm"] {
        assert_eq!(warned(&project, line), None, "{line}");
    }
    let elsewhere = project.edit("parameters.yml", "api_key: test", "api_key: test, cache: {path: /answers}");
    let text = warned(&elsewhere, "compile argo --image x --volume claim:/project/.flow").expect("a warning");
    assert!(text.contains("`--volume CLAIM:/answers`"), "{text}");
    // A model of this machine is paid for by nobody.
    let free = elsewhere.file("parameters.yml", "model: {provider: hash}\n");
    assert_eq!(warned(&free, "compile argo --image x"), None);
}

#[test]
fn resources_are_checked_with_their_line() {
    let project = Project::shipped().edit(
        "pipelines/embeddings.yml",
        "    function: compute_embeddings",
        "    function: compute_embeddings\n    resources: {cpus: 4, memory: plenty, shards: 0}",
    );
    let output = project.flow("check").exits(2);
    for part in ["unknown key `cpus`", "`cpu`", "plenty", "shards"] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    let project = Project::shipped().edit(
        "pipelines/embeddings.yml",
        "    function: sql",
        "    function: sql\n    resources: {shards: 4}",
    );
    let output = project.flow("compile slurm").exits(2);
    assert!(output.stderr.contains("compile::no-partitions"), "{}", output.stderr);
}

/// A project with every feature: groups, shards, all resources, names that need care, several pipelines, an environment.
fn everything() -> Project {
    Project::shipped()
        .edit(
            "pipelines/embeddings.yml",
            "    function: compute_embeddings",
            "    function: compute_embeddings\n    resources: {cpu: 0.5, memory: 2Gi, gpu: 1, time: 90m, shards: 16}",
        )
        .edit(
            "pipelines/embeddings.yml",
            "    function: bucketize",
            "    function: bucketize\n    resources: {cpu: 4, memory: 1500MiB}",
        )
        .edit(
            "parameters.yml",
            "    provider: static",
            "    provider: static\nsecretly:\n  api_key: ${oc.env:SOME_API_KEY,''}\n  where: ${oc.env:WHERE,here}",
        )
        .env("WHERE", "on: {\"{ # yes\n")
        .more("catalog.yml", "größe: {type: csv, path: 's3://bucket/größe.csv'}\n")
        .file(
            "pipelines/other.yml",
            "
            nodes:
              - name: 2nd-Größe
                function: sql
                inputs: {nodes: embeddings.prm.nearest_nodes, query: 'params:nearest.count'}
                outputs: größe
            ",
        )
        .edit("parameters.yml", "nearest:\n", "nearest:\n  count: SELECT count(*) AS n FROM nodes\n")
        .file("conf/cluster/parameters.yml", "nearest:\n  count: SELECT count(*) AS n, 1 AS one FROM nodes\n")
}

/// The words of [`everything`] after `flow compile argo`.
fn every_flag(project: &Project) -> Output {
    let words = [
        "compile",
        "argo",
        "--output",
        "json",
        "--env",
        "cluster",
        "--params",
        "embeddings.node.batch_size=7,nearest.query='select 1 as \"a: b\"'",
        "--pipeline",
        "embeddings,other",
        "--parallel",
        "3",
        "--retries",
        "9",
        "--ledger",
        "s3://bucket/a ledger",
        "--image",
        "registry.example/project@sha256:00",
        "--secret",
        "other-secrets",
        "--service-account",
        "runner",
        "--volume",
        "flow-data:/project/data",
        "--volume",
        "more:/more",
        "--schedule",
        "*/5 0-6 * * mon-fri",
    ];
    project.run(words).exits(0)
}

/// A project of 10,000 nodes: a thousand chains of ten, the first four of each fused.
fn ten_thousand() -> Project {
    let mut text = "nodes:\n".to_owned();
    let mut catalog = String::new();
    for chain in 0..1000 {
        catalog.push_str(&format!("d{chain}_0: {{type: csv, path: 's3://b/{chain}/0.csv'}}\n"));
        for step in 0..10 {
            let tags =
                if step < 4 { format!("[argowf.fuse, argowf.fuse-group.chain_{chain}]") } else { "[]".to_owned() };
            let next = step + 1;
            text.push_str(&format!(
                "  - {{name: n{chain}_{step}, function: placeholder, inputs: [d{chain}_{step}], outputs: [d{chain}_{next}], tags: {tags}}}\n"
            ));
            catalog.push_str(&format!("d{chain}_{next}: {{type: csv, path: 's3://b/{chain}/{next}.csv'}}\n"));
        }
    }
    Project::empty().file("catalog.yml", &catalog).file("parameters.yml", "{}").file("pipelines/main.yml", &text)
}

/// Writes the files of an output with their texts into a folder.
fn write(output: &Output, folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::create_dir_all(folder).expect("a folder");
    let json = output.json();
    let one = |file: &Json| {
        let path = folder.join(file["name"].as_str().expect("a name"));
        std::fs::write(&path, file["text"].as_str().expect("a text")).expect("written");
        path
    };
    json["files"].as_array().expect("files").iter().map(one).collect()
}
