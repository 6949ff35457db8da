//! Partitions that are files: Kedro's flat, nested and mixed folders, through `compute_embeddings` and `sql`.

use crate::support::{Project, place::Place, read_parquet, stores};

const CATALOG: &str = "
p: {type: partitions.PartitionedDataset, path: data/parts, dataset: pandas.CSVDataset, filename_suffix: .csv}
o: {type: partitions.PartitionedDataset, path: data/out, dataset: pandas.ParquetDataset, filename_suffix: .parquet, overwrite: true}
ids: {type: csv, path: data/ids.csv}
";
const PIPELINE: &str = "
nodes:
  - {name: embed, function: compute_embeddings, inputs: {dfs: p, model: params:model}, outputs: o}
  - {name: all, function: sql, inputs: {o: o, query: params:query}, outputs: ids}
";

fn project(parts: &[&str]) -> Project {
    let project = Project::empty()
        .file("conf/base/catalog.yml", CATALOG)
        .file(
            "conf/base/parameters.yml",
            "model: {provider: hash, dimensions: 8}\nquery: select id from o where embedding is not null order by id\n",
        )
        .file("pipelines/main.yml", PIPELINE);
    parts.iter().enumerate().for_each(|(i, id)| write(&project, id, i));
    project
}

fn write(project: &Project, id: &str, row: usize) {
    project.write(&format!("data/parts/{id}.csv"), &format!("id,text_to_embed\n{row},the text of row {row}\n"));
}

/// Partitions done and skipped.
fn run(project: &Project) -> (u64, u64) {
    let summary = project.flow("run --output json").exits(0).summary();
    let count = |key: &str| summary["partitions"][key].as_u64().expect("a number");
    (count("done"), count("skipped"))
}

#[test]
fn flat_nested_and_mixed_partitions_run_and_keep_their_ids() {
    for ids in [
        &["north", "south"][..],
        &["2024/feb", "2024/jan", "2025/jan"],
        &["bucket=3/shard", "bucket=4/shard"],
        &["2024/jan", "bucket=3/shard", "north", "x y/ä=1/ö"],
    ] {
        let project = project(ids);
        project.flow("check").exits(0);
        assert_eq!(run(&project), (ids.len() as u64, 0), "{ids:?}");
        let written: Vec<String> = ids.iter().map(|id| format!("{id}.parquet")).collect();
        assert_eq!(project.files("data/out"), written);
        let rows: Vec<usize> = (0..ids.len()).collect();
        let expected: String = rows.iter().map(|row| format!("{row}\n")).collect();
        assert_eq!(project.read("data/ids.csv"), format!("id\n{expected}"));
        let shown = project.flow("show o --partitions --output json").exits(0).json();
        let shown: Vec<&str> =
            shown.as_array().expect("a list").iter().map(|p| p["partition"].as_str().expect("a string")).collect();
        assert_eq!(shown, ids);

        assert_eq!(run(&project), (0, ids.len() as u64), "nothing to do");
        write(&project, ids[0], 100);
        assert_eq!(run(&project), (1, ids.len() as u64 - 1), "one changed");
        std::fs::remove_file(project.path(&format!("data/out/{}.parquet", ids[1]))).expect("removed");
        assert_eq!(run(&project), (1, ids.len() as u64 - 1), "one is gone");
        std::fs::remove_file(project.path(&format!("data/parts/{}.csv", ids[1]))).expect("removed");
        assert_eq!(run(&project), (0, ids.len() as u64 - 1), "one is let go");
        assert!(!project.path(&format!("data/out/{}.parquet", ids[1])).exists());
    }
}

#[test]
fn hive_folders_of_a_file_id_are_columns_for_functions() {
    let project = project(&["bucket=3/shard", "bucket=11/shard"]).edit(
        "conf/base/parameters.yml",
        "select id from o where embedding is not null order by id",
        "select id, bucket + 1 as next from o order by id",
    );
    run(&project);
    assert_eq!(project.read("data/ids.csv"), "id,next\n0,4\n1,12\n");
    let columns = read_parquet(&project.path("data/out/bucket=3/shard.parquet")).schema();
    assert!(columns.column_with_name("bucket").is_none(), "the path has it");
}

#[test]
fn without_a_suffix_every_file_is_a_partition_under_its_whole_name() {
    let project = project(&["a", "b/c"]).edit("conf/base/catalog.yml", ", filename_suffix: .csv", "").edit(
        "conf/base/catalog.yml",
        ", filename_suffix: .parquet",
        "",
    );
    assert_eq!(run(&project), (2, 0));
    assert_eq!(project.files("data/out"), ["a.csv", "b/c.csv"]);
    assert_eq!(run(&project), (0, 2));
}

#[test]
fn a_folder_of_files_as_the_plain_type_runs_too() {
    let project = project(&["2024/jan", "north"]);
    let text = project.read("conf/base/catalog.yml").replace("partitions.PartitionedDataset", "partitioned");
    project.write("conf/base/catalog.yml", &text);
    assert_eq!(run(&project), (2, 0));
    assert_eq!(project.files("data/out"), ["2024/jan.parquet", "north.parquet"]);
    assert_eq!(run(&project), (0, 2));
    // Under the plain type's name as under Kedro's: what was written under an id has that id.
    let hive = self::project(&["bucket=3/shard", "bucket=4/shard"]);
    let text =
        hive.read("conf/base/catalog.yml").replace("o: {type: partitions.PartitionedDataset", "o: {type: partitioned");
    hive.write("conf/base/catalog.yml", &text);
    assert_eq!(run(&hive), (2, 0));
    assert_eq!(hive.files("data/out"), ["bucket=3/shard.parquet", "bucket=4/shard.parquet"]);
    assert_eq!(run(&hive), (0, 2));
}

#[test]
fn what_others_wrote_among_the_partitions_is_refused_before_the_start() {
    let project = project(&["north"]).edit("conf/base/catalog.yml", ", overwrite: true", "");
    run(&project);
    project.write("data/out/theirs.parquet", "theirs");
    let output = project.flow("run --force").exits(3);
    assert!(
        output.stderr.contains("data/out/theirs.parquet") && output.stderr.contains("overwrite: true"),
        "{}",
        output.stderr
    );
    assert_eq!(project.read("data/out/theirs.parquet").trim(), "theirs");
}

#[test]
fn a_run_killed_at_any_point_of_writing_a_file_partition_is_completed_by_the_next() {
    let ids = ["2024/jan", "north"];
    for older in [false, true] {
        for point in 1.. {
            let project = project(&ids).edit("conf/base/catalog.yml", ", overwrite: true", "");
            if older {
                run(&project);
                ids.iter().enumerate().for_each(|(i, id)| write(&project, id, 50 + i));
            }
            let killed =
                project.command(["run", "-q"]).env("FLOW_UNSTABLE_KILL_AT", point.to_string()).output().expect("runs");
            let whole = killed.status.success();
            project.flow("run").exits(0);
            let first = if older { 50 } else { 0 };
            assert_eq!(project.read("data/ids.csv"), format!("id\n{first}\n{}\n", first + 1), "killed at {point}");
            assert_eq!(project.files("data/out"), ["2024/jan.parquet", "north.parquet"]);
            if whole {
                assert!(point > 5, "every write has points");
                break;
            }
        }
    }
}

#[test]
fn two_thousand_file_partitions_are_listed_and_resumed() {
    let ids: Vec<String> = (0..2000).map(|i| format!("{}/part-{i:04}", i % 7)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let project = project(&ids);
    assert_eq!(run(&project), (2000, 0));
    assert_eq!(run(&project), (0, 2000));
    assert_eq!(project.read("data/ids.csv").lines().count(), 2001);
}

#[test]
fn parameters_reach_the_template_of_a_query_by_their_names() {
    let project = project(&["north"])
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - name: some
                function: sql
                inputs: {p: p, query: params:query, k: params:k, words: params:words}
                outputs: ids
            ",
        )
        .more("conf/base/parameters.yml", "k: 1\nwords: {greeting: hello}\n")
        .edit(
            "conf/base/parameters.yml",
            "select id from o where embedding is not null order by id",
            "select id + {{ k }} as id, '{{ words.greeting }}' as word from p",
        );
    project.flow("check").exits(0);
    project.flow("run").exits(0);
    assert_eq!(project.read("data/ids.csv"), "id,word\n1,hello\n");
    project.flow("run --params k=5").exits(0);
    assert_eq!(project.read("data/ids.csv"), "id,word\n5,hello\n", "another value is another query");
    let project = project.edit("conf/base/parameters.yml", "{{ k }}", "{{ kk }}");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("`kk`") || output.stderr.contains("did you mean `k`"), "{}", output.stderr);
}

#[test]
fn file_partitions_on_stores_keep_their_ids_and_are_resumed() {
    let ids = ["100%", "2024/jan", "a#b", "bucket=3/shard", "x y/ä=1/ö"];
    for store in [stores::s3(), stores::azure()] {
        let project = project(&ids)
            .edit(
                "conf/base/catalog.yml",
                "path: data/out,",
                &format!("path: '{}/files/out', credentials: store,", store.url),
            )
            .file("conf/local/credentials.yml", &store.credentials(store.port));
        assert_eq!(run(&project), (5, 0), "{}", store.url);
        let shown = project.flow("show o --partitions --output json").exits(0).json();
        let shown = shown.as_array().expect("a list").iter().map(|one| one["partition"].as_str().expect("a text"));
        assert_eq!(shown.collect::<Vec<_>>(), ids, "{}", store.url);
        assert_eq!(run(&project), (0, 5), "{}", store.url);
        let place = store.place("files");
        let receipts =
            |place: &Place| place.files().iter().filter(|name| name.starts_with(".out.flow-partitions/")).count();
        assert_eq!(receipts(&place), 5, "one for each: {:?}", place.files());
        write(&project, ids[1], 100);
        assert_eq!(run(&project), (1, 4), "{}", store.url);
        std::fs::remove_file(project.path("data/parts/a#b.csv")).expect("removed");
        assert_eq!(run(&project), (0, 4), "{}", store.url);
        assert_eq!(receipts(&place), 4, "{:?}", place.files());
        // Another program's file under the same name, as long as before.
        let name = "out/2024/jan.parquet";
        let theirs = place.read(name).expect("there").iter().rev().copied().collect::<Vec<u8>>();
        place.put(&[(name.to_owned(), theirs.into())].into());
        let kept = project.read("conf/base/catalog.yml").replace(", overwrite: true", "");
        project.write("conf/base/catalog.yml", &kept);
        let output = project.flow("run").exits(3);
        assert!(output.stderr.contains("2024/jan.parquet"), "{}", output.stderr);
    }
}

#[test]
fn a_run_killed_while_it_writes_file_partitions_to_s3_is_completed_by_the_next() {
    let store = stores::s3();
    for point in 1.. {
        let project = project(&["2024/jan", "north"])
            .edit(
                "conf/base/catalog.yml",
                "path: data/out,",
                &format!("path: '{}/killed-{point}/out', credentials: store,", store.url),
            )
            .edit("conf/base/catalog.yml", ", overwrite: true", "")
            .file("conf/local/credentials.yml", &store.credentials(store.port));
        let killed =
            project.command(["run", "-q"]).env("FLOW_UNSTABLE_KILL_AT", point.to_string()).output().expect("runs");
        project.flow("run").exits(0);
        assert_eq!(project.read("data/ids.csv"), "id\n0\n1\n", "killed at {point}");
        let summary = project.flow("run --output json").exits(0).summary();
        assert_eq!(summary["partitions"]["skipped"], 2, "killed at {point}");
        if killed.status.success() {
            assert!(point > 5, "every write has points");
            break;
        }
    }
}

/// A project whose partitions are read after a checkpoint; `checkpoint` goes into the entry.
fn incremental(parts: &[&str], checkpoint: &str) -> Project {
    let project = project(parts)
        .edit(
            "conf/base/catalog.yml",
            "p: {type: partitions.PartitionedDataset",
            "p: {type: partitions.IncrementalDataset",
        )
        .edit("conf/base/catalog.yml", "suffix: .csv}", &format!("suffix: .csv{checkpoint}}}"))
        .edit("conf/base/catalog.yml", ", overwrite: true", "")
        .edit("pipelines/main.yml", "outputs: o}", "outputs: o, confirms: p}");
    project.write(
        "pipelines/new.yml",
        "nodes:\n  - {name: count, function: sql, inputs: {p: p, query: params:count}, outputs: n}\n",
    );
    project
        .more("conf/base/catalog.yml", "n: {type: csv, path: data/n.csv}\n")
        .more("conf/base/parameters.yml", "count: select count(*) as n from p\n")
}

#[test]
fn only_partitions_after_the_checkpoint_are_read_and_confirms_moves_it() {
    let project = incremental(&["2024-01", "2024-02"], "");
    project.flow("check").exits(0);
    assert_eq!(run(&project), (2, 0));
    assert_eq!(project.read("data/parts/CHECKPOINT").trim_end(), "2024-02");
    assert_eq!(project.read("data/n.csv"), "n\n2\n", "every node of a run sees the same partitions");
    assert_eq!(project.read("data/ids.csv"), "id\n0\n1\n");
    // Nothing is new: what was written stays.
    let shown = project.flow("show p --partitions --output json").exits(0).json();
    assert_eq!(shown, serde_json::json!([]));
    assert_eq!(run(&project), (0, 0));
    assert_eq!(project.read("data/n.csv"), "n\n2\n");

    write(&project, "2024-03", 7);
    write(&project, "2023-12", 8);
    assert_eq!(run(&project), (1, 0), "one that comes before the checkpoint is not read, as in Kedro");
    assert_eq!(project.read("data/parts/CHECKPOINT").trim_end(), "2024-03");
    assert_eq!(project.read("data/n.csv"), "n\n1\n");
    assert_eq!(project.read("data/ids.csv"), "id\n0\n1\n7\n", "the output keeps what was confirmed before");
    assert_eq!(project.files("data/out"), ["2024-01.parquet", "2024-02.parquet", "2024-03.parquet"]);
    // A table of what is new, where there is nothing and no table yet.
    std::fs::remove_file(project.path("data/n.csv")).expect("removed");
    run(&project);
    assert_eq!(project.read("data/n.csv"), "n\n0\n");
}

#[test]
fn a_forced_checkpoint_and_its_comparison_count() {
    for (checkpoint, done) in [
        (", checkpoint: b", 1),
        (", checkpoint: {force_checkpoint: b, comparison_func: operator.ge}", 2),
        (", checkpoint: ''", 3),
        (", checkpoint: {filepath: data/parts/last/CHECK, type: text.TextDataset}", 3),
    ] {
        let project = incremental(&["a", "b", "c"], checkpoint);
        assert_eq!(run(&project), (done, 0), "{checkpoint}");
    }
    for (checkpoint, message) in [
        (", checkpoint: {filepath: elsewhere/CHECK}", "`filepath` must be a file in `data/parts`"),
        (", checkpoint: {forced: b}", "`checkpoint` has no `forced`"),
    ] {
        let output = incremental(&["a"], checkpoint).flow("check").exits(2);
        assert!(output.stderr.contains(message), "{}", output.stderr);
    }
    let other = incremental(&["a"], ", checkpoint: {comparison_func: my.module.after}");
    other.flow("check").exits(0);
    other.flow("run").exits(2);
}

#[test]
fn a_checkpoint_moves_only_after_the_node_has_finished_wherever_a_run_is_killed() {
    let ids = ["a", "b", "c"];
    for point in 1.. {
        let project = incremental(&ids, "");
        let killed =
            project.command(["run", "-q"]).env("FLOW_UNSTABLE_KILL_AT", point.to_string()).output().expect("runs");
        if project.path("data/parts/CHECKPOINT").exists() {
            assert_eq!(project.files("data/out").len(), 3, "killed at {point}");
        }
        project.flow("run").exits(0);
        assert_eq!(project.read("data/parts/CHECKPOINT").trim_end(), "c", "killed at {point}");
        assert_eq!(project.read("data/ids.csv"), "id\n0\n1\n2\n", "killed at {point}");
        if killed.status.success() {
            assert!(point > 5, "every write has points");
            break;
        }
    }
}
