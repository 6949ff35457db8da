//! Clients of object stores, made from a URL, the entry's options and the environment.

use std::{sync::Arc, time::Duration};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    memory::InMemory,
};

use super::{
    credentials::RETRIES,
    location::URL,
    store_kind::StoreKind,
    web::{self, WebAccess, WebFile, WebFolder},
};

/// Reads one environment variable.
pub type EnvironmentLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Variables that the stores' own tools read, with the options they set.
const S3_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ALLOW_HTTP",
    "AWS_SKIP_SIGNATURE",
    "AWS_METADATA_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_REQUEST_PAYER",
];
const GOOGLE_VARIABLES: &[&str] = &[
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SKIP_SIGNATURE",
    "GOOGLE_BASE_URL",
];
const AZURE_VARIABLES: &[&str] = &[
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_MSI_ENDPOINT",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_USE_AZURE_CLI",
    "AZURE_SKIP_SIGNATURE",
];

/// A client of a store. `base` is its URL.
pub(super) fn build(
    kind: StoreKind,
    base: &str,
    options: &[(&str, &str)],
    environment: &EnvironmentLookup,
) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let variables = match kind {
        StoreKind::S3 => S3_VARIABLES,
        StoreKind::Google => GOOGLE_VARIABLES,
        StoreKind::Azure => AZURE_VARIABLES,
        StoreKind::Http | StoreKind::Memory => &[],
    };
    let from_environment = variables.iter().filter_map(|name| Some((name.to_ascii_lowercase(), environment(name)?)));
    let mut all: Vec<(String, String)> = from_environment.collect();
    // The catalog's word comes last and wins.
    let own = |name: &&(&str, &str)| name.0 != RETRIES;
    all.extend(options.iter().filter(own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    // Plain http only where the endpoint was written so.
    let plain = base.starts_with("http://") || all.iter().any(|(_, value)| value.starts_with("http://"));
    let mut retry = retry();
    if let Some(retries) = options.iter().find(|option| !own(option)).and_then(|(_, value)| value.parse().ok()) {
        retry.max_retries = retries;
    }
    Ok(match kind {
        StoreKind::S3 => {
            let mut builder = AmazonS3Builder::new().with_url(base).with_retry(retry);
            for (name, value) in all {
                builder = builder.with_config(name.parse::<AmazonS3ConfigKey>()?, value);
            }
            Arc::new(if plain { builder.with_allow_http(true) } else { builder }.build()?)
        }
        StoreKind::Google => {
            let mut builder = GoogleCloudStorageBuilder::new().with_url(base).with_retry(retry);
            if plain {
                builder = builder.with_client_options(ClientOptions::new().with_allow_http(true));
            }
            for (name, value) in all {
                builder = builder.with_config(name.parse::<GoogleConfigKey>()?, value);
            }
            Arc::new(builder.build()?)
        }
        StoreKind::Azure => {
            let mut builder = MicrosoftAzureBuilder::new().with_url(base).with_retry(retry);
            for (name, value) in all {
                builder = builder.with_config(name.parse::<AzureConfigKey>()?, value);
            }
            Arc::new(if plain { builder.with_allow_http(true) } else { builder }.build()?)
        }
        StoreKind::Http | StoreKind::Memory => Arc::new(InMemory::new()),
    })
}

/// A client of a web server, for one file or for a folder that it lists.
pub(super) fn web_store(options: &[(&str, &str)], folder: bool) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let url = options.iter().find(|(name, _)| *name == URL).map_or("", |(_, url)| *url);
    let access = WebAccess::new(url, options).map_err(web::refused)?;
    Ok(if folder { Arc::new(WebFolder::new(&access, retry())?) } else { Arc::new(WebFile::new(access)?) })
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}
