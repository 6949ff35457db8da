//! OpenLineage and OTLP: what is sent, that it fits the published descriptions, and that no receiver changes a run.

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour, Fault, When},
    rest_server::{Reply, RestServer},
    small, stores,
};

fn project() -> Project {
    small::project("data", "").file("data/nodes.csv", &small::csv(0..40, "plain", 1))
}

fn events(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The types of the events of each job, in order.
fn by_job(events: &[Json]) -> BTreeMap<String, Vec<String>> {
    let mut jobs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let job = event["job"]["name"].as_str().expect("a name").to_owned();
        jobs.entry(job).or_default().push(event["eventType"].as_str().expect("a type").to_owned());
    }
    jobs
}

fn jobs(expected: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    let types = |text: &str| text.split(' ').map(str::to_owned).collect();
    expected.iter().map(|(job, all)| ((*job).to_owned(), types(all))).collect()
}

/// Validates events with the published schemas, where `FLOW_OPENLINEAGE_SPEC` is the folder `spec` of its repository.
fn validate(project: &Project, events: &[Json]) {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let Some(spec) = std::env::var_os("FLOW_OPENLINEAGE_SPEC") else {
        eprintln!("not validated: FLOW_OPENLINEAGE_SPEC is not set");
        return;
    };
    let python = stores::python_tool("jsonschema", "jsonschema==4.25.1", "python");
    let check = r#"
import json, pathlib, sys
import jsonschema, referencing
schemas = [json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).rglob("*.json") if "tests" not in path.parts and "registry" not in path.parts]
registry = referencing.Registry().with_resources([(schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas])
def validate(value, url):
    assert url.split('#')[0] in {schema["$id"] for schema in schemas}, url
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator({"$ref": url}, registry=registry, format_checker=checker).validate(value)
count = 0
def facets(value):
    global count
    if isinstance(value, dict):
        if "_schemaURL" in value:
            validate(value, value["_schemaURL"])
            count += 1
        for child in value.values():
            facets(child)
    elif isinstance(value, list):
        for child in value:
            facets(child)
for event in json.load(open(sys.argv[2])):
    validate(event, event["schemaURL"])
    facets(event)
print(count)
"#;
    let file = project.path("events.json");
    fs::write(&file, serde_json::to_string(events).expect("JSON")).expect("written");
    let output = Command::new(python).args(["-c", check]).arg(&spec).arg(&file).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{} events with {} facets are valid", events.len(), String::from_utf8_lossy(&output.stdout).trim());
}

#[test]
fn lineage_has_one_start_and_one_end_of_the_run_and_of_each_node_that_ran() {
    let project = project();
    project.flow("run -q --openlineage lineage.jsonl").exits(0);
    let all = events(&project.read("lineage.jsonl"));
    let both = "START COMPLETE";
    assert_eq!(by_job(&all), jobs(&[("cut", both), ("embed", both), ("pipelines.all", both)]));
    let end = |job: &str| {
        let mut ends = all.iter().filter(|event| event["job"]["name"] == job && event["eventType"] == "COMPLETE");
        ends.next_back().cloned().expect("an end")
    };
    let (cut, embed, run) = (end("cut"), end("embed"), end("pipelines.all"));
    let parent = &cut["run"]["facets"]["parent"];
    assert_eq!((&parent["run"]["runId"], &parent["job"]["name"]), (&run["run"]["runId"], &"pipelines.all".into()));
    assert_eq!(parent["root"]["run"]["runId"], run["run"]["runId"]);
    let statistics = &cut["outputs"][0]["outputFacets"]["outputStatistics"];
    assert_eq!((&statistics["rowCount"], &statistics["fileCount"]), (&40.into(), &4.into()));
    assert!(statistics["size"].as_u64().expect("bytes") > 0);
    assert_eq!(embed["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"], 40);
    assert_eq!(embed["inputs"][0]["name"], cut["outputs"][0]["name"], "one is made of the other");
    assert_eq!(cut["inputs"][0]["namespace"], "file");
    assert!(cut["inputs"][0]["name"].as_str().expect("a name").ends_with("/data/nodes.csv"), "{cut}");
    assert_eq!(cut["inputs"][0]["facets"]["schema"]["fields"][0]["name"], "id");
    let lineage = &embed["outputs"][0]["facets"]["columnLineage"]["fields"];
    assert_eq!(lineage["embedding"]["inputFields"][0]["field"], "text_to_embed");
    assert_eq!(lineage["name"]["inputFields"][0]["transformations"][0]["subtype"], "IDENTITY");
    let source = &cut["job"]["facets"]["sourceCodeLocation"];
    assert_eq!((&source["type"], &source["path"]), (&"file".into(), &"pipelines/main.yml".into()));
    assert!(cut["outputs"][0]["facets"]["version"]["datasetVersion"].is_string());
    validate(&project, &all);

    // Nodes that are up to date are no runs.
    project.flow("run -q --openlineage lineage.jsonl").exits(0);
    let again = events(&project.read("lineage.jsonl")).split_off(all.len());
    assert_eq!(by_job(&again), jobs(&[("pipelines.all", both)]));
    assert_ne!(again[0]["run"]["runId"], run["run"]["runId"]);
}

#[test]
fn lineage_of_a_query_has_its_text() {
    let project = Project::empty()
        .file("catalog.yml", "t: {type: csv, path: t.csv}\nu: {type: parquet, path: u}\n")
        .file("parameters.yml", "query: select a + 1 as b from t\n")
        .file("t.csv", "a\n1\n2\n")
        .file(
            "pipelines/main.yml",
            "nodes: [{name: q, function: sql, inputs: {t: t, query: params:query}, outputs: u}]\n",
        );
    project.flow("run -q --openlineage lineage.jsonl").exits(0);
    let all = events(&project.read("lineage.jsonl"));
    let query = all.iter().find(|event| event["job"]["name"] == "q").expect("the node");
    assert_eq!(query["job"]["facets"]["sql"]["query"], "select a + 1 as b from t");
    assert_eq!(query["outputs"][0]["facets"]["schema"]["fields"][0]["name"], "b");
    validate(&project, &all);
}

#[test]
fn lineage_of_a_query_follows_its_columns_through_the_nodes_before() {
    let project = Project::empty()
        .file(
            "catalog.yml",
            "people: {type: csv, path: people.csv, load_args: {dtype: {id: int64, town: int64}}}\n\
             towns: {type: csv, path: towns.csv, load_args: {dtype: {id: int64}}}\n\
             both: {type: parquet, path: both}\ncounts: {type: parquet, path: counts}\n",
        )
        .file(
            "parameters.yml",
            "join: select p.id, upper(p.name) as name, t.name as town from people p join towns t on p.town = t.id where p.id > 1\n\
             count: select town, count(name) as people from both group by town order by town\n",
        )
        .file("people.csv", "id,name,town\n1,a,1\n2,b,1\n3,c,2\n")
        .file("towns.csv", "id,name\n1,x\n2,y\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: join, function: sql, inputs: {people: people, towns: towns, query: params:join}, outputs: both}\n\
             \x20 - {name: count, function: sql, inputs: {both: both, query: params:count}, outputs: counts}\n",
        );
    let summary = project.flow("run -q --output json --openlineage lineage.jsonl").exits(0);
    let all = events(&project.read("lineage.jsonl"));
    let end = |job: &str| {
        let mut ends = all.iter().filter(|event| event["job"]["name"] == job && event["eventType"] == "COMPLETE");
        ends.next_back().cloned().expect("an end")
    };
    let of = |event: &Json, column: &str| -> Vec<(String, String)> {
        let lineage = &event["outputs"][0]["facets"]["columnLineage"];
        let from = if column.is_empty() { &lineage["dataset"] } else { &lineage["fields"][column]["inputFields"] };
        let text = |value: &Json| value.as_str().expect("a string").to_owned();
        let name = |field: &Json| {
            let dataset = text(&field["name"]);
            format!("{}.{}", dataset.rsplit('/').next().unwrap_or_default(), text(&field["field"]))
        };
        from.as_array()
            .expect("a list")
            .iter()
            .map(|field| (name(field), text(&field["transformations"][0]["subtype"])))
            .collect()
    };
    let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        expected.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
    };
    let (join, count) = (end("join"), end("count"));
    assert_eq!(of(&join, "id"), pairs(&[("people.csv.id", "IDENTITY")]));
    assert_eq!(of(&join, "name"), pairs(&[("people.csv.name", "TRANSFORMATION")]));
    assert_eq!(of(&join, "town"), pairs(&[("towns.csv.name", "IDENTITY")]));
    assert_eq!(
        of(&join, ""),
        pairs(&[("people.csv.id", "FILTER"), ("people.csv.town", "JOIN"), ("towns.csv.id", "JOIN")])
    );
    assert_eq!(of(&count, "town"), pairs(&[("both.town", "IDENTITY")]));
    assert_eq!(of(&count, "people"), pairs(&[("both.name", "AGGREGATION")]));
    assert_eq!(of(&count, ""), pairs(&[("both.town", "GROUP_BY"), ("both.town", "SORT")]));
    // What is read of tables is counted: five rows of two, two of the one that was written.
    let finished = |node: &str| {
        summary
            .lines()
            .into_iter()
            .find(|event| event["kind"] == "node.finished" && event["node"] == node)
            .expect("an end")
    };
    assert_eq!((&finished("join")["rows_in"], &finished("join")["rows"]), (&5.into(), &2.into()));
    assert_eq!((&finished("count")["rows_in"], &finished("count")["rows"]), (&2.into(), &2.into()));
    assert_eq!(count["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"], 2);
    validate(&project, &all);
}

#[test]
fn every_facet_that_is_promised_is_sent() {
    let project = project();
    project.flow("run -q --openlineage lineage.jsonl").exits(0);
    let failing = self::project().file("data/nodes.csv", "id,name\n1,a\n2,b,c\n");
    failing.flow("run -q --openlineage lineage.jsonl").exits(1);
    let all: Vec<Json> =
        [&project, &failing].iter().flat_map(|project| events(&project.read("lineage.jsonl"))).collect();
    let mut found = BTreeMap::new();
    let mut add = |facets: &Json| {
        for name in facets.as_object().into_iter().flat_map(serde_json::Map::keys) {
            *found.entry(name.clone()).or_insert(0) += 1;
        }
    };
    for event in &all {
        add(&event["run"]["facets"]);
        add(&event["job"]["facets"]);
        for side in ["inputs", "outputs"] {
            for dataset in event[side].as_array().expect("a list") {
                add(&dataset["facets"]);
                add(&dataset["inputFacets"]);
                add(&dataset["outputFacets"]);
            }
        }
    }
    // `sql` is in the tests of queries.
    for name in [
        "schema",
        "outputStatistics",
        "inputStatistics",
        "errorMessage",
        "parent",
        "columnLineage",
        "sourceCodeLocation",
        "version",
        "processing_engine",
        "jobType",
        "documentation",
    ] {
        assert!(found.contains_key(name), "{name} is missing: {found:?}");
    }
}

#[test]
fn lineage_of_a_run_that_fails_says_why() {
    let project = project().file("data/nodes.csv", "id,name\n1,a\n2,b,c\n");
    project.flow("run -q --openlineage lineage.jsonl").exits(1);
    let all = events(&project.read("lineage.jsonl"));
    assert_eq!(by_job(&all), jobs(&[("cut", "START FAIL"), ("pipelines.all", "START FAIL")]));
    for event in all.iter().filter(|event| event["eventType"] == "FAIL") {
        let message = event["run"]["facets"]["errorMessage"]["message"].as_str().expect("a message");
        assert!(message.contains("nodes.csv"), "{message}");
    }
    validate(&project, &all);
}

#[cfg(unix)]
#[test]
fn lineage_of_a_run_that_is_stopped_is_aborted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let api = runtime.block_on(ApiServer::start(Behaviour::default()));
    api.fault(When::Always, Fault::Stall);
    let project = with_api(&api);
    let child = project.spawn("run -q --openlineage lineage.jsonl");
    let lineage = project.path("lineage.jsonl");
    let begin = Instant::now();
    while !fs::read_to_string(&lineage).is_ok_and(|text| text.contains("\"name\":\"embed\"")) {
        assert!(begin.elapsed() < Duration::from_secs(120), "the node did not start");
        std::thread::yield_now();
    }
    for _ in 0..2 {
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    let all = events(&project.read("lineage.jsonl"));
    let expected = [("cut", "START COMPLETE"), ("embed", "START ABORT"), ("pipelines.all", "START ABORT")];
    assert_eq!(by_job(&all), jobs(&expected));
    validate(&project, &all);
}

#[test]
fn lineage_is_posted_in_order_with_the_key() {
    let server = RestServer::start(|_| Reply::status(201, ""));
    let project = project().env("OPENLINEAGE_API_KEY", "canary-key-0123456789").env("OPENLINEAGE_NAMESPACE", "mine");
    project.run(["run", "-q", "--openlineage", &server.url("")]).exits(0);
    let journal = server.journal();
    let types: Vec<_> =
        journal.iter().map(|asked| asked.body["eventType"].as_str().expect("a type").to_owned()).collect();
    assert_eq!(types, ["START", "START", "COMPLETE", "START", "COMPLETE", "COMPLETE"]);
    for asked in &journal {
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/api/v1/lineage"));
        assert_eq!(asked.headers["authorization"], "Bearer canary-key-0123456789");
        assert_eq!(asked.body["job"]["namespace"], "mine");
    }
}

fn with_api(api: &ApiServer) -> Project {
    let parameters = format!(
        "size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: text-embedding-3-small, base_url: '{}', \
         api_key: '${{oc.env:OPENAI_API_KEY}}', dimensions: 8, retry: {{max_attempts: 5, deadline: 60s}}}}\n",
        api.base_url()
    );
    project().file("parameters.yml", &parameters).env("OPENAI_API_KEY", "sk-canary-0123456789abcdefghij")
}

/// The value of an attribute of a span, as text.
fn attribute(span: &Json, name: &str) -> Option<String> {
    let attributes = span["attributes"].as_array().expect("attributes");
    let value = &attributes.iter().find(|one| one["key"] == name)?["value"];
    value["stringValue"].as_str().or(value["intValue"].as_str()).map(str::to_owned)
}

#[test]
fn a_collector_with_headers_of_its_own_for_one_signal_gets_those_and_no_others() {
    let collector = RestServer::start(|_| Reply::status(200, "{}"));
    let project = project()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url(""))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=of-all,x-all=1")
        .env("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=of-traces");
    project.flow("run -q").exits(0);
    let journal = collector.journal();
    for (target, key, all) in [("/v1/traces", "of-traces", false), ("/v1/metrics", "of-all", true)] {
        let asked: Vec<_> = journal.iter().filter(|asked| asked.target == target).collect();
        assert!(!asked.is_empty(), "{target}");
        assert!(asked.iter().all(|asked| asked.headers["x-key"] == key), "{target}");
        assert!(asked.iter().all(|asked| asked.headers.contains_key("x-all") == all), "{target}");
    }
}

#[test]
fn traces_are_nested_from_the_run_to_its_requests_and_metrics_are_those_of_the_summary() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let api = runtime.block_on(ApiServer::start(Behaviour::default()));
    api.fault(When::Nth(2), Fault::Status(503, vec![], "busy".to_owned()));
    let collector = RestServer::start(|_| Reply::status(200, "{}"));
    let project = with_api(&api)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url(""))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary%20header-0123")
        .env("OTEL_SERVICE_NAME", "embeddings")
        .env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let summary = project.flow("run -q --output json").exits(0).summary();
    let journal = collector.journal();
    assert!(journal.iter().all(|asked| asked.headers["x-key"] == "canary header-0123"));
    assert!(!journal.iter().any(|asked| asked.body.to_string().contains("canary")));
    let mut spans = Vec::new();
    for asked in journal.iter().filter(|asked| asked.target == "/v1/traces") {
        let resource = &asked.body["resourceSpans"][0];
        let service = &resource["resource"]["attributes"];
        assert!(
            service.as_array().expect("a list").iter().any(|one| one["value"]["stringValue"] == "embeddings"),
            "{service}"
        );
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().expect("spans").iter().cloned());
    }
    let named = |name: &str| spans.iter().filter(|span| span["name"] == name).cloned().collect::<Vec<_>>();
    let (runs, nodes, partitions, requests) =
        (named("flow.run"), named("flow.node"), named("flow.partition"), named("POST"));
    assert_eq!((runs.len(), nodes.len(), partitions.len()), (1, 2, 4), "{spans:?}");
    assert_eq!(requests.len() as u64, summary["requests"].as_u64().expect("a count"));
    assert_eq!(runs[0]["parentSpanId"], "b7ad6b7169203331");
    let parents = |inner: &[Json], outer: &[Json]| {
        inner.iter().all(|span| outer.iter().any(|around| around["spanId"] == span["parentSpanId"]))
    };
    assert!(parents(&nodes, &runs) && parents(&partitions, &nodes) && parents(&requests, &partitions), "{spans:?}");
    assert!(spans.iter().all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(attribute(&runs[0], "flow.run.id").as_deref(), summary["run"].as_str());
    assert!(partitions.iter().any(|span| attribute(span, "flow.partition").as_deref() == Some("bucket=0")));
    let refused: Vec<_> =
        requests.iter().filter(|span| attribute(span, "http.response.status_code").as_deref() == Some("503")).collect();
    assert!(refused.len() == 1 && refused[0]["status"]["code"] == 2, "{requests:?}");
    assert_eq!(attribute(refused[0], "http.request.method").as_deref(), Some("POST"));
    assert_eq!(attribute(refused[0], "server.address").as_deref(), Some("127.0.0.1"));

    let last = journal.iter().rev().find(|asked| asked.target == "/v1/metrics").expect("metrics");
    let metrics = last.body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().expect("metrics").clone();
    let sum = |name: &str, outcome: Option<&str>| {
        let metric = metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("{name}"));
        let points = metric["sum"]["dataPoints"].as_array().expect("points");
        let point = points
            .iter()
            .find(|point| outcome.is_none_or(|outcome| point["attributes"][0]["value"]["stringValue"] == outcome));
        point.expect("a point")["asDouble"].as_f64().expect("a number")
    };
    assert_eq!(Some(sum("flow.requests", None)), summary["requests"].as_f64());
    assert_eq!(Some(sum("flow.tokens", None)), summary["tokens"].as_f64());
    assert_eq!(Some(sum("flow.rows", Some("ok"))), summary["rows"]["ok"].as_f64());
    assert_eq!(sum("flow.partitions", Some("done")), 4.0);
    let durations = metrics.iter().find(|metric| metric["name"] == "http.client.request.duration").expect("durations");
    let counts = durations["histogram"]["dataPoints"].as_array().expect("points").iter();
    let count: u64 =
        counts.map(|point| point["count"].as_str().expect("a string").parse::<u64>().expect("a number")).sum();
    assert_eq!(Some(count), summary["requests"].as_u64());

    // As the protocol's own description reads it.
    let python = stores::python_tool("otlp", "opentelemetry-proto==1.38.0 protobuf==6.33.1", "python");
    let check = r#"
import json, sys
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
for target, body in json.load(open(sys.argv[1])):
    kind = ExportTraceServiceRequest if target == "/v1/traces" else ExportMetricsServiceRequest
    json_format.ParseDict(body, kind())
"#;
    let bodies: Vec<_> = journal.iter().map(|asked| (asked.target.clone(), asked.body.clone())).collect();
    let file = project.path("otlp.json");
    fs::write(&file, serde_json::to_string(&bodies).expect("JSON")).expect("written");
    let output = Command::new(python).args(["-c", check]).arg(&file).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A collector, which is ended with the value.
struct Collector(Child, String, PathBuf);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Collector {
    /// Starts Rotel, a collector in a Python package, which writes what it gets into a file.
    fn start(project: &Project) -> Self {
        let python = stores::python_tool("rotel", "rotel==0.0.1a15", "python");
        let find = "import pathlib, rotel; print(pathlib.Path(rotel.__file__).parent / 'rotel-agent')";
        let output = Command::new(python).args(["-c", find]).output().expect("Python runs");
        let program = String::from_utf8(output.stdout).expect("UTF-8");
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let (http, grpc) = (free(), free());
        let file = project.path("collected.txt");
        let out = fs::File::create(&file).expect("created");
        let child = Command::new(program.trim())
            .args(["start", "--otlp-http-endpoint", &http.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()])
            .args(["--exporter", "blackhole", "--debug-log", "traces", "--debug-log", "metrics"])
            .args(["--debug-log-verbosity", "detailed"])
            .stderr(out.try_clone().expect("a file"))
            .stdout(out)
            .spawn()
            .expect("the collector starts");
        let collector = Self(child, format!("http://{http}"), file);
        let begin = Instant::now();
        while TcpStream::connect(http).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not listen: {}", collector.text());
            std::thread::yield_now();
        }
        collector
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.2).unwrap_or_default()
    }
}

#[test]
fn a_real_collector_takes_traces_and_metrics() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let api = runtime.block_on(ApiServer::start(Behaviour::default()));
    let project = with_api(&api);
    let collector = Collector::start(&project);
    let project = project.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.1);
    let output = project.flow("run -q --output json").exits(0);
    assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    let summary = output.summary();
    let begin = Instant::now();
    let requests = usize::try_from(summary["requests"].as_u64().expect("a count")).expect("few");
    // It writes what it gets when it has read it.
    let text = loop {
        let text = collector.text();
        if text.contains("flow.partitions") && text.contains("flow.run") && text.matches(": POST").count() >= requests {
            break text;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{text}");
        std::thread::yield_now();
    };
    for (what, count) in [("flow.run", 1), ("flow.node", 2), ("flow.partition", 4), ("POST", requests)] {
        let named =
            text.lines().filter(|line| line.trim_start().starts_with("Name") && line.ends_with(&format!(": {what}")));
        assert_eq!(named.count(), count, "{what}: {text}");
    }
    for expected in ["service.name: Str(flow)", "flow.partition: Str(bucket=0)", "http.client.request.duration"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let value = |metric: &str| {
        let (_, rest) = text.split_once(&format!("Name: {metric}\n")).unwrap_or_else(|| panic!("{metric}: {text}"));
        rest.lines().find_map(|line| line.trim().strip_prefix("Value: ")?.parse::<f64>().ok())
    };
    assert_eq!(value("flow.requests"), summary["requests"].as_f64());
    assert_eq!(value("flow.tokens"), summary["tokens"].as_f64());
    drop(runtime);
}

#[test]
fn receivers_that_fail_are_one_warning_each_and_change_no_run() {
    let undisturbed = project();
    let expected = undisturbed.flow("run -q --output json").exits(0).summary();
    let refusing = RestServer::start(|_| Reply::status(400, "no"));
    let broken = RestServer::start(|_| Reply::status(500, "oops"));
    for place in ["http://127.0.0.1:1".to_owned(), refusing.url(""), broken.url("")] {
        let project = project().env("OTEL_EXPORTER_OTLP_ENDPOINT", &place);
        let begin = Instant::now();
        let output = project.run(["run", "-q", "--output", "json", "--openlineage", &place]).exits(0);
        assert!(begin.elapsed() < Duration::from_secs(60), "{place}");
        let warnings: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert_eq!(warnings.len(), 2, "{place}: {}", output.stderr);
        assert!(
            warnings.iter().any(|line| line.contains("OpenLineage"))
                && warnings.iter().all(|line| line.contains(&place)),
            "{warnings:?}"
        );
        let summary = output.summary();
        for key in ["status", "nodes", "partitions", "rows"] {
            assert_eq!(summary[key], expected[key], "{place}: {key}");
        }
        assert_eq!(project.files("data/vectors"), undisturbed.files("data/vectors"));
    }
    let project = project();
    let output = project.flow("run -q --openlineage missing/folder/events.jsonl").exits(0);
    assert_eq!(output.stderr.matches("warning: ").count(), 1, "{}", output.stderr);
    assert!(!Path::new(&project.path("missing")).exists());
}

#[test]
fn a_receiver_that_does_not_respond_delays_the_end_of_a_run_by_seconds_at_most() {
    let silent = RestServer::start(|_| Reply::status(200, "").after(Duration::from_secs(300)));
    let project = project().env("OTEL_EXPORTER_OTLP_ENDPOINT", &silent.url(""));
    let begin = Instant::now();
    let output = project.run(["run", "-q", "--openlineage", &silent.url("")]).exits(0);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert!(output.stderr.contains("warning: "), "{}", output.stderr);
}

#[test]
fn wrong_addresses_are_refused_before_anything_starts() {
    let project = project();
    assert!(project.flow("run --openlineage http://[").exits(2).stderr.contains("--openlineage"));
    let other = self::project().env("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317");
    assert!(other.flow("run").exits(2).stderr.contains("`grpc://` is not supported"));
    assert!(!other.path(".flow/runs").exists());
}
