//! Empty inputs count as missing, unless a node of the run wrote them so; and most of a dataset is not removed without a
//! confirmation.

use std::fs;

use crate::support::{Output, Project, small};

fn ran(rows: usize) -> Project {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..rows, "any", 2));
    project.flow("run -q").exits(0);
    project
}

fn vectors(project: &Project) -> Vec<String> {
    project.files("data/out/vectors")
}

#[track_caller]
fn says(output: &Output, words: &[&str]) {
    words.iter().for_each(|word| assert!(output.stderr.contains(word), "{word:?} in {}", output.stderr));
}

/// Both views of the buckets have the suffix `.parquet` in one entry, which this changes.
fn with_suffix(project: Project, suffix: &str) -> Project {
    let catalog = project.read("catalog.yml");
    let entry = catalog.lines().find(|line| line.contains("buckets@partitioned")).expect("an entry").to_owned();
    let wrong = entry.replace("filename_suffix: .parquet", &format!("filename_suffix: {suffix}"));
    project.edit("catalog.yml", &entry, &wrong)
}

#[test]
fn a_wrong_filename_suffix_removes_no_vectors_and_is_not_up_to_date() {
    for computed in [true, false] {
        let project = ran(100);
        if !computed {
            fs::remove_dir_all(project.path("data/out/vectors")).expect("removed");
        }
        let (project, before) = (with_suffix(project, ".pq"), vectors(&Project::empty()));
        let before = if computed { vectors(&project) } else { before };
        for command in ["run", "run --nodes embed", "run --yes", "plan"] {
            let output = project.flow(command).exits(3);
            says(&output, &["`buckets@partitioned` has no partitions", "10 files", "`filename_suffix`"]);
            assert_eq!(vectors(&project), before, "{command}");
        }
    }
}

#[test]
fn an_input_folder_that_was_moved_away_is_missing_though_a_node_of_the_project_writes_it() {
    let project = ran(100);
    let before = vectors(&project);
    fs::rename(project.path("data/out/buckets"), project.path("data/moved")).expect("moved");
    for command in ["run --nodes embed", "run --nodes embed --yes", "plan --nodes embed"] {
        let output = project.flow(command).exits(3);
        says(&output, &["`buckets@partitioned`", "is missing", "data/out/buckets"]);
        assert_eq!(vectors(&project), before, "{command}");
    }
    // The node that writes it makes it again.
    project.flow("run -q").exits(0);
    assert_eq!(vectors(&project), before);
}

#[test]
fn views_of_a_written_dataset_at_different_paths_are_an_error() {
    let project = ran(100);
    let catalog = project.read("catalog.yml");
    let entry = catalog.lines().find(|line| line.contains("buckets@partitioned")).expect("an entry").to_owned();
    let project = project.edit("catalog.yml", &entry, &entry.replace("data/out/buckets", "data/out/bucket"));
    let before = vectors(&project);
    let output = project.flow("run").exits(2);
    says(&output, &["graph::views-apart", "have different locations"]);
    assert_eq!(vectors(&project), before);
}

#[test]
fn removing_is_announced_with_its_number_and_most_of_a_dataset_only_goes_with_a_yes() {
    let project = ran(100);
    let before = vectors(&project);
    // Bucketized again by a run of its own, so that what is to be removed is known before the second run begins.
    project.write("data/nodes.csv", &small::csv(0..20, "any", 2));
    project.flow("run -q --nodes cut").exits(0);
    let plan = project.flow("plan --output json").exits(0).json();
    assert_eq!(plan["nodes"][1]["removes"], 8, "{plan}");
    assert!(plan["nodes"][1]["refused"][0].as_str().is_some_and(|text| text.contains("--yes")), "{plan}");
    for command in ["run", "run --force", "run --nodes embed"] {
        let output = project.flow(command).exits(3);
        says(&output, &["would remove 8 of the 10 partitions of `vectors@partitioned`", "help: ", "`--yes`"]);
        assert_eq!(vectors(&project), before, "{command}");
    }
    let project = project.env("FLOW_YES", "true");
    let output = project.flow("run").exits(0);
    says(&output, &["removes 8 of the 10 partitions of `vectors@partitioned`"]);
    assert_eq!(vectors(&project).len(), 2);
}

#[test]
fn most_of_a_dataset_stays_when_only_the_run_itself_learns_that_it_would_go() {
    let project = ran(100);
    let before = vectors(&project);
    project.write("data/nodes.csv", &small::csv(0..20, "any", 2));
    let output = project.flow("run").exits(3);
    says(&output, &["would remove 8 of the 10 partitions", "`--yes`"]);
    assert_eq!(vectors(&project), before);
    project.flow("run -q --yes").exits(0);
    assert_eq!(vectors(&project).len(), 2);
}

#[test]
fn removing_less_than_half_is_announced_and_done() {
    let project = ran(100);
    project.write("data/nodes.csv", &small::csv(0..70, "any", 2));
    project.flow("run -q --nodes cut").exits(0);
    let output = project.flow("run").exits(0);
    says(&output, &["removes 3 of the 10 partitions of `vectors@partitioned`"]);
    assert_eq!(vectors(&project).len(), 7);
}
