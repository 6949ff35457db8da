//! `flow serve`: who may ask, what is served, how it ends; and the live page in a browser.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use crate::{
    page::{HOSTILE, has_chromium, has_node},
    support::{
        Project,
        api_server::{ApiServer, Behaviour},
        root, small,
    },
};

/// A server of a project. Dropped, it is killed.
pub(crate) struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    pub(crate) fn start(project: &Project, arguments: &str) -> Self {
        let mut child = project.spawn(&format!("serve --port 0 --output json {arguments}"));
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("readable");
        let said: Json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        Self { child, url: said["url"].as_str().expect("an address").to_owned() }
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://").split('/').next().expect("an address")
    }

    fn port(&self) -> &str {
        self.address().rsplit(':').next().expect("a port")
    }

    /// Sends a request line and headers; returns a connection to read from.
    pub(crate) fn ask(&self, line: &str, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", self.port())).expect("it listens");
        let host = headers.iter().any(|(name, _)| *name == "Host");
        let own = if host { String::new() } else { format!("Host: {}\r\n", self.address()) };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        stream.write_all(format!("{line} HTTP/1.1\r\n{own}{headers}\r\n").as_bytes()).expect("sent");
        stream
    }

    /// The status, the head and the body of a response that ends.
    pub(crate) fn whole(&self, line: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
        let mut text = String::new();
        self.ask(line, headers).read_to_string(&mut text).expect("a response");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_owned(), body.to_owned())
    }

    pub(crate) fn json(&self, path: &str) -> Json {
        let (status, _, body) = self.whole(&format!("GET {path}"), &[]);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Bytes of memory of the server.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn project() -> Project {
    small::project("data", "").file("data/nodes.csv", &small::csv(0..40, "plain", 1))
}

#[test]
fn requests_of_other_sites_and_of_names_that_were_rebound_are_refused() {
    let project = project();
    let serving = Serving::start(&project, "");
    assert!(serving.address().starts_with("127.0.0.1:"), "{}", serving.url);
    for (line, headers, expected) in [
        ("GET /", vec![], 200),
        ("HEAD /", vec![], 200),
        ("GET /api/runs", vec![], 200),
        ("GET /api/runs", vec![("Host", "attacker.example:80")], 403),
        ("GET /api/runs", vec![("Origin", "http://attacker.example")], 403),
        ("GET /api/runs", vec![("Sec-Fetch-Site", "cross-site")], 403),
        ("POST /api/runs", vec![], 405),
        ("DELETE /", vec![], 405),
        ("PUT /api/runs", vec![], 405),
        ("OPTIONS *", vec![], 405),
        ("GET http://attacker.example/api/runs", vec![], 400),
        ("GET /api/datasets/nodes?limit=many", vec![], 400),
        ("GET /api/runs/%ff", vec![], 400),
        ("GET /report/..%2f..%2fcatalog", vec![], 404),
        ("GET /api/live?run=..%2f..%2fcatalog", vec![], 404),
        ("GET /api/runs/..%2f..%2fcatalog", vec![], 404),
        ("GET /etc/passwd", vec![], 404),
    ] {
        let (status, head, _) = serving.whole(line, &headers);
        assert_eq!(status, expected, "{line} {headers:?}");
        assert!(head.contains("X-Content-Type-Options: nosniff"), "{head}");
    }
    let (_, head, page) = serving.whole("GET /", &[]);
    assert!(head.contains("Content-Security-Policy: default-src 'none'; connect-src 'self'"), "{head}");
    assert!(page.starts_with("<!doctype html>"));
}

#[test]
fn a_server_that_others_can_reach_needs_a_token() {
    let project = project();
    let serving = Serving::start(&project, "--bind 0.0.0.0");
    let token = serving.url.split("token=").nth(1).expect("a token in the address").to_owned();
    assert_eq!(token.len(), 32);
    let (status, _, body) = serving.whole("GET /api/runs", &[]);
    assert!(status == 401 && !body.contains(&token), "{status} {body}");
    let (status, head, _) = serving.whole(&format!("GET /?token={token}"), &[]);
    assert!(status == 200 && head.contains("Set-Cookie: flow_token="), "{head}");
    let cookie = format!("flow_token={token}");
    assert_eq!(serving.whole("GET /api/runs", &[("Cookie", &cookie)]).0, 200);
    let own = Serving::start(&self::project().env("FLOW_SERVE_TOKEN", "mine-0123456789"), "");
    assert_eq!(own.whole("GET /api/runs", &[]).0, 401);
    assert_eq!(own.whole("GET /api/runs", &[("Authorization", "Bearer mine-0123456789")]).0, 200);
}

#[test]
fn runs_that_are_started_elsewhere_appear_and_their_events_come_whole() {
    let project = project();
    let serving = Serving::start(&project, "");
    assert_eq!(serving.json("/api/runs"), json!([]));
    let list = serving.ask("GET /api/live", &[]);
    project.flow("run -q").exits(0);
    let appeared = BufReader::new(list).lines().map_while(Result::ok).any(|line| line.contains("\"status\":\"ok\""));
    assert!(appeared, "the list was sent again");
    let runs = serving.json("/api/runs");
    let id = runs[0]["run"].as_str().expect("an id");
    let begun = serving.json(&format!("/api/runs/{id}"));
    assert_eq!((&begun["run"]["status"], &begun["graph"]["nodes"][0]["name"]), (&json!("ok"), &json!("cut")));
    assert!(begun["locations"]["embed"].as_str().expect("a location").ends_with("data/vectors"), "{begun}");

    let ledger = project.read(&format!(".flow/runs/{id}.jsonl"));
    let expected: Vec<Json> = ledger.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let follow = |headers: &[(&str, &str)]| {
        let mut found = Vec::new();
        let mut places = Vec::new();
        for line in
            BufReader::new(serving.ask(&format!("GET /api/live?run={id}"), headers)).lines().map_while(Result::ok)
        {
            if let Some(place) = line.strip_prefix("id: ") {
                places.push(place.to_owned());
            } else if let Some(data) = line.strip_prefix("data: [") {
                let events: Vec<Json> = serde_json::from_str(&format!("[{data}")).expect("JSON");
                found.extend(events.into_iter().filter(|event| event["kind"].is_string()));
            }
            if line == "event: run" {
                break;
            }
        }
        (found, places)
    };
    let (found, places) = follow(&[]);
    assert_eq!(found, expected);
    let last = places.last().expect("a place");
    assert_eq!(follow(&[("Last-Event-ID", last)]).0, Vec::<Json>::new(), "nothing is sent twice");
    assert_eq!(serving.whole("GET /api/live?run=never", &[]).0, 404);
}

#[test]
fn data_is_shown_without_secrets_and_what_cannot_be_read_says_why() {
    let secret = "canary-key-0123456789";
    // A cell is cut inside the secret.
    let long = "x".repeat(290);
    let project = project()
        .env("SERVICE_API_KEY", secret)
        .file("data/nodes.csv", &format!("id,name\n1,{secret}\n2,{long}{secret}\n"));
    project.flow("run -q").exits(0);
    let serving = Serving::start(&project, "");
    let preview = serving.json("/api/datasets/nodes?limit=1");
    assert_eq!(preview["rows"], json!([["1", "***"]]));
    assert_eq!(serving.json("/api/datasets/nodes")["rows"][1][1], format!("{long}***"));
    assert_eq!((&preview["columns"][1]["name"], &preview["partitions"]), (&json!("name"), &Json::Null));
    let preview = serving.json("/api/datasets/vectors@partitioned");
    assert_eq!(preview["partitions"][0]["partition"], "bucket=0");
    assert_eq!(preview["partitions"][0]["rows"], 2);
    assert_eq!(preview["rows"].as_array().expect("rows").len(), 2);
    fs::remove_file(project.path("data/nodes.csv")).expect("removed");
    let gone = serving.json("/api/datasets/nodes");
    assert!(gone["error"].as_str().expect("a reason").contains("nodes.csv"), "{gone}");
    assert_eq!(serving.whole("GET /api/datasets/none", &[]).0, 404);
}

#[test]
fn connections_that_say_nothing_keep_no_page_from_opening() {
    let project = project();
    let serving = Serving::start(&project, "");
    let connect = || TcpStream::connect(format!("127.0.0.1:{}", serving.port())).expect("it listens");
    let mut idle: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
    for half in &mut idle[..100] {
        half.write_all(b"GET / HTTP/1.1\r\nX-").expect("sent");
    }
    let begin = Instant::now();
    assert_eq!(serving.whole("GET /api/runs", &[]).0, 200);
    assert!(begin.elapsed() < Duration::from_secs(8), "before the first of them was closed: {:?}", begin.elapsed());
    // They are closed.
    let mut rest = Vec::new();
    idle[150].read_to_end(&mut rest).expect("closed");
}

#[test]
fn pages_beyond_the_bound_are_told_so_and_room_is_made_when_one_closes() {
    let project = project();
    let serving = Serving::start(&project, "");
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut page = serving.ask("GET /api/live", &[]);
        page.read_exact(&mut [0; 12]).expect("it responds");
        open.push(page);
    }
    let (status, _, body) = serving.whole("GET /api/live", &[]);
    assert!(status == 503 && body.contains("too many pages are open"), "{status} {body}");
    open.clear();
    let mut tries = 0;
    while serving.whole("HEAD /api/live", &[]).0 == 503 {
        tries += 1;
        assert!(tries < 100_000, "it does not notice that pages were closed");
    }
}

#[test]
fn a_run_whose_ledger_is_removed_while_it_is_watched_leaves_the_list() {
    let project = project();
    project.flow("run -q").exits(0);
    let serving = Serving::start(&project, "");
    let id = serving.json("/api/runs")[0]["run"].as_str().expect("an id").to_owned();
    let mut lines = BufReader::new(serving.ask(&format!("GET /api/live?run={id}"), &[])).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "event: runs"), "the list comes after the events");
    fs::remove_file(project.path(&format!(".flow/runs/{id}.jsonl"))).expect("removed");
    assert!(lines.any(|line| line == "data: []"), "the run is no longer listed");
    assert_eq!(serving.whole(&format!("GET /api/runs/{id}"), &[]).0, 404);
    fs::remove_dir_all(project.path(".flow")).expect("removed");
    assert_eq!(serving.json("/api/runs"), json!([]));
}

#[test]
fn a_ledger_with_anything_in_it_is_served_as_far_as_it_is_one() {
    let (good, bad) = ("20990101-000000000-0001", "20990101-000000000-0002");
    let mut bytes = b"null\n17\n[]\n\xff\xfe\0\n{\"kind\":\"node.started\",\"node\":3}\n".to_vec();
    bytes.extend(std::iter::repeat_n(b'x', 5 << 20));
    bytes.extend(
        b"\n{\"v\":1,\"kind\":\"warning\",\"run\":\"r\",\"elapsed\":1,\"seconds\":1,\"message\":\"last\"}\n{\"kind\":",
    );
    let project = project().file(&format!(".flow/runs/{good}.jsonl"), "");
    fs::write(project.path(&format!(".flow/runs/{bad}.jsonl")), bytes).expect("written");
    fs::create_dir(project.path(".flow/runs/20990101-000000000-0003.jsonl")).expect("created");
    let serving = Serving::start(&project, "");
    let runs = serving.json("/api/runs");
    let listed: Vec<_> = runs.as_array().expect("a list").iter().map(|run| run["run"].as_str()).collect();
    assert_eq!(listed, [Some(bad), Some(good)]);
    serving.json(&format!("/api/runs/{bad}"));
    let mut lines = BufReader::new(serving.ask(&format!("GET /api/live?run={bad}"), &[])).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("data: [") && line.contains("\"message\":\"last\"")));
    assert_eq!(serving.whole(&format!("GET /report/{bad}"), &[]).0, 200);
}

#[test]
fn a_token_that_no_cookie_can_hold_is_refused() {
    let refused = project().env("FLOW_SERVE_TOKEN", "two words").flow("serve --port 0").exits(2);
    assert!(refused.stderr.contains("`FLOW_SERVE_TOKEN` is not a token"), "{}", refused.stderr);
    let signs = Serving::start(&project().env("FLOW_SERVE_TOKEN", "a+b/c=&d"), "");
    assert!(signs.url.ends_with("?token=a%2Bb%2Fc%3D%26d"), "{}", signs.url);
    let (status, head, _) = signs.whole("GET /?token=a%2Bb%2Fc%3D%26d", &[]);
    assert!(status == 200 && head.contains("flow_token=a+b/c=&d;"), "{head}");
    assert_eq!(signs.whole("GET /api/runs", &[("Cookie", "flow_token=a+b/c=&d")]).0, 200);
}

#[test]
fn a_changed_project_is_read_again_and_a_wrong_one_is_not() {
    let project = project();
    project.flow("run -q").exits(0);
    let serving = Serving::start(&project, "");
    let id = serving.json("/api/runs")[0]["run"].as_str().expect("an id").to_owned();
    let nodes = || serving.json(&format!("/api/runs/{id}"))["graph"]["nodes"].as_array().expect("nodes").len();
    let pipeline = project.read("pipelines/main.yml");
    assert_eq!(nodes(), 2);
    project.write("pipelines/main.yml", &format!("{pipeline}  - {{name: [}}\n"));
    assert_eq!(nodes(), 2);
    let more = "  - {name: later, function: placeholder, inputs: vectors@partitioned, outputs: plot}\n";
    project.write("pipelines/main.yml", &format!("{pipeline}{more}"));
    project.write("catalog.yml", &format!("{}plot: {{type: memory}}\n", project.read("catalog.yml")));
    assert_eq!(nodes(), 3);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_server_while_pages_are_open() {
    let project = project();
    let mut serving = Serving::start(&project, "");
    let mut open = serving.ask("GET /api/live", &[]);
    let mut first = [0; 1];
    open.read_exact(&mut first).expect("it responds");
    let sent = Command::new("kill").args(["-TERM", &serving.child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let ended = serving.child.wait().expect("it ends");
    assert_eq!(ended.code(), Some(0));
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).expect("the connection ends");
}

#[test]
fn a_port_that_is_in_use_is_named() {
    let project = project();
    let serving = Serving::start(&project, "");
    let refused = project.run(["serve", "--port", serving.port()]).exits(3);
    assert!(refused.stderr.contains(serving.address()) && refused.stderr.contains("--port"), "{}", refused.stderr);
}

/// The live page's tests with a server; `None` where there is no browser.
fn browser(serving: &Serving, environment: &[(&str, &str)]) -> Option<Child> {
    if !has_node() || !has_chromium() {
        return None;
    }
    let mut command = Command::new("node");
    command.arg("--test-reporter=tap").arg(root().join("web/test/live.test.mjs"));
    command.env("FLOW_URL", &serving.url).env("FLOW_SCREENSHOTS", root().join("target/screenshots"));
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Some(command.spawn().expect("Node runs"))
}

#[test]
fn a_live_run_of_2000_partitions_with_faults_is_shown_as_it_ends() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let api = runtime.block_on(ApiServer::start(Behaviour { faults: 0.15, ..Behaviour::default() }));
    let model = format!(
        "size: 2\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: text-embedding-3-small, base_url: '{}', \
         api_key: '${{oc.env:OPENAI_API_KEY}}', dimensions: 8, batch: {{max_inputs: 2}}, retry: {{max_attempts: 8, deadline: 60s}}}}\n",
        api.base_url()
    );
    let project = small::project("data", "")
        .file("parameters.yml", &model)
        .file("data/nodes.csv", &small::csv(0..4000, "plain", 1))
        .env("OPENAI_API_KEY", "sk-canary-0123456789abcdefghij");
    project.flow("run -q --nodes cut").exits(0);
    // Partitions that cannot be read fail.
    for bucket in (0..2000).step_by(100) {
        let folder = format!("data/buckets/bucket={bucket}");
        let file = project.path(&format!("{folder}/{}", project.files(&folder)[0]));
        let size = fs::metadata(&file).expect("there").len();
        fs::write(&file, vec![b'x'; usize::try_from(size).expect("small")]).expect("written");
    }
    let serving = Serving::start(&project, "");
    serving.json("/api/runs");
    let before = serving.memory();
    let (summary, report) = (project.path("summary.json"), project.path("report.json"));
    let page = browser(&serving, &[("FLOW_WATCH", &summary.display().to_string())]);
    let page = page.map(|mut page| {
        let mut said = BufReader::new(page.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("watching") {
            line.clear();
            assert!(said.read_line(&mut line).expect("readable") > 0, "the page did not open");
        }
        (page, said)
    });
    let run = project.flow("run -q --nodes embed --keep-going --output json").exits(1);
    let totals = run.summary();
    assert_eq!(totals["partitions"], json!({"done": 1980, "skipped": 0, "failed": 20}));
    assert!(totals["retries"].as_u64().expect("a number") > 100, "{totals}");
    fs::write(&summary, totals.to_string()).expect("written");
    if let Some((mut page, mut said)) = page {
        let mut text = String::new();
        said.read_to_string(&mut text).expect("readable");
        assert!(page.wait().expect("it ends").success(), "{text}");
        assert!(
            text.contains("ok 1 - a run is watched")
                && !text.contains("ok 1 - a run is watched from its start to its end # SKIP"),
            "{text}"
        );
    }
    // Three more readers of the whole run.
    let id = serving.json("/api/runs")[0]["run"].as_str().expect("an id").to_owned();
    for _ in 0..3 {
        serving.json(&format!("/api/runs/{id}"));
        let lines = BufReader::new(serving.ask(&format!("GET /api/live?run={id}"), &[])).lines().map_while(Result::ok);
        assert!(lines.take_while(|line| line != "event: run").count() > 20);
    }
    let after = serving.memory();
    eprintln!("memory of the server: {} KiB before, {} KiB after", before / 1024, after / 1024);
    assert!(after < before + (32 << 20), "{before} bytes before, {after} bytes after");

    fs::write(&report, project.flow("report --output json").exits(0).stdout).expect("written");
    let ledger = project.path(&format!(".flow/runs/{id}.jsonl"));
    let same = [("FLOW_REPORT", report.display().to_string()), ("FLOW_LEDGER", ledger.display().to_string())];
    let same: Vec<(&str, &str)> = same.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if let Some(page) = browser(&serving, &same) {
        let output = page.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("ok 2 - the page makes of events"), "{said}");
    }
    drop(runtime);
}

#[test]
fn a_hostile_project_is_served_as_text() {
    let nodes = "id,name\n1,<script>alert(3)</script>\n2,canary-key-0123456789\n";
    let project = project().env("SERVICE_API_KEY", "canary-key-0123456789").file("data/nodes.csv", nodes);
    project.flow("run -q").exits(0);
    let project = project.file(".flow/runs/20990101-000000000-0001.jsonl", HOSTILE);
    let serving = Serving::start(&project, "");
    if let Some(page) = browser(&serving, &[("FLOW_HOSTILE", "20990101-000000000-0001")]) {
        let output = page.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("ok 3 - a hostile run is text"), "{said}");
    }
}
