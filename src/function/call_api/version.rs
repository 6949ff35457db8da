//! `cache_version`: the version that a service says it has, asked once a run.

use std::time::Duration;

use reqwest::header::HeaderMap;

use super::{answers::Selector, paginator::same_server, template::text_of_json};
use crate::{
    model::{Secret, ServiceError},
    net::{
        Http, Request, Response, WireError,
        client::{scrub, shorten},
    },
};

/// The limit on the size of the document.
const MAX_DOCUMENT: usize = 64 << 20;
/// Attempts, and the pause between two.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// What is sent to ask for a version.
#[derive(Debug)]
pub struct VersionRequest<'a> {
    /// The address of the document.
    pub url: &'a str,
    /// The path to the version.
    pub path: &'a Selector,
    /// The address of the service: its headers are sent to the same server only.
    pub service: &'a str,
    /// The headers of the service.
    pub headers: HeaderMap,
    /// The time limit of an attempt.
    pub timeout: Duration,
    /// What must not be shown.
    pub secrets: &'a [Secret],
}

/// Asks for the version.
///
/// # Errors
/// When there is no answer, or no version in it.
pub async fn ask(request: &VersionRequest<'_>) -> Result<String, ServiceError> {
    let failed = |why: String| {
        let why = shorten(&scrub(request.secrets, &why));
        ServiceError::Stopped(format!("`cache_version`: {}: {why}", request.url))
    };
    let url = reqwest::Url::parse(request.url).map_err(|error| failed(error.to_string()))?;
    let same = reqwest::Url::parse(request.service).is_ok_and(|service| same_server(&service, request.url).is_some());
    let sent = Request {
        method: reqwest::Method::GET,
        url,
        headers: if same { request.headers.clone() } else { HeaderMap::new() },
        body: bytes::Bytes::new(),
        timeout: request.timeout,
        max_body: MAX_DOCUMENT,
    };
    let http = Http::new(request.timeout).map_err(|error| failed(error.to_string()))?;
    let mut last = String::new();
    let mut body = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(PAUSE * attempt).await;
        }
        match http.send(&sent).await {
            Ok(Response { status: 200, body: found, .. }) => {
                body = Some(found);
                break;
            }
            Ok(response) if response.status < 500 && response.status != 429 => {
                return Err(failed(format!("status {}", response.status)));
            }
            Ok(response) => last = format!("status {}", response.status),
            Err(WireError::Permanent(why)) => return Err(failed(why)),
            Err(error) => last = error.to_string(),
        }
    }
    let Some(body) = body else { return Err(failed(last)) };
    let document: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| failed(format!("not a JSON document: {error}")))?;
    let version = request.path.nodes(&document).first().map(|node| text_of_json(node)).filter(|text| !text.is_empty());
    version.ok_or_else(|| failed(format!("`{}` selects nothing in the document", request.path.text())))
}
