//! Who may read: requests from this machine, and those with the token; and what every response says about itself.
//!
//! A page of another site may send requests to this server through the reader's browser. It is told by `Host` (the name that
//! was resolved to this machine), by `Origin`, and by what browsers say in `Sec-Fetch-Site`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, ORIGIN, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    middleware::Next,
    response::Response,
};

use super::response;

/// The cookie that holds the token after the page was opened with it.
const COOKIE_NAME: &str = "flow_token";
/// What every response says: it is not stored, not framed, not guessed at, and not read by other sites.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// What a request has to have.
#[derive(Debug, Clone)]
pub(super) struct Access {
    bound: SocketAddr,
    token: Option<String>,
}

/// A request that may be answered.
#[derive(Debug, PartialEq, Eq)]
struct Admitted {
    /// The cookie to be set.
    cookie: Option<HeaderValue>,
}

/// Why a request is refused.
type Refused = (StatusCode, &'static str);

/// True for what can be a token: it stands in a cookie as it is.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}

/// Answers only requests that may read, and says of each response what it is.
pub(super) async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let mut response = match access.check(&request) {
        Err((status, message)) => response::error(status, message),
        Ok(admitted) => {
            let mut response = next.run(request).await;
            if let Some(cookie) = admitted.cookie {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            response
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

/// A header; `None` where there are several, or where it is not text.
fn header<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Option<&'r str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

impl Access {
    /// Access to a server that listens at `bound`. With a token, each request has to have it.
    pub(super) fn new(bound: SocketAddr, token: Option<String>) -> Self {
        Self { bound, token }
    }

    fn check<B>(&self, request: &axum::http::Request<B>) -> Result<Admitted, Refused> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let message = "everything here is read-only: only GET and HEAD are supported";
            return Err((StatusCode::METHOD_NOT_ALLOWED, message));
        }
        let (uri, headers) = (request.uri(), request.headers());
        if uri.authority().is_some() || !uri.path().starts_with('/') {
            return Err((StatusCode::BAD_REQUEST, "the target of the request is not a path"));
        }
        let Some(host) = header(headers, &HOST) else {
            return Err((StatusCode::BAD_REQUEST, "the request names no host"));
        };
        // Where a token is needed, the machine may have names that are not known here. A page whose name was resolved to this
        // machine does not know the token.
        if self.token.is_none() && !self.is_own(host) {
            return Err((StatusCode::FORBIDDEN, "the request names another host than this one"));
        }
        let elsewhere = (StatusCode::FORBIDDEN, "the request comes from a page of another site");
        if headers.contains_key(&ORIGIN) && header(headers, &ORIGIN) != Some(format!("http://{host}").as_str()) {
            return Err(elsewhere);
        }
        let site = header(headers, &HeaderName::from_static("sec-fetch-site"));
        if matches!(site, Some("cross-site" | "same-site")) && uri.path() != "/" {
            return Err(elsewhere);
        }
        let Some(token) = &self.token else { return Ok(Admitted { cookie: None }) };
        let in_query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let in_query = in_query.into_iter().find(|(name, _)| name == "token").map(|(_, value)| value);
        let cookies = headers.get_all(&COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let in_cookie = cookies.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value);
        let bearer = header(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let given = in_query.as_deref().or(bearer).or(in_cookie);
        if !given.is_some_and(|given| is_same(given, token)) {
            let message = "the token is missing or wrong; open the address that `flow serve` printed";
            return Err((StatusCode::UNAUTHORIZED, message));
        }
        let cookie = in_query.map(|_| format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict"));
        Ok(Admitted { cookie: cookie.and_then(|cookie| cookie.try_into().ok()) })
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
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(axum::body::Body::empty()).expect("a request")
    }

    fn status(access: &Access, path: &str, headers: &[(&str, &str)]) -> u16 {
        access.check(&request(path, headers)).map_or_else(|(status, _)| status.as_u16(), |_| 200)
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
        assert_eq!(status(&access, "http://localhost:4145/", &[("Host", "localhost:4145")]), 400, "a proxy's request");
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
            ("/api/runs", ("Origin", "ö"), 403),
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
            ("/api/runs", ("Authorization", "Bearer "), 401),
            ("/?token=", ("Cookie", "flow_token=t0ken"), 401),
            ("/?a=b&token=t0%6Ben", ("X", "y"), 200),
        ] {
            assert_eq!(status(&access, path, &[host, header]), expected, "{path} {header:?}");
        }
        let admitted = access.check(&request("/?token=t0ken", &[host])).expect("it is right");
        let cookie = admitted.cookie.expect("a cookie");
        assert!(cookie.to_str().expect("text").contains("flow_token=t0ken; Path=/; HttpOnly; SameSite=Strict"));
    }
    #[test]
    fn a_token_stands_in_a_cookie_as_it_is() {
        for (text, expected) in [("mine-0123", true), ("a+b/c==", true), ("", false), ("a b", false), ("a;b", false)] {
            assert_eq!(is_token(text), expected, "{text}");
        }
    }

    #[test]
    fn methods_that_change_something_are_refused_first() {
        let access = Access::new("127.0.0.1:4145".parse().expect("an address"), None);
        for (method, expected) in [("GET", 400), ("HEAD", 400), ("POST", 405), ("OPTIONS", 405), ("BREW", 405)] {
            let request = axum::http::Request::builder().method(method).uri("/").body(()).expect("a request");
            assert_eq!(
                access.check(&request).map_or_else(|(status, _)| status.as_u16(), |_| 200),
                expected,
                "{method}"
            );
        }
    }
}
