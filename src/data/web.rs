//! Files on web servers, read only: one file by its URL, or a folder that WebDAV lists.
//!
//! A URL is requested as it is written, percent signs and query included. Credentials go to its own host alone and into
//! no message. Servers without range requests are read once, into a temporary file. Must not know what is read.

use std::{
    fmt,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use base64_simd::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    Attributes, ClientOptions, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    RetryConfig,
    client::{HttpClient, HttpConnector},
    http::{HttpBuilder, HttpStore},
    path::Path,
};
use reqwest::{
    Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect::{Action, Attempt, Policy},
};
use tempfile::NamedTempFile;
use tokio::sync::OnceCell;

use super::{error::WEB_STORE, tasks::blocking};
use crate::net::Hints;

/// Attempts per request, when earlier ones could not connect, got a server error, or came too often.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long a server may want nobody to ask again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);

/// Whom requests are sent to and how they introduce themselves.
pub(super) struct WebAccess {
    url: Url,
    headers: HeaderMap,
}

impl WebAccess {
    /// Reads a URL and the options of its credentials. No error holds a part of either.
    pub(super) fn new(url: &str, options: &[(&str, &str)]) -> std::result::Result<Self, String> {
        let mut url = Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
        let option = |name: &str| options.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
        let decoded = |text: &str| percent_decoded(text);
        let in_url = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())));
        let given = match (option("username"), option("password")) {
            (None, None) => in_url,
            (user, password) => Some((user.unwrap_or_default().to_owned(), password.unwrap_or_default().to_owned())),
        };
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &str| {
            let mut value =
                HeaderValue::from_str(value).map_err(|_| format!("credentials: `{name}` holds no header"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok::<_, String>(())
        };
        if let Some(json) = option("headers") {
            for (name, value) in parse_headers(json)? {
                add(name, &value)?;
            }
        }
        match (given, option("token")) {
            (Some(_), Some(_)) => return Err("credentials: give a user name or a token, not both".to_owned()),
            (Some((user, password)), None) => {
                let text = STANDARD.encode_to_string(format!("{user}:{password}"));
                add(header::AUTHORIZATION, &format!("Basic {text}"))?;
            }
            (None, Some(token)) => add(header::AUTHORIZATION, &format!("Bearer {token}"))?,
            (None, None) => {}
        }
        // Their place is the header.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(Self { url, headers })
    }
}

/// `credentials: {headers: {…}}` as it was written down: a JSON object of strings.
pub(super) fn parse_headers(json: &str) -> std::result::Result<Vec<(HeaderName, String)>, String> {
    let wrong = || "credentials: `headers` must be a mapping from names to strings".to_owned();
    let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).map_err(|_| wrong())?;
    map.into_iter()
        .map(|(name, value)| {
            let known =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("credentials: `{name}` is no header"))?;
            let value = value.as_str().ok_or_else(wrong)?.to_owned();
            HeaderValue::from_str(&value).map_err(|_| format!("credentials: header `{name}` has no valid value"))?;
            Ok((known, value))
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|two| *byte == b'%' && two.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        out.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One file.
pub(super) struct WebFile {
    client: reqwest::Client,
    access: WebAccess,
    /// The whole file, if the server supports neither ranges nor validators.
    copy: OnceCell<LocalCopy>,
}

struct LocalCopy {
    file: NamedTempFile,
    found: Found,
}

impl LocalCopy {
    /// What was asked for of it.
    async fn part(&self, range: Option<&GetRange>) -> Result<GetResult> {
        let meta = meta(&self.found);
        let Some(range) = range else {
            let file = self.file.reopen().map_err(generic)?;
            let payload = GetResultPayload::File(file, self.file.path().to_path_buf());
            return Ok(GetResult { payload, range: 0..meta.size, meta, attributes: Attributes::new() });
        };
        let range = range.as_range(meta.size).map_err(generic)?;
        let (wanted, mut file) = (range.clone(), self.file.reopen().map_err(generic)?);
        let bytes = blocking(move || read_range(&mut file, wanted)).await.map_err(generic)?;
        Ok(GetResult { payload: once(bytes), range, meta, attributes: Attributes::new() })
    }
}

/// What a response says of the file.
#[derive(Debug, Clone)]
struct Found {
    size: u64,
    tag: Option<String>,
    modified: Option<DateTime<Utc>>,
}

impl WebFile {
    pub(super) fn new(access: WebAccess) -> Result<Self> {
        let client = client().redirect(Policy::none()).build().map_err(|error| generic(without_url(error)))?;
        Ok(Self { client, access, copy: OnceCell::new() })
    }

    /// The only object of this store.
    pub(super) fn path() -> Path {
        Path::from("file")
    }

    /// Sends the request until there is a conclusive response, following redirects.
    async fn request(&self, range: Option<&str>) -> Result<Response> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let last = attempt == ATTEMPTS;
            let mut wanted = Duration::ZERO;
            match self.follow(range).await {
                Ok(response) if is_transient(response.status()) && !last => {
                    wanted = Hints::read(response.headers(), SystemTime::now()).retry_after.unwrap_or_default();
                    if wanted > LONGEST_WAIT {
                        return judged(response);
                    }
                }
                Ok(response) => return judged(response),
                Err(Error::Generic { .. }) if !last => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause.max(wanted)).await;
            pause *= 2;
        }
        unreachable!("the last attempt is judged")
    }

    async fn follow(&self, range: Option<&str>) -> Result<Response> {
        let first = &self.access.url;
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            let mut request = self.client.get(url.clone());
            if url.origin() == first.origin() {
                request = request.headers(self.access.headers.clone());
            }
            if let Some(range) = range {
                request = request.header(header::RANGE, range);
            }
            let response = request.send().await.map_err(|error| generic(without_url(error)))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            let Some(next) = to.and_then(|to| url.join(to).ok()) else {
                return Err(refused(format!("it redirects to nowhere ({})", response.status())));
            };
            if next.path().ends_with('/') && !first.path().ends_with('/') {
                return Err(refused(
                    "it is a folder, which a plain web server does not list: name one file, or end the path with `/` \
                     where the server speaks WebDAV"
                        .to_owned(),
                ));
            }
            url = next;
        }
        Err(refused(format!("it redirects more than {REDIRECTS} times")))
    }

    /// What the file is, asked for with one small request.
    async fn look(&self) -> Result<Found> {
        if let Some(copy) = self.copy.get() {
            return Ok(copy.found.clone());
        }
        // Not HEAD: a signed URL is good for GET alone.
        let response = match self.request(Some("bytes=0-0")).await {
            Err(Error::Precondition { .. }) => return Ok(Found { size: 0, tag: None, modified: None }),
            response => response?,
        };
        match found(&response) {
            Some(found) if found.tag.is_some() || found.modified.is_some() => Ok(found),
            // Only its content shows whether it changed.
            _ => {
                let response = (response.status() == StatusCode::OK).then_some(response);
                Ok(self.copied(response).await?.found.clone())
            }
        }
    }

    /// The whole file, from a response that is here already or a new one.
    async fn copied(&self, response: Option<Response>) -> Result<&LocalCopy> {
        self.copy
            .get_or_try_init(|| async {
                let mut response = match response {
                    Some(response) => response,
                    None => self.request(None).await?,
                };
                let found = found(&response);
                let mut file = NamedTempFile::new().map_err(generic)?;
                let mut hasher = blake3::Hasher::new();
                let mut size = 0;
                while let Some(chunk) = response.chunk().await.map_err(|error| generic(without_url(error)))? {
                    size += chunk.len() as u64;
                    (file, hasher) = blocking(move || {
                        hasher.update(&chunk);
                        file.write_all(&chunk).map(|()| (file, hasher))
                    })
                    .await
                    .map_err(generic)?;
                }
                let (tag, modified) = found.map_or((None, None), |found| (found.tag, found.modified));
                let tag = tag.or_else(|| modified.is_none().then(|| format!("blake3-{}", hasher.finalize().to_hex())));
                Ok(LocalCopy { file, found: Found { size, tag, modified } })
            })
            .await
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        // Sizes and ranges are those of the file, not of a compressed form of it.
        .no_gzip()
        .user_agent(concat!("flow/", env!("CARGO_PKG_VERSION")))
}

fn read_range(file: &mut File, range: Range<u64>) -> std::io::Result<Bytes> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn once(bytes: Bytes) -> GetResultPayload {
    GetResultPayload::Stream(futures::stream::once(async move { Ok(bytes) }).boxed())
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: WEB_STORE, source: source.into() }
}

/// What no further attempt changes.
pub(super) fn refused(message: String) -> Error {
    Error::PermissionDenied { path: String::new(), source: message.into() }
}

/// A URL may hold a signature.
fn without_url(error: reqwest::Error) -> reqwest::Error {
    error.without_url()
}

/// True for a response that may be another one later.
fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn judged(response: Response) -> Result<Response> {
    let status = response.status();
    match status {
        _ if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(Error::NotFound { path: String::new(), source: status.to_string().into() })
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused(format!(
            "the server refuses it ({status}); `credentials` take a user name and password, a token or headers, and a signed URL may have expired"
        ))),
        // Nothing of an empty file can be asked for.
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Err(Error::Precondition { path: String::new(), source: status.to_string().into() })
        }
        _ if is_transient(status) => Err(generic(format!("the server responded with {status}"))),
        _ => Err(refused(format!("the server responded with {status}"))),
    }
}

/// The metadata in a response; `None` without a size.
fn found(response: &Response) -> Option<Found> {
    let text = |name: HeaderName| response.headers().get(name)?.to_str().ok();
    let size = match response.status() {
        StatusCode::PARTIAL_CONTENT => text(header::CONTENT_RANGE)?.rsplit_once('/')?.1.parse().ok()?,
        _ => response.content_length()?,
    };
    let modified = text(header::LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok());
    Some(Found { size, tag: text(header::ETAG).map(str::to_owned), modified: modified.map(Into::into) })
}

/// Which bytes of the file a partial response holds, as it says.
fn content_range(response: &Response) -> Option<Range<u64>> {
    let (_, of_file) = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?.split_once(' ')?;
    let (first, last) = of_file.split_once('/')?.0.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

fn meta(found: &Found) -> ObjectMeta {
    ObjectMeta {
        location: WebFile::path(),
        last_modified: found.modified.unwrap_or(DateTime::UNIX_EPOCH),
        size: found.size,
        e_tag: found.tag.clone(),
        version: None,
    }
}

fn ranged(range: &GetRange) -> String {
    match range {
        GetRange::Bounded(range) => format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
        GetRange::Offset(start) => format!("bytes={start}-"),
        GetRange::Suffix(length) => format!("bytes=-{length}"),
    }
}

fn read_only(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: WEB_STORE.to_owned() }
}

impl fmt::Debug for WebFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebFile")
    }
}

impl fmt::Display for WebFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file on a web server")
    }
}

#[async_trait]
impl ObjectStore for WebFile {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only("writing"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only("writing"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        // Siblings such as receipts were never written by flow.
        if *location != Self::path() {
            return Err(Error::NotFound { path: location.to_string(), source: "one file is all there is".into() });
        }
        if options.head {
            let meta = meta(&self.look().await?);
            let payload = once(Bytes::new());
            return Ok(GetResult { payload, range: 0..meta.size, meta, attributes: Attributes::new() });
        }
        if let Some(copy) = self.copy.get() {
            return copy.part(options.range.as_ref()).await;
        }
        let response = self.request(options.range.as_ref().map(ranged).as_deref()).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let Some(found) = found(&response).filter(|_| partial == options.range.is_some()) else {
            let copy = self.copied((!partial).then_some(response)).await?;
            return copy.part(options.range.as_ref()).await;
        };
        let range = match &options.range {
            Some(range) => range.as_range(found.size).map_err(generic)?,
            None => 0..found.size,
        };
        if partial && content_range(&response) != Some(range.clone()) {
            return self.copied(None).await?.part(options.range.as_ref()).await;
        }
        let chunks = futures::stream::try_unfold(response, |mut response| async {
            let chunk = response.chunk().await.map_err(|error| generic(without_url(error)))?;
            Ok(chunk.map(|chunk| (chunk, response)))
        });
        let payload = GetResultPayload::Stream(chunks.boxed());
        Ok(GetResult { payload, range, meta: meta(&found), attributes: Attributes::new() })
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        async { Err(read_only("removing")) }.into_stream().boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::empty().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(read_only("listing"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only("copying"))
    }
}

/// A folder that WebDAV lists.
#[derive(Debug)]
pub(super) struct WebFolder {
    reader: HttpStore,
    /// Asks once: a server that lists no folders is asked in vain.
    lister: HttpStore,
}

impl WebFolder {
    pub(super) fn new(access: &WebAccess, retry: RetryConfig) -> Result<Self> {
        let store = |retry| {
            let connector = Connector { https: access.url.scheme() == "https", headers: access.headers.clone() };
            let builder = HttpBuilder::new().with_url(access.url.as_str()).with_http_connector(connector);
            builder.with_retry(retry).build()
        };
        let never = RetryConfig { max_retries: 0, ..retry.clone() };
        Ok(Self { reader: store(retry)?, lister: store(never)? })
    }
}

/// Connects with credentials that stay with their server. Of the headers of a request that is redirected to another
/// server `reqwest` leaves out `Authorization`; with credentials in other headers such a redirect is not followed.
#[derive(Debug)]
struct Connector {
    https: bool,
    headers: HeaderMap,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
        let other_headers = self.headers.keys().any(|name| *name != header::AUTHORIZATION);
        let redirects = if other_headers { Policy::custom(within_server) } else { Policy::limited(REDIRECTS) };
        let client = client().redirect(redirects).https_only(self.https).default_headers(self.headers.clone());
        Ok(HttpClient::new(client.build().map_err(|error| generic(without_url(error)))?))
    }
}

fn within_server(attempt: Attempt<'_>) -> Action {
    let first = attempt.previous().first().map(Url::origin);
    let follow = first == Some(attempt.url().origin()) && attempt.previous().len() <= REDIRECTS;
    if follow { attempt.follow() } else { attempt.stop() }
}

impl fmt::Display for WebFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a folder on a web server")
    }
}

#[async_trait]
impl ObjectStore for WebFolder {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only("writing"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only("writing"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reader.get_opts(location, options).await
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        async { Err(read_only("removing")) }.into_stream().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.lister.list(prefix);
        listed
            .map_err(|_| {
                refused(
                    "the server does not list its folders (WebDAV's PROPFIND): name one file, without `/` at the end"
                        .to_owned(),
                )
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.lister.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only("copying"))
    }
}
