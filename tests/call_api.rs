//! `call_api` through the binary, against scripted services: NodeNorm's and NameRes's shapes, faults, pages, secrets.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use arrow::{
    array::{Array, AsArray},
    compute::cast,
    datatypes::DataType,
};
use serde_json::{Value as Json, json};

use crate::support::{
    Project,
    rest_server::{Asked, Reply, RestServer},
    small::{Asks, asking},
};

const KEY: &str = "canary-key-0123456789abcdef";

/// The strings under a path of a request's body.
fn strings(asked: &Asked, name: &str) -> Vec<String> {
    let list = asked.body[name].as_array().into_iter().flatten();
    list.map(|item| item.as_str().expect("a string").to_owned()).collect()
}

/// What NodeNorm says about a curie: one in 33 is unknown.
fn node(curie: &str) -> Json {
    let number: u32 = curie.rsplit(':').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if number.is_multiple_of(33) {
        return Json::Null;
    }
    json!({
        "id": {"identifier": format!("N:{number}"), "label": format!("node {number}")},
        "type": ["biolink:Drug", format!("biolink:T{}", number % 5)],
        "information_content": f64::from(number) / 2.0,
    })
}

/// `POST /get_normalized_nodes`: an object keyed by the curie as sent, 422 for a batch with one malformed curie, and faults.
fn nodenorm(faults: bool) -> RestServer {
    RestServer::start(move |asked| {
        if asked.target == "/openapi.json" {
            return Reply::json(&json!({"info": {"version": "2.3.1"}}));
        }
        assert_eq!(asked.target, "/1.5/get_normalized_nodes", "{asked:?}");
        assert_eq!(asked.body["conflate"], json!(true));
        match asked.number {
            // A value alone is judged by its own response: two failures in a row would be its row's error.
            n if faults && n % 13 == 7 && strings(asked, "curies").len() > 1 => {
                return Reply::status(500, "Internal Server Error");
            }
            n if faults && n % 29 == 11 => return Reply::status(429, "").header("retry-after-ms", 20),
            _ => {}
        }
        let curies = strings(asked, "curies");
        if let Some(bad) = curies.iter().find(|curie| !curie.contains(':')) {
            return Reply::status(422, &json!({"detail": format!("not a curie: {bad}")}).to_string());
        }
        let delay = if faults && asked.number % 17 == 3 { Duration::from_millis(300) } else { Duration::ZERO };
        let all: serde_json::Map<String, Json> =
            curies.into_iter().map(|curie| (curie.clone(), node(&curie))).collect();
        Reply::json(&Json::Object(all)).after(delay)
    })
}

/// A project that sends column `name` of `rows` to an API; `api` are the keys of the mapping.
fn project(rows: impl Iterator<Item = String>, bucket_size: usize, api: &str) -> Project {
    let asks = Asks { node: "ask", function: "call_api", port: "api", output: "answers" };
    asking(rows, bucket_size, &asks, api).env("API_TOKEN", KEY)
}

fn nodenorm_api(server: &RestServer, batch_size: usize, more: &str) -> String {
    format!(
        "key: name
batch_size: {batch_size}
request:
  url: {}
  json: {{curies: '{{{{ batch.name }}}}', conflate: true}}
response:
  match: key
  columns:
    normalized: $.id.identifier
    categories: {{path: $.type, type: 'list<string>'}}
    content: {{path: $.information_content, type: float64}}
retry: {{max_attempts: 8, deadline: 60s}}
errors: {{max_row_error_rate: 0.1}}
{more}",
        server.url("/1.5/get_normalized_nodes")
    )
}

/// The columns of a row.
#[derive(Debug, PartialEq)]
struct Row {
    normalized: Option<String>,
    categories: Option<Vec<String>>,
    content: Option<String>,
    error: Option<String>,
}

fn text(batch: &arrow::array::RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = cast(batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")), &DataType::Utf8);
    column.expect("text").as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

/// The rows of the result by name and position.
fn rows(project: &Project) -> BTreeMap<String, Row> {
    let mut all = BTreeMap::new();
    for batch in project.table("data/answers").values() {
        let names = text(batch, "name");
        let categories = batch.column_by_name("categories").expect("categories").as_list::<i32>();
        let (normalized, content, errors) =
            (text(batch, "normalized"), text(batch, "content"), text(batch, "api_error"));
        for row in 0..batch.num_rows() {
            let list = categories.is_valid(row).then(|| {
                let list = cast(&categories.value(row), &DataType::Utf8).expect("text");
                list.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
            });
            let found = Row {
                normalized: normalized[row].clone(),
                categories: list,
                content: content[row].clone(),
                error: errors[row].clone(),
            };
            assert!(all.insert(names[row].clone().unwrap_or_default(), found).is_none(), "{:?} twice", names[row]);
        }
    }
    all
}

#[track_caller]
fn assert_right(name: &str, row: &Row) {
    let answer = node(name);
    assert_eq!(row.error, None, "{name}");
    assert_eq!(row.normalized.as_deref(), answer["id"]["identifier"].as_str(), "{name}");
    let categories = answer["type"]
        .as_array()
        .map(|list| list.iter().map(|item| item.as_str().expect("a string").to_owned()).collect::<Vec<_>>());
    assert_eq!(row.categories, categories, "{name}");
    let content = row.content.as_ref().map(|text| text.parse::<f64>().expect("a number"));
    assert_eq!(content, answer["information_content"].as_f64(), "{name}");
}

/// 100,000 curies, of which 20 are malformed.
fn curies() -> impl Iterator<Item = String> {
    (0..100_000).map(|n| if n % 5000 == 77 { format!("malformed {n}") } else { format!("CHEBI:{n}") })
}

fn is_malformed(name: &str) -> bool {
    name.starts_with("malformed")
}

/// How often each curie had an answer.
fn answered(server: &RestServer) -> HashMap<String, u32> {
    let mut times = HashMap::new();
    for asked in server.journal().iter().filter(|asked| asked.status == 200) {
        strings(asked, "curies").into_iter().for_each(|curie| *times.entry(curie).or_default() += 1);
    }
    times
}

#[test]
fn every_good_row_is_right_and_malformed_values_cost_only_their_own_rows() {
    let server = nodenorm(true);
    let project = project(curies(), 10_000, &nodenorm_api(&server, 1000, ""));
    let summary = project.flow("run --output json").exits(5).summary();
    let found = rows(&project);
    assert_eq!(found.len(), 100_000);
    let (bad, good): (Vec<_>, Vec<_>) = found.iter().partition(|(name, _)| is_malformed(name));
    assert_eq!(bad.len(), 20);
    for (name, row) in &bad {
        let error = row.error.as_deref().unwrap_or_default();
        assert!(
            error.starts_with("rejected: 422") && error.contains(&format!("not a curie: {name}")),
            "{name}: {error}"
        );
        assert_eq!((&row.normalized, &row.categories), (&None, &None));
    }
    good.iter().for_each(|(name, row)| assert_right(name, row));
    assert_eq!(summary["rows"], json!({"ok": 99_980, "cached": 0, "empty": 0, "error": 20}));
    assert_eq!(summary["requests"].as_u64(), Some(server.requests()), "every request is counted");
    let again: HashMap<String, u32> = answered(&server).into_iter().filter(|(_, times)| *times > 1).collect();
    // What answers a probe is sent twice.
    assert!(again.len() <= 3, "{again:?}");

    // Unknown is an answer: a second run, also with other partitions and other columns, asks only for the malformed ones.
    let before = server.requests();
    project.flow("run --output json").exits(5);
    assert_eq!(server.requests(), before, "everything is up to date");
    let changed = project.edit("parameters.yml", "size: 10000", "size: 25000").edit(
        "parameters.yml",
        "normalized: $.id.identifier",
        "normalized: $.id.label",
    );
    let summary = changed.flow("run --yes --output json").exits(5).summary();
    assert_eq!(summary["rows"], json!({"ok": 0, "cached": 99_980, "empty": 0, "error": 20}));
    let asked: HashSet<String> =
        server.journal()[before as usize..].iter().flat_map(|asked| strings(asked, "curies")).collect();
    assert!(asked.iter().filter(|curie| !is_malformed(curie)).count() <= 3, "{}", asked.len());
}

#[test]
fn a_killed_run_is_resumed_and_asks_for_nothing_twice_but_what_was_in_flight() {
    let server = RestServer::start(|asked| {
        let curies = strings(asked, "curies");
        let all: serde_json::Map<String, Json> =
            curies.into_iter().map(|curie| (curie.clone(), node(&curie))).collect();
        Reply::json(&Json::Object(all)).after(Duration::from_millis(20))
    });
    let names = || (1..=20_000).map(|n| format!("CHEBI:{n}"));
    let project = project(names(), 2000, &nodenorm_api(&server, 100, "limits: {concurrency: 2}"));
    let mut child = project.spawn("run");
    while server.requests() < 60 {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    project.flow("run").exits(0);
    let found = rows(&project);
    assert_eq!(found.len(), 20_000);
    found.iter().for_each(|(name, row)| assert_right(name, row));
    let times = answered(&server);
    assert_eq!(times.len(), 20_000);
    let twice = times.values().filter(|times| **times > 1).count();
    assert!(twice <= 2 * 100, "{twice} were asked for twice, at most two requests were in flight");
    assert!(times.values().all(|times| *times <= 2));
}

#[test]
fn a_plan_says_what_a_run_sends() {
    let server = nodenorm(false);
    // Every value three times.
    let names = (0..3000).map(|n| format!("CHEBI:{}", n % 1000));
    let project = project(names, 500, &nodenorm_api(&server, 100, ""));
    project.flow("run --nodes cut").exits(0);
    let plan = project.flow("plan --output json").exits(0).json();
    assert_eq!(server.requests(), 0, "a plan asks for nothing");
    let text = plan.to_string();
    assert!(text.contains("\"unique_rows\":1000") && text.contains("\"requests\":10"), "{plan:#}");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["rows"]["ok"], json!(1000));
    assert_eq!(server.requests(), 10);
}

#[test]
fn lists_by_value_of_a_service_that_wants_pauses() {
    // NameRes: an object of lists. How long the pauses are is measured by `net`.
    let server = RestServer::start(|asked| {
        let strings = strings(asked, "strings");
        let hits = |name: &String| match name.contains("nothing") {
            true => json!([]),
            false => json!([{"curie": format!("X:{}", name.len()), "label": name, "score": 1.5}]),
        };
        Reply::json(&Json::Object(strings.iter().map(|name| (name.clone(), hits(name))).collect()))
    });
    let names = (0..200).map(|n| if n % 10 == 0 { format!("nothing {n}") } else { format!("name {n}") });
    let api = format!(
        "
        key: name
        batch_size: 50
        request:
          url: {}
          json: {{strings: '{{{{ batch.name }}}}', limit: 1}}
        response:
          match: key
          columns: {{curie: '$[0].curie', score: {{path: '$[0].score', type: float64}}, all: {{path: $, type: json}}}}
        limits: {{min_interval: 150ms}}
        ",
        server.url("/bulk-lookup")
    );
    let project = project(names, 100, &api);
    project.flow("run").exits(0);
    let mut checked = 0;
    for batch in project.table("data/answers").values() {
        let (names, curies, all) = (text(batch, "name"), text(batch, "curie"), text(batch, "all"));
        for ((name, curie), all) in names.iter().flatten().zip(&curies).zip(&all) {
            let expected = (!name.contains("nothing")).then(|| format!("X:{}", name.len()));
            assert_eq!(*curie, expected, "{name}");
            assert_eq!(all.as_deref() == Some("[]"), expected.is_none(), "{name}: {all:?}");
            checked += 1;
        }
    }
    assert_eq!(checked, 200);
    assert_eq!(server.requests(), 4);
}

#[test]
fn a_request_a_row_with_parameters_actions_and_a_key_in_the_query() {
    // openFDA: 404 is no result.
    let server = RestServer::start(|asked| {
        let url = reqwest::Url::parse(&format!("http://host{}", asked.target)).expect("an address");
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!((asked.method.as_str(), &asked.body), ("GET", &Json::Null));
        assert_eq!(query["api_key"], KEY);
        let search = &query["search"];
        if search.contains("unknown") {
            return Reply::status(404, r#"{"error": {"code": "NOT_FOUND", "message": "No matches found!"}}"#);
        }
        Reply::json(&json!({"results": [{"id": search, "set": {"n": search.len()}}]}))
    });
    let names = ["a b&c=d", "ünïcode/%20", "unknown 1", "\"quoted\" {{ key.name }}"];
    let api = format!(
        "
        key: name
        request:
          method: GET
          url: {}
          params: {{search: 'name:{{{{ key.name }}}}', limit: 1}}
          auth: {{type: api_key, name: api_key, location: query, api_key: '${{oc.env:API_TOKEN}}'}}
        response:
          data_selector: $.results[0]
          columns: {{found: $.id, n: {{path: $.set.n, type: int64}}}}
        response_actions: [{{status_code: 404, action: ignore}}]
        ",
        server.url("/drug/label.json")
    );
    let project = project(names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))), 10, &api);
    let output = project.flow("run -vv");
    assert!(!output.stderr.contains(KEY) && !output.stdout.contains(KEY), "{output:?}");
    output.exits(0);
    for batch in project.table("data/answers").values() {
        let found = text(batch, "found");
        for (name, found) in text(batch, "name").into_iter().flatten().zip(found) {
            let expected = (!name.contains("unknown")).then(|| format!("name:{name}"));
            assert_eq!(found, expected);
        }
    }
    let before = server.requests();
    assert_eq!(before, 4);
    let again = project.edit("parameters.yml", "n: {path: $.set.n, type: int64}", "n: {path: $.set.n, type: string}");
    again.flow("run").exits(0);
    assert_eq!(server.requests(), before, "also what is unknown was kept");
}

#[test]
fn a_key_that_the_server_quotes_is_in_no_output_and_wrong_keys_stop_the_run_before_more_is_sent() {
    for auth in [
        "{type: bearer, token: '${oc.env:API_TOKEN}'}",
        "{type: http_basic, username: me, password: '${oc.env:API_TOKEN}'}",
        "{type: api_key, name: x-key, api_key: '${oc.env:API_TOKEN}'}",
    ] {
        let server = RestServer::start(|asked| {
            let sent = asked.headers.get("authorization").or(asked.headers.get("x-key")).cloned().unwrap_or_default();
            assert!(!sent.is_empty(), "{asked:?}");
            Reply::status(401, &json!({"error": {"message": format!("invalid: {sent} {KEY}")}}).to_string())
        });
        let api = nodenorm_api(&server, 10, "").replace("  json:", &format!("  auth: {auth}\n  json:"));
        let project = project((0..100).map(|n| format!("CHEBI:{n}")), 10, &api);
        let output = project.flow("run").exits(3);
        assert!(output.stderr.contains("401: invalid: ***"), "{}", output.stderr);
        assert!(!output.stderr.contains(KEY) && !output.stdout.contains(KEY));
        // Those that were in flight at the same time.
        assert!(server.requests() <= 16, "{}", server.requests());
        for file in project.files(".flow") {
            let content = std::fs::read(project.path(".flow").join(&file)).unwrap_or_default();
            assert!(!content.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{file}");
        }
    }
}

#[test]
fn pages_are_followed_to_the_end_and_never_to_another_server() {
    let server = RestServer::start(|asked| {
        let url = reqwest::Url::parse(&format!("http://host{}", asked.target)).expect("an address");
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        // Links to further pages come without the key.
        assert_eq!(query.get("token").map(String::as_str), Some(KEY), "{asked:?}");
        let name = &query["name"];
        let page: usize = query.get("page").map_or(0, |page| page.parse().expect("a number"));
        let item = |n: usize| json!({"id": format!("{name}-{}", page * 2 + n)});
        let next = match name.as_str() {
            "evil" => json!("http://127.0.0.1:9/next?name=evil"),
            "short" => Json::Null,
            _ if page < 3 => json!(format!("/items?name={name}&page={}", page + 1)),
            _ => Json::Null,
        };
        Reply::json(&json!({"items": [item(0), item(1)], "next": next}))
    });
    let api = format!(
        "
        key: name
        request:
          method: GET
          url: {}
          params: {{name: '{{{{ key.name }}}}'}}
          auth: {{type: api_key, name: token, location: query, api_key: '${{oc.env:API_TOKEN}}'}}
        response:
          data_selector: $.items
          columns: {{ids: {{path: '$[*].id', type: 'list<string>'}}}}
        paginator: {{type: json_link, next_url_path: $.next}}
        errors: {{max_row_error_rate: 0.5}}
        ",
        server.url("/items")
    );
    let project = project(["short", "long", "evil"].map(str::to_owned).into_iter(), 10, &api);
    project.flow("run").exits(5);
    let mut found = BTreeMap::new();
    for batch in project.table("data/answers").values() {
        let (ids, errors) = (batch.column_by_name("ids").expect("ids").as_list::<i32>(), text(batch, "api_error"));
        for (row, name) in text(batch, "name").into_iter().flatten().enumerate() {
            let list = ids.is_valid(row).then(|| {
                let list = cast(&ids.value(row), &DataType::Utf8).expect("text");
                list.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
            });
            found.insert(name, (list, errors[row].clone()));
        }
    }
    let all = |name: &str, count: usize| Some((0..count).map(|n| format!("{name}-{n}")).collect::<Vec<_>>());
    assert_eq!(found["short"], (all("short", 2), None));
    assert_eq!(found["long"], (all("long", 8), None));
    assert!(found["evil"].0.is_none() && found["evil"].1.as_deref().is_some_and(|why| why.contains("another server")));
}

#[test]
fn another_version_of_the_service_is_asked_again() {
    let version = std::sync::Arc::new(std::sync::Mutex::new("1.0".to_owned()));
    let of_server = std::sync::Arc::clone(&version);
    let server = RestServer::start(move |asked| {
        if asked.target == "/openapi.json" {
            return Reply::json(&json!({"info": {"version": *of_server.lock().expect("a lock")}}));
        }
        let all = strings(asked, "curies").into_iter().map(|curie| (curie.clone(), node(&curie)));
        Reply::json(&Json::Object(all.collect()))
    });
    let more = format!("cache_version: {{url: {}, path: $.info.version}}", server.url("/openapi.json"));
    let project = project((1..=30).map(|n| format!("CHEBI:{n}")), 30, &nodenorm_api(&server, 30, &more));
    let sent = || server.journal().iter().filter(|asked| asked.method == "POST").count();
    project.flow("run").exits(0);
    project.flow("run").exits(0);
    assert_eq!(sent(), 1);
    let asked = server.requests() - sent() as u64;
    assert!(asked <= 2, "the version is asked for once a run: {asked}");
    *version.lock().expect("a lock") = "1.1".to_owned();
    project.flow("run").exits(0);
    assert_eq!(sent(), 2);
}

#[test]
fn an_answer_of_another_type_is_an_error_of_its_row_and_is_kept() {
    let server = RestServer::start(|asked| {
        let all = strings(asked, "names").into_iter().map(|name| {
            let value = if name == "b" { json!("many") } else { json!(7) };
            (name, json!({"n": value}))
        });
        Reply::json(&Json::Object(all.collect()))
    });
    let api = format!(
        "
        key: name
        batch_size: 10
        request: {{url: {}, json: {{names: '{{{{ batch.name }}}}'}}}}
        response: {{columns: {{n: {{path: $.n, type: int64}}}}, on_missing: error}}
        errors: {{max_row_error_rate: 0.5, column: why}}
        ",
        server.url("/")
    );
    let project = project(["a", "b", "", "c"].map(str::to_owned).into_iter(), 10, &api);
    project.flow("run").exits(5);
    let mut errors = BTreeMap::new();
    for batch in project.table("data/answers").values() {
        for (name, why) in text(batch, "name").into_iter().zip(text(batch, "why")) {
            errors.insert(name.unwrap_or_default(), why);
        }
    }
    assert_eq!(errors["a"], None);
    assert_eq!(
        errors["b"].as_deref(),
        Some("invalid_answer: column `n`: expected an integer of 64 bits, found a string")
    );
    assert_eq!(errors[""].as_deref(), Some("empty_key"));
    let sent = server.requests();
    let fixed = project.edit("parameters.yml", "type: int64", "type: string");
    fixed.flow("run").exits(0);
    assert_eq!(server.requests(), sent, "the answer was paid for, and is typed anew");
}

#[test]
fn two_nodes_that_ask_for_the_same_at_the_same_time_send_it_once() {
    let server = RestServer::start(|asked| {
        let all = strings(asked, "curies").into_iter().map(|curie| (curie.clone(), node(&curie)));
        Reply::json(&Json::Object(all.collect())).after(Duration::from_millis(100))
    });
    let project = project((1..=2000).map(|n| format!("CHEBI:{n}")), 500, &nodenorm_api(&server, 100, ""))
        .edit(
            "pipelines/main.yml",
            "  - name: ask\n",
            "  - name: ask_too\n    function: call_api\n    inputs: {dfs: buckets@partitioned, api: params:api}\n    outputs: others@partitioned\n  - name: ask\n",
        );
    project.flow("run").exits(0);
    rows(&project).iter().for_each(|(name, row)| assert_right(name, row));
    assert!(answered(&server).values().all(|times| *times == 1));
    assert_eq!(server.requests(), 20);
}

#[test]
fn mistakes_in_the_mapping_are_found_by_check() {
    let ask = |api: &str| {
        let output = project(std::iter::once("a".to_owned()), 1, api).flow("check");
        (output.code, output.stderr)
    };
    let right = "
        key: [name]
        batch_size: 10
        request: {url: https://host/x, json: {names: '{{ batch.name }}'}}
        response: {columns: {n: $.n}}
        ";
    assert_eq!(ask(right).0, 0, "{}", ask(right).1);
    let inserted = right.replace("https://host/x", "\"https://host/x?token={{ batch.name | join(',') }}\"");
    assert_eq!(ask(&inserted).0, 0, "a value of a row is no secret: {}", ask(&inserted).1);
    for (from, to, expected) in [
        ("batch.name", "batch.nam", "unknown placeholder `{{ batch.nam }}`"),
        ("'{{ batch.name }}'", "'x {{ batch.name }}'", "a list inside a string"),
        ("'{{ batch.name }}'", "[1]", "the request does not contain its values"),
        ("https://host/x", "'https://{{ key.name }}/x'", "unknown placeholder"),
        ("https://host/x", "host/x", "is not a valid address"),
        ("$.n", "'n['", "is not a JSONPath"),
        ("$.n", "{path: $.n, type: int}", "`int` of column `n` is not a type"),
        ("$.n", "{pth: $.n}", "unknown key `pth`"),
        ("{url:", "{method: GET, url:", "a GET request has no body"),
        ("columns: {n: $.n}", "columns: {api_error: $.n}", "two columns are called `api_error`"),
        ("columns: {n: $.n}", "columns: {n: $.n}, match: keys", "`match` is unknown"),
        (
            "key: [name]",
            "key: [name]\n        response_actions: [{action: retry}]",
            "an action applies to every response",
        ),
        ("key: [name]", "key: [name]\n        paginator: {type: cursor}", "`paginator` is for requests with one value"),
        ("key: [name]", "key: [name]\n        limit: {rpm: 1}", "unknown key `limit`"),
        ("json: {names", "json: {token: '${oc.env:API_TOKEN}', names", "contains a secret"),
        ("https://host/x", "https://bob:hunter2@host/x", "`auth: {type: http_basic, username: NAME"),
        ("https://host/x", "https://host/x?api_key=hunter2", "`url` contains a secret, `api_key`"),
        ("https://host/x", "'https://host/x?page=2&sig=${oc.env:NO_SUCH,hunter2}'", "location: query, name: sig"),
        (
            "key: [name]",
            "key: [name]\n        cache_version: {url: 'https://bob@host/v', path: $.v}",
            "`url` of `cache_version` contains a user name or password",
        ),
    ] {
        let wrong = right.replace(from, to);
        assert_ne!(wrong, right, "{from}");
        let (code, said) = ask(&wrong);
        assert!(code == 2 && said.contains(expected), "{wrong}\n{expected}\n{code}: {said}");
    }
}
