//! Outputs in memory are computed where something that reads them is, and a second run does nothing.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::support::Project;

/// A graph of nodes `n0`, `n1`, …, each of which adds up its inputs and a number of its own.
struct Sketch {
    /// The nodes before that each reads; the source for none.
    reads: Vec<Vec<usize>>,
    in_memory: Vec<bool>,
    own: Vec<usize>,
}

impl Sketch {
    /// A graph that is the same for the same seed. The last node, and every one that nobody reads, writes a file.
    fn random(seed: u64, nodes: usize) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        let mut reads: Vec<Vec<usize>> = Vec::new();
        for node in 0..nodes {
            let found: BTreeSet<usize> = (0..2).filter(|_| node > 0).map(|_| next(node)).collect();
            reads.push(if next(5) == 0 { Vec::new() } else { found.into_iter().collect() });
        }
        let in_memory = (0..nodes).map(|node| next(4) > 0 && reads.iter().any(|of| of.contains(&node))).collect();
        Self { reads, in_memory, own: (0..nodes).collect() }
    }

    fn project(&self) -> Project {
        let project = Project::empty().file("data/source.csv", "n\n1\n").file("parameters.yml", "");
        self.write(&project);
        project
    }

    fn write(&self, project: &Project) {
        let mut catalog = "source: {type: csv, path: data/source.csv}\n".to_owned();
        let (mut parameters, mut nodes) = (String::new(), "nodes:\n".to_owned());
        for (node, reads) in self.reads.iter().enumerate() {
            let kind = if self.in_memory[node] { "type: memory".to_owned() } else { file(node) };
            catalog += &format!("d{node}: {{{kind}}}\n");
            let inputs: Vec<String> = match reads.is_empty() {
                true => vec!["source".to_owned()],
                false => reads.iter().map(|of| format!("d{of}")).collect(),
            };
            let rows: Vec<String> = inputs.iter().map(|input| format!("select n from {input}")).collect();
            parameters +=
                &format!("q{node}: select sum(n) + {} as n from ({})\n", self.own[node], rows.join(" union all "));
            let ports: Vec<String> = inputs.iter().map(|input| format!("{input}: {input}")).collect();
            nodes += &format!(
                "  - {{name: n{node}, function: sql, inputs: {{{}, query: 'params:q{node}'}}, outputs: d{node}}}\n",
                ports.join(", ")
            );
        }
        project.write("catalog.yml", &catalog);
        project.write("parameters.yml", &parameters);
        project.write("pipelines/main.yml", &nodes);
    }

    /// The nodes that have to run after node `changed` was changed: what is written after it, and what these read from memory.
    fn affected(&self, changed: usize) -> BTreeSet<usize> {
        let mut later = BTreeSet::from([changed]);
        for node in changed..self.reads.len() {
            if self.reads[node].iter().any(|of| later.contains(of)) {
                later.insert(node);
            }
        }
        let mut runs: BTreeSet<usize> = later.into_iter().filter(|node| !self.in_memory[*node]).collect();
        for node in (0..self.reads.len()).rev().filter(|node| self.in_memory[*node]).collect::<Vec<_>>() {
            if runs.iter().any(|reader| self.reads[*reader].contains(&node)) {
                runs.insert(node);
            }
        }
        runs
    }
}

fn file(node: usize) -> String {
    format!("type: csv, path: data/d{node}.csv")
}

/// The numbers of the nodes that a run computes.
fn run(project: &Project, line: &str) -> BTreeSet<usize> {
    let events = project.flow(&format!("run --output json {line}")).exits(0).lines();
    let started = events.iter().filter(|event| event["kind"] == "node.started");
    started.map(|event| event["node"].as_str().expect("a name")[1..].parse().expect("a number")).collect()
}

/// The numbers of the nodes that a plan says will run.
fn planned(project: &Project) -> BTreeSet<usize> {
    let plan = project.flow("plan --output json").exits(0).json();
    let nodes = plan["nodes"].as_array().expect("nodes");
    let runs = nodes.iter().filter(|node| node["action"] == "run");
    runs.map(|node| node["name"].as_str().expect("a name")[1..].parse().expect("a number")).collect()
}

#[test]
fn a_second_run_does_nothing_whatever_is_kept_in_memory_and_a_change_runs_what_depends_on_it() {
    for seed in 0..8 {
        let mut sketch = Sketch::random(seed, 9);
        let project = sketch.project();
        let all = run(&project, "");
        assert!(all.iter().filter(|node| !sketch.in_memory[**node]).count() > 0, "{seed}");
        assert_eq!(run(&project, ""), BTreeSet::new(), "{seed}: {:?} {:?}", sketch.reads, sketch.in_memory);
        let changed = (seed as usize * 5 + 2) % 9;
        sketch.own[changed] += 1000;
        sketch.write(&project);
        let expected = sketch.affected(changed);
        let graph = format!("{seed}: n{changed} changed in {:?} {:?}", sketch.reads, sketch.in_memory);
        assert!(planned(&project).is_superset(&expected), "{graph}");
        assert_eq!(run(&project, ""), expected, "{graph}");
        let fresh = sketch.project();
        run(&fresh, "");
        for node in (0..9).filter(|node| !sketch.in_memory[*node]) {
            let path = format!("data/d{node}.csv");
            assert_eq!(project.read(&path), fresh.read(&path), "{graph}");
        }
        assert_eq!(run(&project, ""), BTreeSet::new(), "{graph}");
    }
}

#[test]
fn a_chain_in_memory_of_any_length_runs_once() {
    for length in [1, 2, 5, 40] {
        // Each link reads the one before and a second dataset in memory.
        let mut reads: Vec<Vec<usize>> = vec![Vec::new(), Vec::new()];
        (0..length)
            .for_each(|link| reads.push(vec![1, link + 1].into_iter().collect::<BTreeSet<_>>().into_iter().collect()));
        let nodes = reads.len();
        let mut sketch = Sketch {
            reads,
            in_memory: (0..nodes).map(|node| node + 1 < nodes && node > 0).collect(),
            own: vec![1; nodes],
        };
        let project = sketch.project();
        assert_eq!(run(&project, "").len(), nodes, "{length}");
        assert_eq!(run(&project, ""), BTreeSet::new(), "{length}");
        assert_eq!(planned(&project), BTreeSet::new(), "{length}");
        // The node that nothing in the chain reads runs alone.
        sketch.own[0] = 7;
        sketch.write(&project);
        assert_eq!(run(&project, ""), BTreeSet::from([0]), "{length}");
    }
}

#[test]
fn an_output_in_memory_is_computed_for_a_reader_whose_other_input_is_written_again() {
    // n0 stays in memory, n1 writes a file, n2 reads both.
    let mut sketch = Sketch {
        reads: vec![Vec::new(), Vec::new(), vec![0, 1]],
        in_memory: vec![true, false, false],
        own: vec![1, 2, 3],
    };
    let project = sketch.project();
    run(&project, "");
    sketch.own[1] = 20;
    sketch.write(&project);
    assert_eq!(planned(&project), BTreeSet::from([0, 1, 2]));
    assert_eq!(run(&project, ""), BTreeSet::from([0, 1, 2]));
    assert!(project.read("data/d2.csv").contains("26"), "{}", project.read("data/d2.csv"));
}

#[test]
fn a_plan_says_which_of_the_nodes_in_memory_changed() {
    let project = Project::empty()
        .file("catalog.yml", "source: {type: csv, path: data/source.csv}\none: {type: memory}\ntwo: {type: memory}\nout: {type: parquet, path: data/out.parquet}\n")
        .file("parameters.yml", "n: 1\n")
        .file("data/source.csv", "n\n1\n")
        .file("src/first.py", "def step(rows: list[dict]):\n    return rows\n")
        .file("src/second.py", "def step(rows: list[dict]):\n    return rows\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: first, function: 'python:first.step', inputs: source, outputs: one}\n  - {name: second, function: \
             'python:second.step', inputs: one, outputs: two}\n  - {name: third, function: 'python:first.step', inputs: two, outputs: out}\n",
        );
    project.flow("run").exits(0);
    let project = project.edit("src/second.py", "return rows", "return rows * 2");
    let plan = project.flow("plan --output json").exits(0).json();
    let reasons: Vec<&Json> = plan["nodes"].as_array().expect("nodes").iter().map(|node| &node["reason"]).collect();
    assert_eq!(reasons[0], "output is kept in memory only");
    assert_eq!(reasons[1], "src/second.py changed");
    project.flow("run").exits(0);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 3);
}

#[test]
fn a_node_whose_outputs_nobody_reads_runs_for_its_own_sake() {
    let project = Project::empty()
        .file("catalog.yml", "source: {type: csv, path: data/source.csv}\none: {type: memory}\ntwo: {type: memory}\n")
        .file("parameters.yml", "n: 1\n")
        .file("data/source.csv", "n\n1\n")
        .file("src/work.py", "def show(rows: list[dict]):\n    print('shown', len(rows))\n    return rows, rows\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: show, function: 'python:work.show', inputs: source, outputs: [one, two]}\n",
        );
    let output = project.flow("run").exits(0);
    assert!(output.stderr.contains("shown 1"), "{}", output.stderr);
}

#[test]
fn partitions_in_memory_are_computed_for_the_node_that_works_on_them_one_by_one() {
    let project = Project::empty()
        .file(
            "catalog.yml",
            "parts: {type: partitioned, path: data/parts, dataset: csv, filename_suffix: .csv}\nheld: {type: memory, shape: partitions}\ndone: \
             {type: partitioned, path: data/done, dataset: parquet, filename_suffix: .parquet, overwrite: true}\n",
        )
        .file("parameters.yml", "n: 1\n")
        .file(
            "src/work.py",
            "def first(rows: list[dict]):\n    return rows\n\ndef work(rows: list[dict]):\n    open('calls', 'a').write('x')\n    return rows\n",
        )
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: first, function: 'python:work.first', inputs: parts, outputs: held}\n  - {name: work, function: \
             'python:work.work', inputs: held, outputs: done, workers: 1}\n",
        );
    (0..3).for_each(|part| project.write(&format!("data/parts/part={part}/rows.csv"), &format!("n\n{part}\n")));
    let run = |calls: &str| {
        project.flow("run").exits(0);
        assert_eq!((project.files("data/done").len(), project.read("calls").as_str()), (3, calls));
    };
    run("xxx");
    run("xxx");
    project.write("data/parts/part=1/rows.csv", "n\n7\n");
    run("xxxx");
}
