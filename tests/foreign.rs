//! Files that `flow` did not write are never replaced or removed, unless they are data files of the dataset and the
//! catalog allows it; anything else at an output's location is refused before anything starts.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path};

use crate::support::{Project, small};

/// A project whose node `query` writes `out`, an entry of this text.
fn project(out: &str) -> Project {
    Project::empty()
        .file("raw/t.csv", "id,name\n1,a\n2,b\n3,a\n")
        .file("catalog.yml", &format!("t: {{type: csv, path: raw/t.csv}}\nout: {out}\n"))
        .file("parameters.yml", "q: select * from t order by name\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: query, function: sql, inputs: {t: t, query: params:q}, outputs: out}\n",
        )
}

/// The buckets and their vectors, computed.
fn ran() -> Project {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..50, "any", 2));
    project.flow("run -q").exits(0);
    project
}

/// Every file below a folder and every link, with what it holds.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for item in fs::read_dir(folder).expect("a folder") {
            let item = item.expect("an item");
            let (path, kind) = (item.path(), item.file_type().expect("a kind"));
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            if kind.is_symlink() {
                out.insert(name, fs::read_link(&path).expect("a link").to_string_lossy().into_owned().into_bytes());
            } else if kind.is_dir() {
                walk(root, &path, out);
            } else {
                out.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(folder, folder, &mut out);
    out
}

/// A run is refused with a message that contains these strings, and not a byte below `data` changes.
#[track_caller]
fn refused(project: &Project, flags: &str, words: &[&str]) {
    let before = contents(&project.path("data"));
    let output = project.flow(&format!("run {flags}")).exits(3);
    words.iter().for_each(|word| assert!(output.stderr.contains(word), "{word:?} in {}", output.stderr));
    assert_eq!(contents(&project.path("data")), before);
}

#[test]
fn an_output_folder_that_holds_documents_is_refused_with_their_names() {
    for out in [
        "{type: csv, path: data}",
        "{type: csv, path: data/}",
        "{type: pandas.CSVDataset, filepath: data, save_args: {mode: overwrite}}",
        "{type: parquet, path: data, overwrite: true}",
        "{type: spark.SparkDataset, filepath: data}",
        "{type: parquet, path: data, save_args: {partition_by: [name]}}",
        "{type: json, path: data, overwrite: true, save_args: {partition_by: [name]}}",
    ] {
        let project = project(out).file("data/thesis.docx", "keep").file("data/sub/x.txt", "keep");
        project.write("data/.hidden", "keep");
        for flags in ["", "--force", "--yes"] {
            refused(&project, flags, &["`out` cannot be written", "data/sub/x.txt, data/thesis.docx", "help: "]);
        }
        let plan = project.flow("plan --output json").exits(0).json();
        let refusal = plan["nodes"][0]["refused"][0].as_str().expect("it says so").to_owned();
        assert!(refusal.contains("thesis.docx"), "{refusal}");
        assert!(project.flow("plan").exits(0).stdout.contains("a run would be refused"));
    }
}

#[test]
fn hidden_files_do_not_matter_and_stay() {
    for out in ["{type: csv, path: data/}", "{type: parquet, path: data, save_args: {partition_by: [name]}}"] {
        let project = project(out);
        for name in ["data/.notes", "data/_SUCCESS", "data/name=a/.part.crc", "data/_old/name=a/x.parquet"] {
            project.write(name, "keep");
        }
        let before = contents(&project.path("data"));
        project.flow("run -q").exits(0);
        project.write("raw/t.csv", "id,name\n1,b\n");
        project.flow("run -q").exits(0);
        let after = contents(&project.path("data"));
        assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{after:?}");
    }
}

#[test]
fn data_files_of_others_are_replaced_only_where_the_catalog_says_so() {
    for (out, name) in [
        ("{type: csv, path: data/@}", "data/part-0.csv"),
        ("{type: parquet, path: data/@, save_args: {partition_by: [name]}}", "data/name=zz/part-0.parquet"),
        // 32 hex digits do not prove that flow wrote it.
        ("{type: csv, path: data/@}", "data/e7bc385253d7209a9037afce662246f9.csv"),
        ("{type: csv, path: data/out.csv@}", "data/out.csv"),
    ] {
        let with =
            |more: &str| project(&out.replace('@', more)).file(name, "id,name\n9,z\n").file("data/x/y/.z", "keep");
        refused(&with(""), "", &[name, "data files that flow did not write", "`overwrite: true`"]);
        let mode = if out.contains("partition_by") {
            with("").edit("catalog.yml", "save_args: {", "save_args: {mode: overwrite, ")
        } else {
            with(", save_args: {mode: overwrite}")
        };
        for project in [with(", overwrite: true"), mode] {
            let plan = project.flow("plan --output json").exits(0).json();
            assert_eq!((&plan["nodes"][0]["replaces"], plan["nodes"][0].get("refused")), (&1.into(), None), "{plan}");
            let shown = project.flow("plan").exits(0).stdout;
            assert!(shown.contains("1 data file of `out` that flow did not write will be replaced"), "{shown}");
            let output = project.flow("run").exits(0);
            assert!(output.stderr.contains("1 data file of `out` that flow did not write"), "{}", output.stderr);
            let kept = contents(&project.path("data"));
            assert_ne!(kept.get(name.trim_start_matches("data/")).map(Vec::as_slice), Some(&b"id,name\n9,z\n"[..]));
            assert!(kept.contains_key("x/y/.z"));
            assert_eq!(project.flow("plan --output json").exits(0).json()["nodes"][0]["action"], "skip");
        }
    }
}

#[test]
fn an_output_file_that_was_changed_or_replaced_from_outside_is_refused() {
    for (name, out) in
        [("out.csv", "{type: csv, path: data/out.csv@}"), ("out.parquet", "{type: parquet, path: data/out.parquet@}")]
    {
        let own = project(&out.replace('@', ""));
        own.flow("run -q").exits(0);
        let path = own.path(&format!("data/{name}"));
        let written = fs::read(&path).expect("a file");
        for other in [&b"precious\n"[..], &written[..written.len() - 1], &[&written[..], b"9,z\n"].concat()] {
            fs::write(&path, other).expect("written");
            for flags in ["", "--force"] {
                refused(&own, flags, &[name, "that flow wrote and that changed since", "`overwrite: true`"]);
            }
            let plan = own.flow("plan").exits(0).stdout;
            assert!(plan.contains("a run would be refused") && plan.contains("that changed since"), "{plan}");
        }
        own.write("catalog.yml", &own.read("catalog.yml").replace(name, &format!("{name}, overwrite: true")));
        let plan = own.flow("plan").exits(0).stdout;
        assert!(
            plan.contains("1 data file of `out` that flow wrote and that changed since will be replaced"),
            "{plan}"
        );
        own.flow("run -q").exits(0);
        assert_eq!(fs::read(&path).expect("a file"), written);
    }
}

#[test]
fn a_file_with_a_name_of_flow_that_grew_is_refused_and_a_truncated_one_is_written_again() {
    let project = project("{type: parquet, path: data/out, save_args: {partition_by: [name]}}");
    project.flow("run -q").exits(0);
    let written = contents(&project.path("data"));
    let (name, bytes) = written.iter().find(|(name, _)| name.ends_with(".parquet")).expect("a file");
    let path = project.path("data").join(name);
    fs::write(&path, [&bytes[..], b"more"].concat()).expect("written");
    refused(&project, "", &[name, "data files that flow did not write"]);
    fs::write(&path, &bytes[..9]).expect("written");
    project.flow("run -q").exits(0);
    assert_eq!(contents(&project.path("data")), written);
}

#[test]
fn files_that_flow_wrote_with_another_suffix_are_announced_as_its_own() {
    let project = ran();
    let catalog = project.read("catalog.yml");
    let vectors = catalog.lines().find(|line| line.contains("vectors@partitioned")).expect("an entry").to_owned();
    let project = project.edit("catalog.yml", &vectors, &vectors.replace("suffix: .parquet", "suffix: .pq"));
    let output = project.flow("plan").exits(0);
    assert!(
        output.stdout.contains("that flow wrote with another type or suffix will be replaced"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("that flow did not write"), "{}", output.stdout);
}

#[test]
fn a_file_that_flow_wrote_is_its_own_even_when_it_was_emptied_or_its_run_was_killed() {
    let own = project("{type: csv, path: data/out.csv}");
    own.flow("run -q").exits(0);
    let written = own.read("data/out.csv");
    fs::write(own.path("data/out.csv"), "").expect("written");
    own.flow("run -q").exits(0);
    assert_eq!(own.read("data/out.csv"), written);
    // Killed at any step, the next run goes on: a file is never there without what says whose it is.
    for step in 1.. {
        let project = project("{type: csv, path: data/out.csv}");
        let mut command = project.command(["run", "-q"]);
        let status = command.env("FLOW_UNSTABLE_KILL_AT", step.to_string()).status().expect("the binary starts");
        project.flow("run -q").exits(0);
        assert_eq!(project.read("data/out.csv"), written, "step {step}");
        // As well where the file is written over.
        project.write("parameters.yml", "q: select * from t order by id desc\n");
        let mut command = project.command(["run", "-q"]);
        command.env("FLOW_UNSTABLE_KILL_AT", step.to_string()).status().expect("the binary starts");
        project.flow("run -q").exits(0);
        assert_eq!(project.read("data/out.csv"), "id,name\n3,a\n2,b\n1,a\n", "step {step}");
        if status.success() {
            return;
        }
    }
}

#[test]
fn a_document_that_another_program_wrote_or_changed_is_refused_and_not_replaced() {
    let node = |text: &str| {
        format!(
            "nodes:\n  - {{name: say, function: command, inputs: {{t: t}}, outputs: {{log: log}}, \
             command: [sh, '-c', 'printf {text} > {{{{ outputs.log }}}}']}}\n"
        )
    };
    for (name, entry) in
        [("log.txt", "{type: text, path: data/log.txt}"), ("log.yml", "{type: yaml, path: data/log.yml}")]
    {
        let project = Project::empty()
            .file("raw/t.csv", "id\n1\n")
            .file("catalog.yml", &format!("t: {{type: csv, path: raw/t.csv}}\nlog: {entry}\n"))
            .file("parameters.yml", "a: 1\n")
            .file("pipelines/main.yml", &node("one"));
        let (path, words) = (format!("data/{name}"), [name, "flow did not write what is at", "`flow accept`"]);
        project.write(&path, "precious");
        for flags in ["", "--force"] {
            refused(&project, flags, &words);
        }
        assert!(project.flow("plan").exits(0).stdout.contains("a run would be refused"));
        fs::remove_file(project.path(&path)).expect("a file");
        project.flow("run -q").exits(0);
        let written = project.read(&path);
        project.write(&path, "precious");
        refused(&project, "", &words);
        // What it wrote itself is its own, in a run that was killed too.
        fs::remove_file(project.path(&path)).expect("a file");
        for step in 1.. {
            let text = if step % 2 == 0 { "one" } else { "two" };
            project.write("pipelines/main.yml", &node(text));
            let mut command = project.command(["run", "-q"]);
            let status = command.env("FLOW_UNSTABLE_KILL_AT", step.to_string()).status().expect("the binary starts");
            project.flow("run -q").exits(0);
            assert_eq!(project.read(&path), written.replace("one", text), "step {step}");
            if status.success() {
                break;
            }
        }
    }
}

#[test]
fn a_folder_instead_of_a_file_and_a_file_instead_of_a_folder_are_refused() {
    for out in ["{type: csv, path: data/out}", "{type: csv, path: data/out, overwrite: true}"] {
        let project = project(out);
        fs::create_dir_all(project.path("data/out")).expect("a folder");
        refused(&project, "", &["`out` is written as one file, but a folder lies at data/out"]);
    }
    for out in [
        "{type: csv, path: data/out/, overwrite: true}",
        "{type: parquet, path: data/out, overwrite: true, save_args: {partition_by: [name]}}",
    ] {
        let project = project(out).file("data/out", "keep");
        refused(&project, "", &["`out` is written as a folder, but a file lies at data/out"]);
    }
    let project = ran();
    fs::remove_dir_all(project.path("data/out/vectors")).expect("removed");
    project.write("data/out/vectors", "keep");
    refused(&project, "", &["`vectors@partitioned` is written as a folder"]);
}

#[test]
fn foreign_files_among_partitions_are_refused_and_never_removed() {
    for name in
        ["bucket=3/notes.txt", "bucket=99/notes.txt", "sub/bucket=3/x.parquet", "bucket=3/sub/x.parquet", "x.pq"]
    {
        let project = ran();
        project.write(&format!("data/out/vectors/{name}"), "keep");
        refused(&project, "--force", &[&format!("data/out/vectors/{name}"), "not data files of this dataset"]);
    }
    // With nothing to do, nothing is in the way.
    let project = ran();
    project.write("data/out/vectors/bucket=3/notes.txt", "keep");
    project.flow("run -q").exits(0);
}

#[test]
fn nothing_outside_is_removed_or_written_through_a_linked_partition() {
    for (dataset, bucket) in [("vectors", 77), ("vectors", 3), ("buckets", 77), ("buckets", 3)] {
        let project = ran();
        for name in ["elsewhere/a.txt", "elsewhere/b.parquet", "elsewhere/sub/c.txt"] {
            project.write(name, "keep");
        }
        let link = project.path(&format!("data/out/{dataset}/bucket={bucket}"));
        if link.exists() {
            fs::remove_dir_all(&link).expect("removed");
        }
        symlink(project.path("elsewhere"), &link).expect("a link");
        let before = contents(&project.path("elsewhere"));
        for flags in ["", "--force", "--yes", "--nodes embed"] {
            let output = project.flow(&format!("run -q {flags}")).exits(3);
            let named = format!("data/out/{dataset}/bucket={bucket}");
            assert!(output.stderr.contains(&named) && output.stderr.contains("link"), "{flags}: {}", output.stderr);
            assert_eq!(contents(&project.path("elsewhere")), before, "{flags}");
            assert!(link.is_symlink(), "{flags}");
        }
        fs::remove_file(&link).expect("removed");
        project.flow("run -q").exits(0);
    }
}

#[test]
fn a_dataset_whose_own_path_is_a_link_is_written_where_it_leads() {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..50, "any", 2));
    fs::create_dir_all(project.path("disk/vectors")).expect("a folder");
    fs::create_dir_all(project.path("data/out")).expect("a folder");
    symlink(project.path("disk/vectors"), project.path("data/out/vectors")).expect("a link");
    project.flow("run -q").exits(0);
    assert_eq!(project.files("disk/vectors").len(), 5);
    project.write("data/nodes.csv", &small::csv(0..40, "any", 2));
    project.flow("run -q").exits(0);
    assert_eq!(project.files("disk/vectors").len(), 4);
    assert!(project.path("data/out/vectors").is_symlink());
}

#[test]
fn a_lock_or_staging_folder_that_is_a_link_is_refused_and_its_target_is_untouched() {
    for suffix in ["flow-lock", "flow-staging"] {
        let project = ran();
        project.write("victim.txt", "keep");
        project.write("victim/notes.txt", "keep");
        let target = if suffix == "flow-lock" { "victim.txt" } else { "victim" };
        symlink(project.path(target), project.path(&format!("data/out/.vectors.{suffix}"))).expect("a link");
        let output = project.flow("run -q --force").exits(3);
        assert!(output.stderr.contains(&format!(".vectors.{suffix}")), "{}", output.stderr);
        assert_eq!((project.read("victim.txt"), project.read("victim/notes.txt")), ("keep\n".into(), "keep\n".into()));
    }
    let project = ran();
    project.write("data/out/.vectors.flow-staging/notes.txt", "keep");
    project.flow("run -q --force").exits(0);
    assert_eq!(project.read("data/out/.vectors.flow-staging/notes.txt"), "keep\n");
}
