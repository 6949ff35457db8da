//! The pipeline against a scripted OpenAI-compatible server, through the binary.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    time::Duration,
};

use arrow::{
    array::{Array, AsArray},
    compute::cast,
    datatypes::{DataType, Float32Type},
};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use crate::{
    support::{
        Project,
        api_server::{self, ApiServer, Behaviour, Fault, When},
        small,
    },
    trouble::Disk,
};

const KEY: &str = "sk-canary-0123456789abcdefghij";
const VECTORS: &str = "data/vectors";

/// The server and the runtime it runs on.
struct Server {
    api: ApiServer,
    _runtime: Runtime,
}

fn server(behaviour: Behaviour) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let api = runtime.block_on(ApiServer::start(behaviour));
    Server { api, _runtime: runtime }
}

/// `rows` rows of the given names in buckets of ten.
fn project(server: &Server, names: impl Iterator<Item = String>) -> Project {
    let mut csv = "id,name\n".to_owned();
    for (row, name) in names.enumerate() {
        writeln!(csv, "{row:06},{name}").expect("a string takes all");
    }
    small::project("data", "")
        .file(
            "parameters.yml",
            &format!(
                "
                size: 10
                length: 40
                features: [name]
                model:
                  provider: openai
                  model: text-embedding-3-small
                  base_url: {}
                  api_key: ${{oc.env:OPENAI_API_KEY}}
                  dimensions: 8
                  retry: {{max_attempts: 8, deadline: 60s}}
                ",
                server.api.base_url()
            ),
        )
        .file("data/nodes.csv", &csv)
        .env("OPENAI_API_KEY", KEY)
}

fn names(rows: usize) -> impl Iterator<Item = String> {
    (0..rows).map(|row| format!("the name of row {row}"))
}

/// The name and the vector of every id, `None` for a row with an error.
type Vectors = BTreeMap<String, (String, Option<Vec<f32>>)>;

fn vectors(project: &Project) -> Vectors {
    vectors_in(project, VECTORS)
}

fn vectors_in(project: &Project, folder: &str) -> Vectors {
    let mut out = BTreeMap::new();
    for batch in project.table(folder).values() {
        let text = |name: &str| cast(batch.column_by_name(name).expect(name), &DataType::Utf8).expect("text");
        let (ids, names) = (text("id"), text("name"));
        // Other readers are told of lists, since a row may lack its vector.
        let lists = DataType::new_list(DataType::Float32, true);
        let vectors = cast(batch.column_by_name("embedding").expect("vectors"), &lists).expect("lists");
        let vectors = vectors.as_list::<i32>();
        for row in 0..batch.num_rows() {
            let vector =
                vectors.is_valid(row).then(|| vectors.value(row).as_primitive::<Float32Type>().values().to_vec());
            let name = names.as_string::<i32>().value(row).to_owned();
            let earlier = out.insert(ids.as_string::<i32>().value(row).to_owned(), (name, vector));
            assert!(earlier.is_none(), "a row twice");
        }
    }
    out
}

#[track_caller]
fn all_right(project: &Project, rows: usize) {
    let vectors = vectors(project);
    assert_eq!(vectors.len(), rows);
    for (id, (name, vector)) in vectors {
        assert_eq!(vector.as_deref(), Some(&*api_server::vectors::vector(&name, 8)), "row {id}");
    }
}

fn edit_data(body: String, edit: impl Fn(&mut Vec<Json>)) -> String {
    let mut json: Json = serde_json::from_str(&body).expect("a response");
    edit(json["data"].as_array_mut().expect("vectors"));
    json.to_string()
}

#[test]
fn every_row_is_right_whatever_the_server_does_in_between() {
    let server = server(Behaviour { key: Some(KEY.to_owned()), ..Behaviour::default() });
    server
        .api
        .fault(When::Nth(1), Fault::Edit(|body| edit_data(body, |data| data.reverse())))
        .fault(
            When::Nth(2),
            Fault::Status(
                429,
                vec![("retry-after".into(), "1".into())],
                r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#.into(),
            ),
        )
        .fault(When::Nth(3), Fault::Status(500, vec![], "oops".into()))
        .fault(When::Nth(4), Fault::Edit(|body| edit_data(body, |data| drop(data.pop()))))
        .fault(When::Nth(5), Fault::Cut(0.5))
        .fault(When::Nth(6), Fault::Reset)
        .fault(When::Nth(7), Fault::Status(200, vec![], "<html>busy</html>".into()));
    let project = project(&server, names(200));
    let summary = project.flow("run --output json").exits(0).summary();
    all_right(&project, 200);
    assert_eq!(summary["rows"], serde_json::json!({"ok": 200, "cached": 0, "empty": 0, "error": 0}));
    assert_eq!(summary["throttled"], 1);
    assert!(summary["retries"].as_u64().expect("a count") >= 5, "{summary}");
    assert_eq!(summary["requests"].as_u64(), Some(server.api.requests()), "every request is counted");
}

#[test]
fn many_faults_at_random_leave_every_row_right_and_none_twice() {
    let server = server(Behaviour { faults: 0.15, ..Behaviour::default() });
    let project = project(&server, names(1000));
    project.flow("run --output json").exits(0);
    all_right(&project, 1000);
}

#[test]
fn a_refused_key_stops_at_once_and_is_shown_nowhere() {
    let server = server(Behaviour { key: Some("another".to_owned()), ..Behaviour::default() });
    let project = project(&server, names(500));
    for line in [
        "run -vv",
        "run --output json",
        "runs show last",
        "runs show last --output json",
        "config show parameters",
        "plan",
    ] {
        let output = project.flow(line);
        assert!(!output.stdout.contains(KEY) && !output.stderr.contains(KEY), "{line}");
        if line.starts_with("run ") {
            let output = output.exits(3);
            assert!(
                output.stderr.contains("401") || output.stdout.contains("401"),
                "{}{}",
                output.stdout,
                output.stderr
            );
        }
    }
    assert!(server.api.requests() <= 40, "{} requests", server.api.requests());
    nowhere(&project, KEY);
}

/// Asserts that a string is in no file of the project.
#[track_caller]
fn nowhere(project: &Project, text: &str) {
    for name in project.files("") {
        let bytes = std::fs::read(project.path(&name)).expect("readable");
        assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{name}");
    }
}

#[test]
fn a_key_that_was_used_is_in_no_output_and_no_file() {
    let server = server(Behaviour { key: Some(KEY.to_owned()), ..Behaviour::default() });
    server.api.fault(
        When::Text("row 7".to_owned()),
        Fault::Status(
            400,
            vec![],
            format!(r#"{{"error":{{"message":"bad input for key {KEY}","type":"invalid_request_error"}}}}"#),
        ),
    );
    let project = project(&server, names(150));
    for line in [
        "run -vv --params +model.errors.max_row_error_rate=0.5",
        "show vectors@partitioned --head 20",
        "runs show last",
        "graph",
        "graph --format json",
        "check -v",
    ] {
        let output = project.flow(line);
        assert!(!output.stdout.contains(KEY) && !output.stderr.contains(KEY), "{line}");
    }
    nowhere(&project, KEY);
}

#[test]
fn a_plan_counts_what_is_then_sent() {
    let server = server(Behaviour { dimensions: 1536, ..Behaviour::default() });
    let project = Project::shipped().env("OPENAI_API_KEY", KEY).env("OPENAI_BASE_URL", &server.api.base_url());
    // A server of which nothing is known may be slow: it gets more requests, of fewer texts, at first.
    let like_openai = "--env openai --params +embeddings.node.model.profile=openai --output json";
    let plan = project.flow(&format!("plan {like_openai}")).exits(0).json();
    assert_eq!(server.api.requests(), 0, "a plan sends nothing");
    let summary = project.flow(&format!("run {like_openai}")).exits(0).summary();
    let tokenizer = bpe_openai::cl100k_base();
    let journal = server.api.journal();
    let tokens: usize = journal.iter().flat_map(|seen| &seen.texts).map(|text| tokenizer.count(text)).sum();
    assert_eq!(plan["total"]["requests"].as_u64(), Some(journal.len() as u64));
    assert_eq!(plan["total"]["tokens"].as_u64(), Some(tokens as u64));
    assert_eq!(summary["requests"], plan["total"]["requests"]);
    let again = project.flow(&format!("plan {like_openai}")).exits(0).json();
    assert_eq!(again["total"]["requests"], 0);
}

#[test]
fn what_was_paid_for_is_not_paid_for_again() {
    let server = server(Behaviour::default());
    let project = project(&server, names(100).chain(names(100)));
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["rows"]["ok"], 100);
    assert_eq!(summary["rows"]["cached"], 100, "identical texts cost one input");
    assert!(server.api.embedded().values().all(|times| *times == 1));
    let before = server.api.requests();
    project.flow("run --params size=7").exits(0);
    std::fs::remove_dir_all(project.path(VECTORS)).expect("removed");
    project.flow("run").exits(0);
    assert_eq!(server.api.requests(), before, "other buckets, or a deleted output: no request");
    all_right(&project, 200);
    let stats = project.flow("cache stats --output json").exits(0).json();
    assert_eq!(stats[0]["entries"], 100);
    assert_eq!(project.flow("cache verify --output json").exits(0).json()[0]["sound"], true);
}

#[test]
fn caps_stop_before_they_are_passed() {
    let server = server(Behaviour::default());
    let project = project(&server, names(300));
    let output = project.flow("run --max-requests 3 --output json").exits(75);
    assert_eq!(server.api.requests(), 3);
    assert_eq!(output.summary()["status"], "failed");
    let output = project.flow("run --max-cost 0 --output json").exits(75);
    assert_eq!((server.api.requests(), &output.summary()["cost_usd"]), (3, &Json::from(0.0)));
    project.flow("run").exits(0);
    all_right(&project, 300);
}

#[test]
fn exhausted_quota_stops_and_keeps_what_is_done() {
    let server = server(Behaviour::default());
    let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    server.api.fault(When::Text("row 155".to_owned()), Fault::Status(429, vec![], body.to_owned()));
    let project = project(&server, names(300));
    let output = project.flow("run").exits(75);
    assert!(output.stderr.contains("quota"), "{}", output.stderr);
    server.api.clear_faults();
    project.flow("run").exits(0);
    all_right(&project, 300);
    assert!(server.api.embedded().values().all(|times| *times == 1), "nothing was paid for twice");
}

/// A server that refuses every request with a text that contains `poison`, with this message.
fn poisoned(message: &str) -> Server {
    let server = server(Behaviour::default());
    let body = format!(r#"{{"error":{{"message":"{message}","type":"invalid_request_error"}}}}"#);
    server.api.fault(When::Text("poison".to_owned()), Fault::Status(400, vec![], body));
    server
}

#[test]
fn poison_rows_carry_their_reason_and_their_neighbours_are_saved() {
    // The server always names the fourth text: what a server names may be wrong.
    let server = poisoned("'$.input[3]' is invalid");
    let rows = 1000;
    let name = |row: usize| if row % 250 == 100 { format!("poison {row}") } else { format!("row {row}") };
    let project = project(&server, (0..rows).map(name));
    let size = "--params size=500,+model.profile=openai";
    let summary = project.flow(&format!("run {size} --output json")).exits(5).summary();
    assert_eq!(summary["rows"]["error"], 4);
    let vectors = vectors(&project);
    for (name, vector) in vectors.values() {
        assert_eq!(vector.is_none(), name.starts_with("poison"), "{name}");
    }
    assert!(server.api.requests() <= 2 + 4 * 25, "{} requests", server.api.requests());
    // The next run computes nothing, and still says that rows carry errors.
    let before = server.api.requests();
    let again = project.flow(&format!("run {size} --output json")).exits(5).summary();
    assert_eq!((server.api.requests(), &again["rows"]["error"]), (before, &Json::from(4)));
    // One row in 250 is too many for a lower bound.
    project.flow("run --force --params size=500,+model.errors.max_row_error_rate=0.001").exits(1);
}

#[test]
fn a_hundred_poison_rows_among_a_hundred_thousand_are_exactly_those_with_an_error() {
    let server = poisoned("'$.input' is invalid");
    let rows = 100_000;
    let is_poison = |row: usize| row % 1000 == 500;
    let name = |row: usize| if is_poison(row) { format!("poison {row}") } else { format!("row {row}") };
    let project = project(&server, (0..rows).map(name));
    let summary = project.flow("run --params size=2000 --output json").exits(5).summary();
    assert_eq!((&summary["rows"]["error"], &summary["rows"]["ok"]), (&Json::from(100), &Json::from(99_900)));
    let vectors = vectors(&project);
    assert_eq!(vectors.len(), rows);
    for (id, (name, vector)) in vectors {
        let expected = (!name.starts_with("poison")).then(|| api_server::vectors::vector(&name, 8));
        assert_eq!(vector, expected, "row {id}");
    }
    let least = 50;
    assert!(server.api.requests() <= least + 100 * 25, "{} requests", server.api.requests());
}

#[test]
fn killed_at_random_only_texts_in_flight_are_sent_twice() {
    let server =
        server(Behaviour { latency: (Duration::from_millis(5), Duration::from_millis(30)), ..Behaviour::default() });
    let rows = 1500;
    let project = project(&server, names(rows));
    // Requests that the server had seen at each kill.
    let mut kills = Vec::new();
    for kill in 0..10 {
        let mut child = project.spawn("run -q");
        let goal = server.api.requests() + 6 + kill * 2;
        while child.try_wait().expect("a child").is_none() && server.api.requests() < goal {
            std::thread::yield_now();
        }
        child.kill().expect("killed");
        child.wait().expect("over");
        kills.push(server.api.journal().len());
    }
    project.flow("run -q").exits(0);
    all_right(&project, rows);
    let mut last: HashMap<String, usize> = HashMap::new();
    let mut again = vec![0; kills.len()];
    for (number, seen) in server.api.journal().into_iter().enumerate() {
        let run = kills.partition_point(|kill| *kill <= number);
        for text in seen.texts {
            if let Some(before) = last.insert(text, run) {
                // What was on its way to the server at a kill may have come there after it.
                let kill = if before == run { before.checked_sub(1) } else { Some(before) };
                again[kill.expect("nothing is sent twice before the first kill")] += 1;
            }
        }
    }
    assert_eq!(last.len(), rows);
    // Ten partitions of ten rows are worked on at a time.
    assert!(again.iter().all(|texts| *texts <= 100), "texts sent again after each kill: {again:?}");
}

#[test]
fn two_servers_behind_one_variable_are_two_servers() {
    let (one, other) = (server(Behaviour::default()), server(Behaviour::default()));
    other
        .api
        .fault(When::Always, Fault::Vectors(|vectors| vectors.iter_mut().flatten().for_each(|number| *number *= -1.0)));
    let address = format!("base_url: {}", one.api.base_url());
    let mut project = project(&one, names(30)).edit("parameters.yml", &address, "timeout: 30");
    let mut made = Vec::new();
    for (at, seen) in [(&one, (3, 0)), (&other, (3, 3)), (&one, (3, 3)), (&other, (3, 3))] {
        project = project.env("OPENAI_BASE_URL", &at.api.base_url());
        let printed = project.flow("run").exits(0).stderr;
        assert_eq!((one.api.requests(), other.api.requests()), seen, "{printed}");
        // What was paid for once comes from the cache, and the run says so.
        assert_eq!(printed.contains("0 requests, 30 rows from the cache"), made.len() >= 2, "{printed}");
        made.push(vectors(&project));
        let again = project.flow("run --output json").exits(0).summary();
        assert_eq!(again["partitions"]["done"], 0, "with the same server everything is up to date");
    }
    assert_eq!((&made[0], &made[1]), (&made[2], &made[3]));
    for ((_, ours), (_, theirs)) in made[0].values().zip(made[1].values()) {
        let (ours, theirs) = (ours.as_ref().expect("a vector"), theirs.as_ref().expect("a vector"));
        assert!(ours.iter().zip(theirs).all(|(a, b)| *a == -b), "each server's own vectors are kept");
    }
}

#[test]
fn nodes_that_embed_the_same_texts_at_once_send_each_text_once() {
    let latency = (Duration::from_millis(20), Duration::from_millis(60));
    let server = server(Behaviour { latency, ..Behaviour::default() });
    let project = project(&server, names(300))
        .more(
            "catalog.yml",
            "second@partitioned: {type: partitioned, path: data/second, dataset: {type: parquet}, filename_suffix: .parquet}\n",
        )
        .more(
            "pipelines/main.yml",
            "  - name: embed_again\n    function: compute_embeddings\n    inputs: {dfs: buckets@partitioned, model: params:model}\n    outputs: second@partitioned\n",
        );
    let summary = project.flow("run -j 4 --output json").exits(0).summary();
    let embedded = server.api.embedded();
    assert_eq!(embedded.len(), 300);
    assert!(embedded.values().all(|times| *times == 1), "{embedded:?}");
    assert_eq!((&summary["rows"]["ok"], &summary["rows"]["cached"]), (&Json::from(300), &Json::from(300)));
    all_right(&project, 300);
    assert_eq!(vectors(&project), vectors_in(&project, "data/second"));
}

#[test]
fn one_response_of_another_length_after_good_ones_costs_one_request() {
    let server = server(Behaviour::default());
    server.api.fault(When::Nth(20), Fault::Vectors(|vectors| vectors.iter_mut().for_each(|vector| vector.truncate(7))));
    let project = project(&server, names(300));
    let summary = project.flow("run --output json").exits(0).summary();
    all_right(&project, 300);
    assert_eq!((&summary["retries"], server.api.requests()), (&Json::from(1), 31));
}

/// A project whose vectors are long enough to fill a small disk, with its cache there.
fn large(server: &Server, cache: &str) -> Project {
    project(server, names(300)).edit(
        "parameters.yml",
        "dimensions: 8",
        &format!("dimensions: 1000\n  cache: {{path: {cache}}}"),
    )
}

/// The server sent every vector once, however many runs it took.
#[track_caller]
fn nothing_was_paid_for_twice(server: &Server, project: &Project) {
    let embedded = server.api.embedded();
    assert_eq!((embedded.len(), vectors(project).len()), (300, 300));
    assert!(embedded.values().all(|times| *times == 1), "{embedded:?}");
}

#[test]
fn a_disk_that_fills_up_stops_the_run_before_anything_is_paid_for_that_cannot_be_kept() {
    let server = server(Behaviour::default());
    let project = large(&server, "full/cache");
    let Some(disk) = Disk::mount(&project.path("full"), "size=512k") else { return };
    let stopped = project.flow("run").exits(75);
    assert!(stopped.stderr.contains("full/cache") && stopped.stderr.contains("No space left"), "{}", stopped.stderr);
    let paid = server.api.requests();
    assert!(paid > 0 && paid < 30, "{paid} requests");
    // Full before the start: nothing is sent, however often it is tried.
    for _ in 0..3 {
        let refused = project.flow("run").exits(3);
        assert!(
            refused.stderr.contains("full/cache") && refused.stderr.contains("No space left"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(server.api.requests(), paid);
    disk.remount("size=64m");
    project.flow("run -q").exits(0);
    nothing_was_paid_for_twice(&server, &project);
}

#[test]
fn a_full_disk_of_the_output_stops_the_run_and_what_was_paid_for_is_in_the_cache() {
    let server = server(Behaviour::default());
    let project = large(&server, "kept").edit("catalog.yml", "data/vectors", "full/vectors");
    let Some(disk) = Disk::mount(&project.path("full"), "size=512k") else { return };
    let stopped = project.flow("run").exits(75);
    assert!(stopped.stderr.contains("full/") && stopped.stderr.contains("No space left"), "{}", stopped.stderr);
    assert!(server.api.requests() < 30, "the rest was not requested: {}", server.api.requests());
    disk.remount("size=64m");
    project.flow("run -q").exits(0);
    let embedded = server.api.embedded();
    assert!(embedded.len() == 300 && embedded.values().all(|times| *times == 1), "{embedded:?}");
    assert_eq!(vectors_in(&project, "full/vectors").len(), 300);
}

#[test]
fn a_cache_that_cannot_be_one_is_refused_before_the_start() {
    let server = server(Behaviour::default());
    let project = project(&server, names(30));
    let refused = project.flow("run --params +model.cache.path=catalog.yml").exits(3);
    assert!(refused.stderr.contains("catalog.yml cannot be written"), "{}", refused.stderr);
    assert_eq!(server.api.requests(), 0);
    assert!(project.files("data/buckets").is_empty(), "nothing was begun");
}

#[test]
fn what_was_adapted_to_a_server_is_in_the_last_event() {
    let server = server(Behaviour::default());
    server.api.fault(
        When::MoreThan(4),
        Fault::Status(
            400,
            vec![],
            r#"{"error":{"message":"batch size 10 > maximum allowed batch size 4"}}"#.to_owned(),
        ),
    );
    let project = project(&server, names(40));
    let summary = project.flow("run --output json").exits(0).summary();
    let [adapted] = &summary["adapted"].as_array().expect("a list")[..] else { panic!("{summary}") };
    assert_eq!(adapted["settings"], "{batch: {max_inputs: 4}}");
    assert!(
        adapted["endpoint"].as_str().is_some_and(|address| address.starts_with(&server.api.base_url())),
        "{adapted}"
    );
    let again = project.flow("run --output json").exits(0).summary();
    assert_eq!(again["adapted"], serde_json::json!([]), "nothing was requested");
}
