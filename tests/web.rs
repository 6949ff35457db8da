//! Inputs from web servers: URLs are requested as written, credentials go to their host only, a missing file costs one
//! request and one message. Also: missing buckets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::support::Project;

const CSV: &str = "id,name\n1,one\n2,two\n";

/// One request: its method and target, and its headers with names in lower case.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A response: its status line, headers and body.
struct Reply(&'static str, Vec<(&'static str, String)>, Vec<u8>);

/// A web server on loopback whose responses come from a function. Its threads end with the process.
struct WebServer {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl WebServer {
    fn new(respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, respond) = (Arc::clone(&seen), Arc::new(respond));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (log, respond) = (Arc::clone(&log), Arc::clone(&respond));
                thread::spawn(move || serve(client, &log, &*respond));
            }
        });
        Self { port, seen }
    }

    /// Requests since the last call.
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn serve(client: TcpStream, log: &Mutex<Vec<Seen>>, respond: &dyn Fn(&Seen) -> Reply) {
    let mut reader = BufReader::new(client.try_clone().expect("a handle"));
    let mut client = client;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let seen = Seen { line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(), headers };
        let body = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if reader.by_ref().take(body).read_to_end(&mut Vec::new()).is_err() {
            return;
        }
        let Reply(status, headers, mut body) = respond(&seen);
        let length = body.len();
        if seen.line.starts_with("HEAD ") {
            body.clear();
        }
        log.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if client.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| client.write_all(&body)).is_err() {
            return;
        }
    }
}

/// A file, with or without ranges, at one exact target.
fn file(target: &'static str, ranges: bool, content: Vec<u8>) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| {
        if seen.line != format!("GET {target}") {
            return Reply("404 Not Found", Vec::new(), b"<html>an error page</html>".to_vec());
        }
        let tag = ("ETag", "\"1\"".to_owned());
        let range = seen.header("range").and_then(|range| range.strip_prefix("bytes="));
        let Some((start, end)) = range.filter(|_| ranges).and_then(|range| range.split_once('-')) else {
            return Reply("200 OK", vec![tag], content.clone());
        };
        let (start, end) = match (start.parse::<usize>(), end.parse::<usize>()) {
            (Ok(start), Ok(end)) => (start, (end + 1).min(content.len())),
            (Ok(start), Err(_)) => (start, content.len()),
            (Err(_), end) => (content.len() - end.expect("a suffix").min(content.len()), content.len()),
        };
        let shown = format!("bytes {start}-{}/{}", end - 1, content.len());
        Reply("206 Partial Content", vec![tag, ("Content-Range", shown)], content[start..end].to_vec())
    }
}

fn project(path: &str, more: &str) -> Project {
    Project::empty().file("catalog.yml", &format!("t: {{type: csv, path: '{path}'{more}}}\n"))
}

#[test]
fn a_url_with_percent_signs_and_a_signed_query_is_requested_as_it_is_written() {
    let target = "/my%20dir/t%2Bx.csv?X-Signature=a%2Fb+c%3D&x=%C3%A9";
    for ranges in [true, false] {
        let server = WebServer::new(file(target, ranges, CSV.into()));
        let output = project(&server.url(target), "").flow("show t").exits(0);
        assert!(output.stdout.contains("two"), "{}", output.stdout);
        for seen in server.take() {
            assert_eq!(seen.line, format!("GET {target}"));
        }
    }
}

#[test]
fn a_missing_file_is_one_request_and_one_sentence() {
    let server = WebServer::new(file("/other.csv", true, CSV.into()));
    let output = project(&server.url("/missing.csv?sig=hunter2"), "").flow("show t");
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains(&server.url("/missing.csv")), "{}", output.stderr);
    assert!(!output.stderr.contains("hunter2") && !output.stderr.contains("html"), "{}", output.stderr);
    let lines: Vec<String> = server.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /missing.csv?sig=hunter2"]);
}

#[test]
fn a_server_that_has_too_many_requests_is_asked_again_when_it_says() {
    let show = |wait: &'static str| {
        let refused = std::sync::atomic::AtomicBool::new(false);
        let whole = file("/t.csv", true, CSV.into());
        let server = WebServer::new(move |seen| {
            if refused.swap(true, std::sync::atomic::Ordering::Relaxed) {
                return whole(seen);
            }
            Reply("429 Too Many Requests", vec![("Retry-After", wait.to_owned())], Vec::new())
        });
        project(&server.url("/t.csv"), "").flow("show t")
    };
    assert!(show("0").exits(0).stdout.contains("two"));
    let output = show("3000");
    assert_ne!(output.code, 0, "nobody waits that long");
    assert!(output.stderr.contains("429 Too Many Requests"), "{}", output.stderr);
}

#[test]
fn credentials_are_sent_and_never_shown() {
    // `me:s%40crt` of the URL is `me:s@crt`.
    for (in_url, more, header, value) in [
        ("me:s%40crt@", "", "authorization", "Basic bWU6c0BjcnQ="),
        ("", ", credentials: {username: me, password: s@crt}", "authorization", "Basic bWU6c0BjcnQ="),
        ("", ", credentials: {token: s@crt}", "authorization", "Bearer s@crt"),
        ("", ", credentials: {headers: {X-Api-Key: s@crt}}", "x-api-key", "s@crt"),
    ] {
        let server = WebServer::new(move |seen| match seen.header(header) == Some(value) {
            true => file("/t.csv", true, CSV.into())(seen),
            false => Reply("401 Unauthorized", Vec::new(), Vec::new()),
        });
        let url = server.url("/t.csv").replace("//", &format!("//{in_url}"));
        project(&url, more).flow("show t").exits(0);
        // The same where they are wrong.
        let wrong = |text: &str| text.replace("s%40crt", "wr0ng").replace("s@crt", "wr0ng");
        let output = project(&wrong(&url), &wrong(more)).flow("show t");
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains("401") && output.stderr.contains("credentials"), "{}", output.stderr);
        for secret in ["wr0ng", "me:"] {
            assert!(!output.stderr.contains(secret), "{}", output.stderr);
        }
    }
}

#[test]
fn a_redirect_is_followed_and_credentials_stay_with_their_host() {
    let other = WebServer::new(file("/real.csv?part=1", true, CSV.into()));
    let to = other.url("/real.csv?part=1");
    let server = WebServer::new(move |_| Reply("302 Found", vec![("Location", to.clone())], Vec::new()));
    let more = ", credentials: {username: me, password: secret, headers: {X-Api-Key: secret}}";
    project(&server.url("/t.csv"), more).flow("show t").exits(0);
    for (place, sent) in [(server, true), (other, false)] {
        let seen = place.take();
        assert!(!seen.is_empty());
        for request in seen {
            assert_eq!(request.header("authorization").is_some(), sent, "{request:?}");
            assert_eq!(request.header("x-api-key").is_some(), sent, "{request:?}");
        }
    }
}

#[test]
fn headers_of_a_folder_are_not_sent_to_the_server_that_it_redirects_to() {
    let other = WebServer::new(|_| Reply("404 Not Found", Vec::new(), Vec::new()));
    let to = other.url("/folder/");
    let server = WebServer::new(move |_| Reply("302 Found", vec![("Location", to.clone())], Vec::new()));
    let output = project(&server.url("/folder/"), ", credentials: {headers: {X-Api-Key: secret}}").flow("show t");
    assert_ne!(output.code, 0);
    let seen = server.take();
    assert!(!seen.is_empty() && seen.iter().all(|request| request.header("x-api-key") == Some("secret")), "{seen:?}");
    assert_eq!(other.take().len(), 0);
}

#[test]
fn credentials_that_a_web_server_has_no_use_for_are_refused_by_check() {
    let output = project("https://host/t.csv", ", credentials: {key: k, secret: s}").flow("check").exits(2);
    assert!(output.stderr.contains("`key`") && output.stderr.contains("password"), "{}", output.stderr);
    let output = project("https://host/t.csv", ", credentials: {headers: [a]}").flow("check").exits(2);
    assert!(output.stderr.contains("headers"), "{}", output.stderr);
}

#[test]
fn a_folder_that_no_server_lists_is_an_error_that_says_so() {
    let server = WebServer::new(|_| Reply("501 Unsupported method", Vec::new(), b"<html>".to_vec()));
    let output = project(&server.url("/folder/"), "").flow("show t");
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("does not list") && output.stderr.contains("WebDAV"), "{}", output.stderr);
    assert!(!output.stderr.contains("html"), "{}", output.stderr);
    assert_eq!(server.take().len(), 1);
    let to = "/folder/".to_owned();
    let server = WebServer::new(move |_| Reply("301 Moved Permanently", vec![("Location", to.clone())], Vec::new()));
    let output = project(&server.url("/folder"), "").flow("show t");
    assert!(output.stderr.contains("it is a folder"), "{}", output.stderr);
}

#[test]
fn an_output_on_a_web_server_is_refused_before_the_start() {
    let server = WebServer::new(|_| Reply("404 Not Found", Vec::new(), Vec::new()));
    let project = Project::empty()
        .file("data/t.csv", CSV)
        .file("parameters.yml", "query: SELECT * FROM t\n")
        .file(
            "catalog.yml",
            &format!("t: {{type: csv, path: data/t.csv}}\nout: {{type: csv, path: '{}'}}\n", server.url("/out.csv")),
        )
        .file(
            "pipelines/p.yml",
            "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: params:query}, outputs: out}\n",
        );
    let output = project.flow("run").exits(3);
    assert!(output.stderr.contains("only read"), "{}", output.stderr);
    assert_eq!(server.take().len(), 0);
}

fn parquet() -> Vec<u8> {
    let made = Project::empty()
        .file("data/t.csv", CSV)
        .file("parameters.yml", "query: SELECT * FROM t\n")
        .file("catalog.yml", "t: {type: csv, path: data/t.csv}\nout: {type: parquet, path: out.parquet}\n")
        .file(
            "pipelines/p.yml",
            "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: params:query}, outputs: out}\n",
        );
    made.flow("run -q").exits(0);
    std::fs::read(made.path("out.parquet")).expect("a file")
}

#[test]
fn parquet_on_a_server_that_sends_less_than_the_range_is_read_right() {
    let bytes = parquet();
    let server = WebServer::new(move |seen| {
        let tag = ("ETag", "\"1\"".to_owned());
        match seen.header("range") {
            Some(_) => {
                let first = ("Content-Range", format!("bytes 0-0/{}", bytes.len()));
                Reply("206 Partial Content", vec![tag, first], bytes[..1].to_vec())
            }
            None => Reply("200 OK", vec![tag], bytes.clone()),
        }
    });
    let project = Project::empty()
        .file("catalog.yml", &format!("t: {{type: parquet, path: '{}'}}\n", server.url("/out.parquet")));
    let output = project.flow("show t").exits(0);
    assert!(output.stdout.contains("two"), "{}", output.stdout);
}

#[test]
fn parquet_on_a_server_without_ranges_is_downloaded_once() {
    let bytes = parquet();
    for ranges in [true, false] {
        let server = WebServer::new(file("/out.parquet", ranges, bytes.clone()));
        let project = Project::empty()
            .file("catalog.yml", &format!("t: {{type: parquet, path: '{}'}}\n", server.url("/out.parquet")));
        let output = project.flow("show t").exits(0);
        assert!(output.stdout.contains("two"), "{}", output.stdout);
        let seen = server.take();
        // One to look, and one that turns out to be all of it.
        assert!(ranges || seen.len() <= 2, "{seen:?}");
    }
}

#[test]
fn a_missing_bucket_says_so_and_is_no_held_lease() {
    let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
    let server = WebServer::new(move |_| {
        Reply("404 Not Found", vec![("Content-Type", "application/xml".to_owned())], body.into())
    });
    let credentials = format!("{{key: k, secret: s, endpoint_url: '{}', region: us-east-1}}", server.url(""));
    let project = Project::empty()
        .file("data/t.csv", CSV)
        .file("parameters.yml", "query: SELECT * FROM t\n")
        .file(
            "catalog.yml",
            &format!("t: {{type: csv, path: data/t.csv}}\nout: {{type: csv, path: 's3://nowhere/out.csv', credentials: {credentials}}}\n"),
        )
        .file("pipelines/p.yml", "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: params:query}, outputs: out}\n");
    let refused = project.flow("run").exits(3);
    let shown = project.flow("show out");
    assert_ne!(shown.code, 0);
    for output in [refused, shown] {
        assert!(output.stderr.contains("bucket `nowhere` does not exist"), "{}", output.stderr);
        assert!(!output.stderr.contains("written by"), "{}", output.stderr);
    }
}
