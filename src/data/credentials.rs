//! Credentials of object stores as written in the catalog, in `flow`'s or fsspec's spelling, as options of the client.
//!
//! fsspec hands `client_kwargs`, `config_kwargs` and `s3_additional_kwargs` on to its clients. What has a meaning here is read
//! from them, and what has none is named, so that nothing is accepted and ignored. Pure: nothing is opened.

use std::str::FromStr as _;

use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};

use super::{store_kind::StoreKind, web::parse_headers};
use crate::{
    config::{Node, Value},
    model::Secret,
};

/// One option of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Known, and perhaps a secret.
    Known(Secret),
    /// A secret's environment variable that is not set.
    MissingVariable(String),
}

/// How often a request is repeated. No option of the store's client.
pub(super) const RETRIES: &str = "retries";

/// Mappings of fsspec that it hands on to a library.
const HANDED_ON: &[&str] = &["client_kwargs", "config_kwargs", "s3_additional_kwargs"];

/// What fsspec takes and what changes nothing about which bytes are read and written.
const HARMLESS: &[&str] = &[
    "project",
    "cache_timeout",
    "consistency",
    "default_block_size",
    "asynchronous",
    "use_listings_cache",
    "listings_expiry_time",
    "max_paths",
    "skip_instance_cache",
    "default_fill_cache",
    "default_cache_type",
    "max_concurrency",
    "blocksize",
    "cache_regions",
    "check_connection",
    "assume_container_exists",
];

/// What fsspec takes at the top, and what has no meaning here.
const UNREAD: &[&str] = &[
    "version_aware",
    "access",
    "default_location",
    "requester_pays",
    "session_kwargs",
    "requests_timeout",
    "credential",
    "location_mode",
    "socket_timeout",
    "connection_timeout",
    "read_timeout",
    "timeout",
    "fixed_upload_size",
    "use_ssl",
    "verify",
    "signature_version",
    "retries",
    "config",
    "api_version",
    "aws_account_id",
];

/// The options of a store's client, and the keys that are not read.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// Options by the client's names.
    pub(super) options: Options,
    /// Keys without a meaning here, with the mappings that they are in.
    pub(super) unread: Vec<String>,
}

pub(super) type Options = Vec<(String, Setting)>;

/// One key of the mapping. `group` is the mapping of fsspec that it is in, empty at the top.
struct Given {
    group: String,
    name: String,
    /// `None` for a list, which has no meaning in any key that is known.
    setting: Option<Setting>,
}

impl Given {
    fn shown(&self) -> String {
        if self.group.is_empty() { self.name.clone() } else { format!("{}.{}", self.group, self.name) }
    }

    fn value(&self) -> Option<&str> {
        match &self.setting {
            Some(Setting::Known(secret)) => Some(secret.expose()),
            _ => None,
        }
    }

    fn truth(&self) -> Result<bool, String> {
        match self.value().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            _ => Err(format!("credentials: `{}` must be true or false", self.shown())),
        }
    }

    fn number(&self) -> Result<u32, String> {
        let number = self.value().and_then(|text| text.parse().ok());
        number.ok_or_else(|| format!("credentials: `{}` must be an integer", self.shown()))
    }
}

/// What one key is.
enum Meaning {
    Options(Options),
    Harmless,
    Unread,
    Unknown,
}

impl Credentials {
    /// Reads the mapping. Names of fsspec (`key`, `secret`, `client_kwargs.endpoint_url`, `anon`) are read as well as the plain
    /// ones (`aws_access_key_id`, `endpoint`).
    ///
    /// # Errors
    /// When a key at the top is not known, or a value has the wrong type.
    pub(super) fn parse(kind: StoreKind, node: &Node) -> Result<Self, String> {
        let mut given = Vec::new();
        flatten("", node, &mut given)?;
        let mut read = Self::default();
        for one in given {
            match meaning(kind, &one)? {
                Meaning::Options(options) => read.options.extend(options),
                Meaning::Harmless => {}
                Meaning::Unread => read.unread.push(one.shown()),
                // A misspelt argument is an error of fsspec too; its other mappings take names by the hundred.
                Meaning::Unknown if !matches!((kind, &*one.group), (_, "") | (StoreKind::S3, "client_kwargs")) => {
                    read.unread.push(one.shown());
                }
                Meaning::Unknown => {
                    return Err(format!(
                        "credentials: `{}` is no option of {}; known are for example {}",
                        one.shown(),
                        kind.name(),
                        example_options(kind)
                    ));
                }
            }
        }
        Ok(read)
    }
}

fn flatten(group: &str, node: &Node, out: &mut Vec<Given>) -> Result<(), String> {
    let Some(map) = node.as_map() else {
        return Err(format!("credentials must be a mapping, not {}", node.kind()));
    };
    for (key, entry) in map.iter() {
        let name = if group.is_empty() { key.to_ascii_lowercase() } else { key.to_owned() };
        let text = match &entry.node.value {
            Value::Map(_) if HANDED_ON.contains(&&*name) || matches!((group, key), ("config_kwargs", _)) => {
                let inner = if group.is_empty() { name } else { format!("{group}.{name}") };
                flatten(&inner, &entry.node, out)?;
                continue;
            }
            // A service account, or headers, written out as a mapping.
            Value::Map(map) => {
                let missing = map.iter().find_map(|(_, entry)| match &entry.node.value {
                    Value::MissingSecret { variable } => Some(variable.clone()),
                    _ => None,
                });
                if let Some(variable) = missing {
                    let setting = Some(Setting::MissingVariable(variable));
                    out.push(Given { group: group.to_owned(), name, setting });
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
                let setting = Some(Setting::MissingVariable(variable.clone()));
                out.push(Given { group: group.to_owned(), name, setting });
                continue;
            }
            Value::List(_) if !group.is_empty() => {
                out.push(Given { group: group.to_owned(), name, setting: None });
                continue;
            }
            Value::List(_) => return Err(format!("credentials: `{name}` is a list")),
        };
        out.push(Given { group: group.to_owned(), name, setting: Some(Setting::Known(Secret::new(text))) });
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

fn meaning(kind: StoreKind, given: &Given) -> Result<Meaning, String> {
    if given.setting.is_none() {
        return Ok(Meaning::Unread);
    }
    let group = given.group.as_str();
    let name = given.name.to_ascii_lowercase();
    let read = match (kind, group) {
        (StoreKind::S3, "" | "client_kwargs") => s3(&name, given)?,
        (StoreKind::S3, _) => handed_on(given)?,
        (_, "") => match kind {
            StoreKind::Google => google(&name, given)?,
            StoreKind::Azure => azure(&name, given)?,
            StoreKind::Http => web(&name, given)?,
            StoreKind::S3 | StoreKind::Memory => None,
        },
        (StoreKind::Http, "client_kwargs") => web(&name, given)?,
        (StoreKind::Google, "client_kwargs") if name == "endpoint_url" => named("base_url", given)?,
        (StoreKind::Azure, "client_kwargs") if name == "endpoint_url" => named("endpoint", given)?,
        _ => None,
    };
    Ok(match read {
        Some(options) => Meaning::Options(options),
        None if HARMLESS.contains(&&*name) => Meaning::Harmless,
        None if UNREAD.contains(&&*name) => Meaning::Unread,
        None => Meaning::Unknown,
    })
}

fn known(name: &str, text: impl Into<String>) -> Result<Option<Options>, String> {
    Ok(Some(vec![(name.to_owned(), Setting::Known(Secret::new(text.into())))]))
}

/// The setting under the client's name.
fn named(name: &str, given: &Given) -> Result<Option<Options>, String> {
    Ok(given.setting.clone().map(|setting| vec![(name.to_owned(), setting)]))
}

/// A setting that is true or false under the client's name.
fn truth(name: &str, given: &Given) -> Result<Option<Options>, String> {
    if given.value().is_none() {
        return named(name, given);
    }
    known(name, given.truth()?.to_string())
}

fn s3(name: &str, given: &Given) -> Result<Option<Options>, String> {
    match name {
        "key" => named("access_key_id", given),
        "secret" => named("secret_access_key", given),
        "region_name" => named("region", given),
        "anon" => truth("skip_signature", given),
        "requester_pays" => truth("request_payer", given),
        "profile" => {
            Err("credentials: `profile` is not read; give `key` and `secret`, or set AWS_… variables".to_owned())
        }
        // A file of certificates is not read, and named.
        "verify" if given.truth().is_ok() => known("allow_invalid_certificates", (!given.truth()?).to_string()),
        "use_ssl" if given.truth() == Ok(true) => Ok(Some(Vec::new())),
        "signature_version" if matches!(given.value(), Some("s3v4" | "v4")) => Ok(Some(Vec::new())),
        "retries" if given.value().is_some_and(|text| text.parse::<u32>().is_ok()) => named(RETRIES, given),
        // Seconds in fsspec and no limit of a whole request.
        "timeout" | "connect_timeout" | "read_timeout" => Ok(None),
        _ if AmazonS3ConfigKey::from_str(name).is_ok() => named(name, given),
        _ => Ok(None),
    }
}

/// What s3fs hands on to botocore's `Config` and to each request.
fn handed_on(given: &Given) -> Result<Option<Options>, String> {
    match (given.group.as_str(), given.name.as_str()) {
        ("config_kwargs", "region_name") => named("region", given),
        ("config_kwargs", "connect_timeout") => match given.value() {
            Some(text) if text.parse::<f64>().is_ok_and(|seconds| seconds > 0.0 && seconds < 1e6) => {
                let milliseconds = text.parse::<f64>().unwrap_or_default() * 1000.0;
                known("connect_timeout", format!("{milliseconds:.0}ms"))
            }
            _ => Err("credentials: `config_kwargs.connect_timeout` must be a number of seconds".to_owned()),
        },
        ("config_kwargs", "signature_version") if matches!(given.value(), Some("s3v4" | "v4")) => Ok(Some(Vec::new())),
        ("config_kwargs", "user_agent") => named("user_agent", given),
        ("config_kwargs", "retries") => named(RETRIES, given).and_then(|read| given.number().map(|_| read)),
        ("config_kwargs.retries", "max_attempts") => known(RETRIES, given.number()?.to_string()),
        ("config_kwargs.retries", "total_max_attempts") => {
            known(RETRIES, given.number()?.saturating_sub(1).to_string())
        }
        ("config_kwargs.s3", "addressing_style") => match given.value() {
            Some("path") => known("virtual_hosted_style_request", "false"),
            Some("virtual") => known("virtual_hosted_style_request", "true"),
            _ => Ok(Some(Vec::new())),
        },
        ("config_kwargs.proxies", "https" | "http") => named("proxy_url", given),
        ("s3_additional_kwargs", "ServerSideEncryption") => named("aws_server_side_encryption", given),
        ("s3_additional_kwargs", "SSEKMSKeyId") => named("aws_sse_kms_key_id", given),
        ("s3_additional_kwargs", "BucketKeyEnabled") => truth("aws_sse_bucket_key_enabled", given),
        ("s3_additional_kwargs", "RequestPayer") => known("request_payer", "true"),
        _ => Ok(None),
    }
}

fn google(name: &str, given: &Given) -> Result<Option<Options>, String> {
    match name {
        "token" => match given.value() {
            None => named("service_account_key", given),
            Some("anon") => known("skip_signature", "true"),
            Some("google_default" | "cloud" | "cache" | "browser") => Ok(Some(Vec::new())),
            Some(text) if text.trim_start().starts_with('{') => named("service_account_key", given),
            Some(_) => named("service_account_path", given),
        },
        "endpoint_url" | "endpoint" => named("base_url", given),
        "timeout" => Ok(None),
        _ if GoogleConfigKey::from_str(name).is_ok() => named(name, given),
        _ => Ok(None),
    }
}

fn azure(name: &str, given: &Given) -> Result<Option<Options>, String> {
    match name {
        "anon" => truth("skip_signature", given),
        "connection_string" => match given.value() {
            Some(text) => Ok(Some(connection_string(text))),
            None => named("account_key", given),
        },
        "endpoint_url" | "account_host" => named("endpoint", given),
        "timeout" => Ok(None),
        _ if AzureConfigKey::from_str(name).is_ok() => named(name, given),
        _ => Ok(None),
    }
}

fn web(name: &str, given: &Given) -> Result<Option<Options>, String> {
    match name {
        "username" | "user" => named("username", given),
        "password" => named("password", given),
        "token" | "bearer" | "bearer_token" => named("token", given),
        "headers" => {
            given.value().map_or(Ok(()), |json| parse_headers(json).map(drop))?;
            named("headers", given)
        }
        _ => Ok(None),
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
            "UseDevelopmentStorage" => "use_emulator",
            _ => continue,
        };
        out.push((name.to_owned(), Setting::Known(Secret::new(value))));
    }
    let part = |wanted: &str| {
        let mut parts = text.split(';').filter_map(|part| part.split_once('='));
        parts.find(|(name, _)| *name == wanted).map(|(_, value)| value)
    };
    // The client knows the address of the public cloud only.
    let suffix = part("EndpointSuffix").filter(|suffix| *suffix != "core.windows.net");
    if let (None, Some(account), Some(suffix)) = (part("BlobEndpoint"), part("AccountName"), suffix) {
        let protocol = part("DefaultEndpointsProtocol").unwrap_or("https");
        let endpoint = format!("{protocol}://{account}.blob.{suffix}");
        out.push(("endpoint".to_owned(), Setting::Known(Secret::new(endpoint))));
    }
    out
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
            let read = Credentials::parse(StoreKind::S3, node).expect("known options");
            assert_eq!((read.options.len(), read.unread.len()), (4, 0));
            assert!(!format!("{read:?}").contains("9000"), "settings are secrets: {read:?}");
        }
        let error = Credentials::parse(StoreKind::S3, &map(&[("sercet", text("s"))])).expect_err("a typo");
        assert!(error.contains("`sercet`"), "{error}");
        assert!(Credentials::parse(StoreKind::Google, &map(&[("token", text("anon"))])).is_ok());
        let connection = text("AccountName=a;AccountKey=k==;BlobEndpoint=http://127.0.0.1:1/a");
        let azure = map(&[("connection_string", connection)]);
        let azure = Credentials::parse(StoreKind::Azure, &azure).expect("parses");
        assert_eq!(azure.options[1].1, Setting::Known(Secret::new("k==")));
    }

    #[test]
    fn a_connection_string_of_another_cloud_or_of_the_emulator_is_not_sent_to_the_public_one() {
        for (text, expected) in [
            (
                "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k==;EndpointSuffix=core.chinacloudapi.cn",
                Some(("endpoint", "https://a.blob.core.chinacloudapi.cn")),
            ),
            ("AccountName=a;AccountKey=k==;EndpointSuffix=core.windows.net", None),
            ("UseDevelopmentStorage=true", Some(("use_emulator", "true"))),
        ] {
            let node = map(&[("connection_string", Value::Text(text.to_owned()))]);
            let read = Credentials::parse(StoreKind::Azure, &node).expect("parses");
            let found = read.options.iter().find(|(name, _)| matches!(name.as_str(), "endpoint" | "use_emulator"));
            let expected = expected.map(|(name, value)| (name.to_owned(), Setting::Known(Secret::new(value))));
            assert_eq!(found, expected.as_ref(), "{text}");
        }
    }

    #[test]
    fn what_fsspec_hands_on_is_read_where_it_means_something_and_named_where_not() {
        let text = |text: &str| Value::Text(text.to_owned());
        let group = |entries: &[(&str, Value)]| map(entries).value;
        let known = |name: &str, value: &str| (name.to_owned(), Setting::Known(Secret::new(value)));
        for (name, value, expected) in [
            ("verify", Value::Bool(false), Ok(known("allow_invalid_certificates", "true"))),
            ("verify", text("/ca.pem"), Err("verify")),
            ("use_ssl", Value::Bool(false), Err("use_ssl")),
            ("retries", Value::Int(7), Ok(known("retries", "7"))),
            ("signature_version", text("s3"), Err("signature_version")),
            ("version_aware", Value::Bool(true), Err("version_aware")),
            (
                "client_kwargs",
                group(&[("verify", Value::Bool(false))]),
                Ok(known("allow_invalid_certificates", "true")),
            ),
            (
                "config_kwargs",
                group(&[("retries", group(&[("max_attempts", Value::Int(3))]))]),
                Ok(known("retries", "3")),
            ),
            (
                "config_kwargs",
                group(&[("s3", group(&[("addressing_style", text("virtual"))]))]),
                Ok(known("virtual_hosted_style_request", "true")),
            ),
            ("config_kwargs", group(&[("connect_timeout", Value::Float(1.5))]), Ok(known("connect_timeout", "1500ms"))),
            ("config_kwargs", group(&[("read_timeout", Value::Int(3))]), Err("config_kwargs.read_timeout")),
            (
                "config_kwargs",
                group(&[("retries", group(&[("mode", text("adaptive"))]))]),
                Err("config_kwargs.retries.mode"),
            ),
            (
                "s3_additional_kwargs",
                group(&[("ServerSideEncryption", text("aws:kms"))]),
                Ok(known("aws_server_side_encryption", "aws:kms")),
            ),
            ("s3_additional_kwargs", group(&[("ACL", text("private"))]), Err("s3_additional_kwargs.ACL")),
        ] {
            let read = Credentials::parse(StoreKind::S3, &map(&[(name, value)])).expect(name);
            match expected {
                Ok(option) => assert_eq!((read.options, read.unread.len()), (vec![option], 0), "{name}"),
                Err(unread) => assert_eq!((read.options.len(), read.unread), (0, vec![unread.to_owned()])),
            }
        }
        let wrong = |entries: &[(&str, Value)]| Credentials::parse(StoreKind::S3, &map(entries)).expect_err("refused");
        let error = wrong(&[("client_kwargs", group(&[("endpiont_url", text("x"))]))]);
        assert!(error.contains("`client_kwargs.endpiont_url`"), "{error}");
        assert!(wrong(&[("anon", text("maybe"))]).contains("true or false"));
        let many = [("config_kwargs", group(&[("retries", group(&[("max_attempts", text("many"))]))]))];
        assert!(wrong(&many).contains("an integer"));
    }
}
