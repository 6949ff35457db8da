//! Who may read: requests from this machine, and those with the token.
//!
//! A page of another site may send requests to this server through the reader's browser. It is told by `Host` (the name that
//! was resolved to this machine), by `Origin`, and by what browsers say in `Sec-Fetch-Site`.

use std::net::{IpAddr, SocketAddr};

use super::http::{Request, Response};

/// The cookie that holds the token after the page was opened with it.
const COOKIE: &str = "flow_token";

/// What a request has to have.
#[derive(Debug, Clone)]
pub(super) struct Access {
    bound: SocketAddr,
    token: Option<String>,
}

/// A request that may be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// The cookie to be set.
    pub(super) cookie: Option<String>,
}

impl Access {
    /// Access to a server that listens at `bound`. With a token, each request has to have it.
    pub(super) fn new(bound: SocketAddr, token: Option<String>) -> Self {
        Self { bound, token }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// The response that refuses it.
    pub(super) fn check(&self, request: &Request) -> Result<Admitted, Response> {
        let Some(host) = request.header("host") else {
            return Err(Response::error(400, "the request names no host"));
        };
        // Where a token is needed, the machine may have names that are not known here. A page whose name was resolved to this
        // machine does not know the token.
        if self.token.is_none() && !self.is_own(host) {
            return Err(Response::error(403, "the request names another host than this one"));
        }
        if let Some(origin) = request.header("origin")
            && origin != format!("http://{host}")
        {
            return Err(Response::error(403, "the request comes from a page of another site"));
        }
        let from_elsewhere = matches!(request.header("sec-fetch-site"), Some("cross-site" | "same-site"));
        if from_elsewhere && request.path != [""] {
            return Err(Response::error(403, "the request comes from a page of another site"));
        }
        let Some(token) = &self.token else { return Ok(Admitted { cookie: None }) };
        let cookies = request.header("cookie").unwrap_or_default().split(';');
        let in_cookie = cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == COOKIE);
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let given = request.parameter("token").or(bearer).or(in_cookie.map(|(_, value)| value));
        if !given.is_some_and(|given| is_same(given, token)) {
            let message = "the token is missing or wrong; open the address that `flow serve` printed";
            return Err(Response::error(401, message));
        }
        let cookie = request.parameter("token").map(|_| format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"));
        Ok(Admitted { cookie })
    }

    /// True for the names of this machine's own address.
    fn is_own(&self, host: &str) -> bool {
        let port = self.bound.port();
        let name = match host.strip_suffix(&format!(":{port}")) {
            Some(name) => name,
            None if port == 80 => host,
            None => return false,
        };
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        name.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == self.bound.ip())
    }
}

/// Compares two texts in a time that depends on their lengths alone.
fn is_same(one: &str, other: &str) -> bool {
    let difference = one.bytes().zip(other.bytes()).fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, &str)]) -> Request {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
        super::super::http::parsed(&text)
    }

    fn status(access: &Access, path: &str, headers: &[(&str, &str)]) -> u16 {
        access.check(&request(path, headers)).map_or_else(|response| response.status, |_| 200)
    }

    #[test]
    fn names_that_were_resolved_to_this_machine_are_refused() {
        let access = Access::new("127.0.0.1:4145".parse().expect("an address"), None);
        for (host, expected) in [
            ("127.0.0.1:4145", 200),
            ("localhost:4145", 200),
            ("LOCALHOST:4145", 200),
            ("[::1]:4145", 200),
            ("attacker.example:4145", 403),
            ("localhost.attacker.example:4145", 403),
            ("127.0.0.1:80", 403),
            ("localhost", 403),
            ("10.0.0.1:4145", 403),
        ] {
            assert_eq!(status(&access, "/api/runs", &[("Host", host)]), expected, "{host}");
        }
        assert_eq!(status(&access, "/", &[]), 400);
        assert_eq!(status(&access, "/", &[("Host", "localhost:4145"), ("Host", "a:4145")]), 400, "two hosts");
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let access = Access::new("127.0.0.1:4145".parse().expect("an address"), None);
        let host = ("Host", "localhost:4145");
        for (path, header, expected) in [
            ("/api/runs", ("Origin", "http://localhost:4145"), 200),
            ("/api/runs", ("Origin", "http://attacker.example"), 403),
            ("/api/runs", ("Origin", "null"), 403),
            ("/api/runs", ("Sec-Fetch-Site", "same-origin"), 200),
            ("/api/runs", ("Sec-Fetch-Site", "cross-site"), 403),
            ("/", ("Sec-Fetch-Site", "cross-site"), 200),
        ] {
            assert_eq!(status(&access, path, &[host, header]), expected, "{path} {header:?}");
        }
    }

    #[test]
    fn a_token_is_needed_by_each_request_where_there_is_one() {
        let access = Access::new("0.0.0.0:80".parse().expect("an address"), Some("t0ken".to_owned()));
        let host = ("Host", "build-server");
        for (path, header, expected) in [
            ("/", ("X", "y"), 401),
            ("/?token=wrong", ("X", "y"), 401),
            ("/?token=t0ke", ("X", "y"), 401),
            ("/?token=t0ken", ("X", "y"), 200),
            ("/api/runs", ("Cookie", "a=b; flow_token=t0ken"), 200),
            ("/api/runs", ("Cookie", "flow_token=x"), 401),
            ("/api/runs", ("Authorization", "Bearer t0ken"), 200),
        ] {
            assert_eq!(status(&access, path, &[host, header]), expected, "{path} {header:?}");
        }
        let admitted = access.check(&request("/?token=t0ken", &[host])).ok().expect("it is right");
        assert!(admitted.cookie.is_some_and(|cookie| cookie.contains("HttpOnly; SameSite=Strict")));
    }
}
