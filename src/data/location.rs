//! Locations as written in the catalog: a local path or a URL, with its credentials.
//!
//! Pure: nothing is opened, no environment is read. [`super::Stores`] opens a location.

use std::sync::Arc;

use super::{
    credentials::{Credentials, Setting},
    glob::Glob,
    store_kind::StoreKind,
};
use crate::{
    config::Node,
    model::{Fingerprint, Secret, url_secrets},
};

/// A local path or a URL, with the credentials to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    shown: String,
    target: Target,
    /// Which files below the target, where the path has a `*`.
    glob: Option<Glob>,
    options: Arc<[(String, Setting)]>,
    /// Keys of the credentials that have no meaning here.
    unread: Arc<[String]>,
    /// The name of credentials that are not defined, since the project has no `credentials.yml`.
    missing_credentials: Option<String>,
}

/// What a location points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A path; relative ones start at the project's folder, and those with `~` in the user's.
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

/// The option that holds a web server's whole URL.
pub(super) const URL: &str = "url";

/// The problem of a URL with keys that is not a web server's.
const NO_KEYS: &str = "a bucket's URL holds no keys: give them under `credentials`";

/// Why a location cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLocation(pub String);

impl Location {
    /// Reads a path or URL and what is under `credentials:`: a mapping in `flow`'s or fsspec's spelling, or a name that is not
    /// defined.
    ///
    /// # Errors
    /// When the scheme or a key of the credentials is not known.
    pub fn parse(text: &str, credentials: Option<&Node>) -> Result<Self, InvalidLocation> {
        // In a URL of a web server a `*` is a character.
        let split = if text.starts_with("http://") || text.starts_with("https://") { None } else { Glob::split(text) };
        let (place, glob) = split.map_or((text, None), |(folder, glob)| (folder, Some(glob)));
        // The folder of `*.csv` is the project's own.
        let target = parse_target(if place.is_empty() && glob.is_some() { "." } else { place })?;
        let kind = match &target {
            Target::Local(_) => None,
            Target::Remote { kind, .. } => Some(*kind),
        };
        // Elsewhere a signature would be a part of the key, and shown.
        if kind.is_some_and(|kind| kind != StoreKind::Http) && !url_secrets(text).is_empty() {
            return Err(InvalidLocation(NO_KEYS.to_owned()));
        }
        let missing_credentials = kind.and(credentials).and_then(Node::as_text).map(str::to_owned);
        let Credentials { mut options, unread } = match (kind, credentials) {
            (Some(kind), Some(node)) if node.as_map().is_some() => {
                Credentials::parse(kind, node).map_err(InvalidLocation)?
            }
            _ => Credentials::default(),
        };
        if kind == Some(StoreKind::Http) {
            // As it is written: a store's path would encode it again, and has no place for a query.
            options.push((URL.to_owned(), Setting::Known(Secret::new(text))));
        }
        // Only the URL of a web server has a query and a password; a `?` in a path or key is a character of it.
        let shown = if kind == Some(StoreKind::Http) { without_userinfo(text) } else { text.to_owned() };
        Ok(Self { shown, target, glob, options: options.into(), unread: unread.into(), missing_credentials })
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

    /// The pattern of its files, where its path has a `*`; [`Self::target`] is the folder that they lie below.
    pub fn glob(&self) -> Option<&Glob> {
        self.glob.as_ref()
    }

    /// The folder that it opens, as displayed.
    pub(super) fn shown_folder(&self) -> &str {
        let folder =
            if self.glob.is_some() { Glob::split(&self.shown).map_or("", |(folder, _)| folder) } else { &self.shown };
        if folder.is_empty() { "." } else { folder }
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

    /// Keys of the credentials that have no meaning here.
    pub(super) fn unread_credentials(&self) -> &[String] {
        &self.unread
    }

    /// The name of the credentials that are needed to open it and that no file defines.
    pub(super) fn missing_credentials(&self) -> Option<&str> {
        self.missing_credentials.as_deref()
    }

    /// Distinguishes stores that need different clients.
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

/// A location without the secrets that its URL may hold: signatures in a query, passwords in user info.
pub(super) fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = rest.split('?').next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    // Azure's `container@account` is no secret.
    let host = if matches!(scheme, "az" | "abfs" | "abfss" | "adl") {
        host
    } else {
        host.rsplit('@').next().unwrap_or_default()
    };
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

/// Schemes of URLs that can be opened.
const SCHEMES: &[&str] =
    &["file", "s3", "s3a", "s3n", "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https", "memory"];

/// True for a path in the user's folder.
pub(super) fn is_of_home(path: &str) -> bool {
    path == "~" || path.starts_with("~/")
}

/// Schemes that Kedro's, Spark's and Databricks' projects have and that no client here opens.
const FOREIGN_SCHEMES: &[&str] = &[
    "box",
    "cos",
    "cosn",
    "dask",
    "dbfs",
    "dropbox",
    "dvc",
    "ftp",
    "ftps",
    "gdrive",
    "git",
    "github",
    "gitlab",
    "hdfs",
    "hf",
    "jdbc",
    "lakefs",
    "libarchive",
    "obs",
    "oci",
    "oss",
    "reference",
    "root",
    "sftp",
    "smb",
    "ssh",
    "swift",
    "tar",
    "tos",
    "viewfs",
    "wasb",
    "wasbs",
    "webhdfs",
    "zip",
];

/// The scheme of a path that is known and cannot be opened here: `dbfs:/x`, `hdfs://host/x`, `simplecache::s3://…`.
pub fn unsupported_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    let word = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase());
    (word && (rest.starts_with(':') || FOREIGN_SCHEMES.contains(&scheme))).then_some(scheme)
}

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
        } else if text.starts_with('~') && !is_of_home(text) {
            let message = format!("`{text}` is not expanded: only `~/` is; a file of that name is `./{text}`");
            Err(InvalidLocation(message))
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
        return Err(InvalidLocation(NO_KEYS.to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn schemes_of_other_systems_are_known() {
        for (text, scheme) in [
            ("dbfs:/mnt/x", Some("dbfs")),
            ("hdfs://host/x", Some("hdfs")),
            ("simplecache::s3://b/x", Some("simplecache")),
            ("s3://b/x", None),
            ("data/x:y", None),
            ("C:/x", None),
            ("s4://b/x", None),
            ("dbfs/x", None),
        ] {
            assert_eq!(unsupported_scheme(text), scheme, "{text}");
        }
        for text in ["~someone/x", "~x"] {
            let error = Location::parse(text, None).expect_err(text).to_string();
            assert!(error.contains("only `~/`"), "{error}");
        }
    }

    #[test]
    fn a_signature_in_the_url_of_a_bucket_is_no_part_of_its_key() {
        for text in ["az://c/x?sv=2022&sig=hunter2", "s3://b/*.csv?X-Amz-Signature=hunter2", "s3://KEY:hunter2@b/k"] {
            let error = Location::parse(text, None).expect_err(text).to_string();
            assert!(error.contains("holds no keys") && !error.contains("hunter2"), "{error}");
        }
        for text in ["s3://b/what?.csv", "gs://b/x?page=2", "data/x?sig=1"] {
            assert!(Location::parse(text, None).is_ok(), "{text}");
        }
    }

    #[test]
    fn shown_urls_hold_no_secrets() {
        for text in ["https://user:hunter2@host/a.csv?sig=hunter2", "https://host/a.csv?sig=hunter2"] {
            assert_eq!(Location::parse(text, None).expect(text).shown(), "https://host/a.csv");
        }
    }
}
