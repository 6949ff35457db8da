//! Locations as written in the catalog: a local path or a URL, with its credentials.
//!
//! Pure: nothing is opened, no environment is read. [`super::Stores`] opens a location.

use std::{str::FromStr as _, sync::Arc};

use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};

use super::web::parse_headers;
use crate::{
    config::{Node, Value},
    model::{Fingerprint, Secret},
};

/// A local path or a URL, with the credentials to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    shown: String,
    target: Target,
    options: Arc<[(String, Setting)]>,
}

/// What a location points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A path; relative ones start at the project's folder.
    Local(String),
    /// An object store.
    Remote {
        /// Which kind.
        kind: StoreKind,
        /// The URL up to the bucket, as the store's builder wants it.
        base: String,
        /// The key in the bucket, without slashes at its ends.
        key: String,
    },
}

/// The object stores that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StoreKind {
    S3,
    Google,
    Azure,
    Http,
    Memory,
}

/// One option of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Known, and perhaps a secret.
    Known(Secret),
    /// A secret's environment variable that is not set.
    MissingVariable(String),
}

/// The option that holds a web server's whole URL.
pub(super) const URL: &str = "url";

/// Why a location cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLocation(pub String);

impl Location {
    /// Reads a path or URL and the mapping under `credentials:`, in `flow`'s or fsspec's spelling.
    ///
    /// # Errors
    /// When the scheme or a key of the credentials is not known.
    pub fn parse(text: &str, credentials: Option<&Node>) -> Result<Self, InvalidLocation> {
        let target = parse_target(text)?;
        let kind = match &target {
            Target::Local(_) => None,
            Target::Remote { kind, .. } => Some(*kind),
        };
        let options = match (kind, credentials) {
            (Some(kind), Some(node)) => parse_credentials(kind, node)?,
            _ => Vec::new(),
        };
        let mut options = options;
        if kind == Some(StoreKind::Http) {
            // As it is written: a store's path would encode it again, and has no place for a query.
            options.push((URL.to_owned(), Setting::Known(Secret::new(text))));
        }
        // Only the URL of a web server has a query and a password; a `?` in a path or key is a character of it.
        let shown = if kind == Some(StoreKind::Http) { without_userinfo(text) } else { text.to_owned() };
        Ok(Self { shown, target, options: options.into() })
    }

    /// As displayed: no credentials.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The last name in the path: what siblings are named after.
    pub fn name(&self) -> &str {
        let path = match &self.target {
            Target::Local(path) => path.as_str(),
            Target::Remote { key, .. } => key,
        };
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if name.is_empty() { "dataset" } else { name }
    }

    /// True when the path was written with a slash at its end: a folder, whatever is there now.
    pub(super) fn is_folder(&self) -> bool {
        self.shown.ends_with('/')
    }

    pub(super) fn is_on_a_web_server(&self) -> bool {
        matches!(self.target, Target::Remote { kind: StoreKind::Http, .. })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn options(&self) -> &[(String, Setting)] {
        &self.options
    }

    /// Tells apart stores that need different clients.
    pub(super) fn store_id(&self) -> Fingerprint {
        let mut builder = Fingerprint::builder("store");
        if let Target::Remote { base, .. } = &self.target {
            builder.push(base.as_bytes());
        }
        for (name, setting) in &*self.options {
            builder.push(name.as_bytes());
            match setting {
                Setting::Known(value) => builder.push(value.expose().as_bytes()),
                Setting::MissingVariable(variable) => builder.push(variable.as_bytes()),
            }
        }
        builder.finish()
    }
}

fn without_userinfo(text: &str) -> String {
    // A query holds signatures; user info holds passwords, except for Azure's `container@account`.
    let text = text.split('?').next().unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.starts_with("http") => match rest.split_once('/').unwrap_or((rest, "")) {
            (host, path) if host.contains('@') => {
                format!("{scheme}://{}/{path}", host.rsplit('@').next().unwrap_or_default())
            }
            _ => text.to_owned(),
        },
        _ => text.to_owned(),
    }
}

/// Schemes of URLs that can be opened.
const SCHEMES: &[&str] =
    &["file", "s3", "s3a", "s3n", "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https", "memory"];

fn parse_target(text: &str) -> Result<Target, InvalidLocation> {
    // A file's URL with one slash or none is as good as one with three, as fsspec reads it.
    if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty() && !path.starts_with("//")) {
        return Ok(Target::Local(path.to_owned()));
    }
    // Taken for a path it would be a folder with a colon in its name.
    if let Some((scheme, rest)) = text.split_once(':')
        && !rest.starts_with("//")
        && SCHEMES.contains(&scheme.to_ascii_lowercase().as_str())
    {
        let meant = format!("{scheme}://{}", rest.trim_start_matches('/'));
        return Err(InvalidLocation(format!(
            "expected `//` after `{scheme}:`, as in `{}`; a file of that name is `./{scheme}:…`",
            without_userinfo(&meant)
        )));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return if text.is_empty() {
            Err(InvalidLocation("the path is empty".to_owned()))
        } else {
            Ok(Target::Local(text.to_owned()))
        };
    };
    let kind = match scheme {
        "file" => return Ok(Target::Local(rest.to_owned())),
        "s3" | "s3a" | "s3n" => StoreKind::S3,
        "gs" | "gcs" => StoreKind::Google,
        "az" | "abfs" | "abfss" | "adl" => StoreKind::Azure,
        "http" | "https" => StoreKind::Http,
        "memory" => StoreKind::Memory,
        _ => {
            return Err(InvalidLocation(format!(
                "`{scheme}://` is not supported; expected a local path, s3://, gs://, az://, abfs://, \
                 http://, https:// or memory://"
            )));
        }
    };
    if rest.contains('\\') || rest.split('/').skip(1).any(|part| part == ".." || part == ".") {
        return Err(InvalidLocation(format!(
            "`{}` holds `.`, `..` or `\\`, which no object store resolves",
            without_userinfo(text)
        )));
    }
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() && kind != StoreKind::Memory {
        return Err(InvalidLocation(format!("`{}` names no bucket", without_userinfo(text))));
    }
    // Azure's `container@account` is no secret.
    if bucket.contains('@') && matches!(kind, StoreKind::S3 | StoreKind::Google) {
        return Err(InvalidLocation("a bucket's URL holds no keys: give them under `credentials`".to_owned()));
    }
    let (bucket, key) = match kind {
        StoreKind::Http => {
            (bucket.rsplit('@').next().unwrap_or_default(), key.split(['?', '#']).next().unwrap_or_default())
        }
        _ => (bucket, key),
    };
    let key: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
    let key = key.join("/");
    let base = match kind {
        StoreKind::S3 => format!("s3://{bucket}"),
        StoreKind::Google => format!("gs://{bucket}"),
        StoreKind::Azure if bucket.contains('@') => format!("abfss://{bucket}"),
        StoreKind::Azure => format!("az://{bucket}"),
        StoreKind::Http => format!("{scheme}://{bucket}"),
        StoreKind::Memory => "memory://".to_owned(),
    };
    // All of memory is one store, so the first part belongs to the key.
    let key = if kind == StoreKind::Memory {
        [bucket, &key].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    } else {
        key
    };
    Ok(Target::Remote { kind, base, key })
}

/// Flattens a credentials mapping into options of the store's builder. Names of fsspec (`key`, `secret`,
/// `client_kwargs.endpoint_url`, `anon`) are read as well as the plain ones (`aws_access_key_id`, `endpoint`).
fn parse_credentials(kind: StoreKind, node: &Node) -> Result<Vec<(String, Setting)>, InvalidLocation> {
    let mut flat = Vec::new();
    flatten(node, &mut flat)?;
    let mut options = Vec::new();
    for (name, setting) in flat {
        let name = name.to_ascii_lowercase();
        if let Some(known) = translate(kind, &name, &setting)? {
            options.extend(known);
            continue;
        }
        return Err(InvalidLocation(format!(
            "credentials: `{name}` is no option of {}; known are for example {}",
            store_name(kind),
            example_options(kind)
        )));
    }
    Ok(options)
}

fn flatten(node: &Node, out: &mut Vec<(String, Setting)>) -> Result<(), InvalidLocation> {
    let Some(map) = node.as_map() else {
        return Err(InvalidLocation(format!("credentials must be a mapping, not {}", node.kind())));
    };
    for (name, entry) in map.iter() {
        let text = match &entry.node.value {
            Value::Map(_) if matches!(name, "client_kwargs" | "config_kwargs" | "s3_additional_kwargs") => {
                flatten(&entry.node, out)?;
                continue;
            }
            // A service account written out as a mapping.
            Value::Map(map) => {
                let missing = map.iter().find_map(|(_, entry)| match &entry.node.value {
                    Value::MissingSecret { variable } => Some(variable.clone()),
                    _ => None,
                });
                if let Some(variable) = missing {
                    out.push((name.to_owned(), Setting::MissingVariable(variable)));
                    continue;
                }
                let json: serde_json::Map<String, serde_json::Value> =
                    map.iter().map(|(key, entry)| (key.to_owned(), exposed(&entry.node))).collect();
                serde_json::Value::Object(json).to_string()
            }
            Value::Null | Value::Unresolved => continue,
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => text.clone(),
            Value::Secret(secret) => secret.expose().to_owned(),
            Value::MissingSecret { variable } => {
                out.push((name.to_owned(), Setting::MissingVariable(variable.clone())));
                continue;
            }
            Value::List(_) => return Err(InvalidLocation(format!("credentials: `{name}` is a list"))),
        };
        out.push((name.to_owned(), Setting::Known(Secret::new(text))));
    }
    Ok(())
}

/// A value as JSON with its secrets readable, for a service account only.
fn exposed(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Secret(secret) => serde_json::Value::from(secret.expose()),
        _ => node.to_json(),
    }
}

type Options = Vec<(String, Setting)>;

fn translate(kind: StoreKind, name: &str, setting: &Setting) -> Result<Option<Options>, InvalidLocation> {
    let one = |name: &str| Ok(Some(vec![(name.to_owned(), setting.clone())]));
    let value = match setting {
        Setting::Known(secret) => Some(secret.expose()),
        Setting::MissingVariable(_) => None,
    };
    let truth = || match value.map(str::to_ascii_lowercase).as_deref() {
        Some("true" | "1") => Ok("true"),
        Some("false" | "0") => Ok("false"),
        _ => Err(InvalidLocation(format!("credentials: `{name}` must be true or false"))),
    };
    let known = |name: &str, text: &str| Ok(Some(vec![(name.to_owned(), Setting::Known(Secret::new(text)))]));
    // What fsspec takes and no builder needs.
    const IGNORED: &[&str] = &[
        "project",
        "cache_timeout",
        "consistency",
        "use_ssl",
        "default_block_size",
        "asynchronous",
        "version_aware",
        "signature_version",
    ];
    if IGNORED.contains(&name) {
        return Ok(Some(Vec::new()));
    }
    match kind {
        StoreKind::S3 => match name {
            "key" => one("access_key_id"),
            "secret" => one("secret_access_key"),
            "region_name" => one("region"),
            "anon" => known("skip_signature", truth()?),
            "profile" => Err(InvalidLocation(
                "credentials: `profile` is not read; give `key` and `secret`, or set AWS_… variables".to_owned(),
            )),
            _ if AmazonS3ConfigKey::from_str(name).is_ok() => one(name),
            _ => Ok(None),
        },
        StoreKind::Google => match name {
            "token" => match value {
                None => one("service_account_key"),
                Some("anon") => known("skip_signature", "true"),
                Some("google_default" | "cloud" | "cache" | "browser") => Ok(Some(Vec::new())),
                Some(text) if text.trim_start().starts_with('{') => one("service_account_key"),
                Some(_) => one("service_account_path"),
            },
            "endpoint_url" | "endpoint" => one("base_url"),
            _ if GoogleConfigKey::from_str(name).is_ok() => one(name),
            _ => Ok(None),
        },
        StoreKind::Azure => match name {
            "anon" => known("skip_signature", truth()?),
            "connection_string" => match value {
                Some(text) => Ok(Some(connection_string(text))),
                None => one("account_key"),
            },
            "endpoint_url" | "account_host" => one("endpoint"),
            _ if AzureConfigKey::from_str(name).is_ok() => one(name),
            _ => Ok(None),
        },
        StoreKind::Http => match name {
            "username" | "user" => one("username"),
            "password" => one("password"),
            "token" | "bearer" | "bearer_token" => one("token"),
            "headers" => {
                value.map_or(Ok(()), |json| parse_headers(json).map(drop)).map_err(InvalidLocation)?;
                one("headers")
            }
            _ => Ok(None),
        },
        StoreKind::Memory => Ok(None),
    }
}

fn connection_string(text: &str) -> Options {
    let mut out = Vec::new();
    for part in text.split(';') {
        let Some((name, value)) = part.split_once('=') else { continue };
        let name = match name {
            "AccountName" => "account_name",
            "AccountKey" => "account_key",
            "BlobEndpoint" => "endpoint",
            "SharedAccessSignature" => "sas_token",
            _ => continue,
        };
        out.push((name.to_owned(), Setting::Known(Secret::new(value))));
    }
    out
}

fn store_name(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::S3 => "an S3 store",
        StoreKind::Google => "Google Cloud Storage",
        StoreKind::Azure => "Azure Blob Storage",
        StoreKind::Http => "a web server",
        StoreKind::Memory => "memory",
    }
}

fn example_options(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::S3 => "key, secret, token, endpoint_url, region, anon",
        StoreKind::Google => "token (a path, a service account, or anon), service_account_path, endpoint_url",
        StoreKind::Azure => {
            "account_name, account_key, sas_token, connection_string, client_id, client_secret, tenant_id, anon"
        }
        StoreKind::Http => "username and password, token, headers",
        StoreKind::Memory => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Entry, Map},
        diagnostic::{SourceId, Span},
    };

    fn span() -> Span {
        Span { source: SourceId(0), start: 0, end: 0 }
    }

    fn map(entries: &[(&str, Value)]) -> Node {
        let mut map = Map::default();
        for (key, value) in entries {
            map.entries.insert((*key).to_owned(), Entry { key_span: span(), node: Node::new(value.clone(), span()) });
        }
        Node::new(Value::Map(map), span())
    }

    #[test]
    fn paths_and_urls() {
        for (text, name, base) in [
            ("data/a.parquet", "a.parquet", None),
            ("data/folder/", "folder", None),
            ("s3a://bucket/x//y/", "y", Some(("s3://bucket", "x/y"))),
            ("abfs://c@acc.dfs.core.windows.net/x", "x", Some(("abfss://c@acc.dfs.core.windows.net", "x"))),
            ("abfs://container/x", "x", Some(("az://container", "x"))),
            ("gcs://bucket", "dataset", Some(("gs://bucket", ""))),
            ("memory://a/b", "b", Some(("memory://", "a/b"))),
        ] {
            let location = Location::parse(text, None).expect(text);
            assert_eq!(location.name(), name, "{text}");
            match (location.target(), base) {
                (Target::Remote { base, key, .. }, Some(expected)) => {
                    assert_eq!((base.as_str(), key.as_str()), expected)
                }
                (Target::Local(_), None) => {}
                other => panic!("{other:?}"),
            }
        }
        for text in ["", "hdfs://host/x", "s3://", "s3://bucket/a/../b"] {
            assert!(Location::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_scheme_without_two_slashes_makes_no_folder_with_a_colon_in_its_name() {
        for (text, path) in [
            ("file:w/o.csv", "w/o.csv"),
            ("file:/w/o.csv", "/w/o.csv"),
            ("file:///w/o.csv", "/w/o.csv"),
            ("./s3:x", "./s3:x"),
        ] {
            let location = Location::parse(text, None).expect(text);
            assert_eq!(location.target(), &Target::Local(path.to_owned()), "{text}");
        }
        for text in ["s3:bucket/key", "S3:/bucket/key", "http:host/x", "memory:a", "file:"] {
            let error = Location::parse(text, None).expect_err(text).to_string();
            assert!(error.contains("expected `//`"), "{text}: {error}");
        }
    }

    #[test]
    fn shown_urls_hold_no_secrets() {
        for text in ["https://user:hunter2@host/a.csv?sig=hunter2", "https://host/a.csv?sig=hunter2"] {
            assert_eq!(Location::parse(text, None).expect(text).shown(), "https://host/a.csv");
        }
    }

    #[test]
    fn credentials_in_both_spellings() {
        let text = |text: &str| Value::Text(text.to_owned());
        let kwargs = map(&[("endpoint_url", text("http://127.0.0.1:9000")), ("region_name", text("eu"))]);
        let fsspec = map(&[("key", text("k")), ("secret", text("s")), ("client_kwargs", kwargs.value)]);
        let plain = map(&[
            ("aws_access_key_id", text("k")),
            ("aws_secret_access_key", text("s")),
            ("endpoint", text("http://127.0.0.1:9000")),
            ("region", text("eu")),
        ]);
        for node in [&fsspec, &plain] {
            let location = Location::parse("s3://b/x", Some(node)).expect("known options");
            assert_eq!(location.options().len(), 4);
            assert!(!format!("{location:?}").contains("9000"), "settings are secrets: {location:?}");
        }
        let error = Location::parse("s3://b/x", Some(&map(&[("sercet", text("s"))]))).expect_err("a typo");
        assert!(error.to_string().contains("`sercet`"), "{error}");
        assert!(Location::parse("gs://b/x", Some(&map(&[("token", text("anon"))]))).is_ok());
        let connection = text("AccountName=a;AccountKey=k==;BlobEndpoint=http://127.0.0.1:1/a");
        let azure = Location::parse("az://b/x", Some(&map(&[("connection_string", connection)]))).expect("parses");
        assert_eq!(azure.options()[1].1, Setting::Known(Secret::new("k==")));
    }
}
