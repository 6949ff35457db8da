//! Opened places: the local disk and object stores behind one small set of calls.
//!
//! The local disk is worked on with `std::fs` on blocking threads, everything else through `object_store`, whose
//! listings come in pages. A local write is durable against the end of the process (the file is complete before it
//! gets its name), and against loss of power once [`Place::synced`] has come back.

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path as FsPath, PathBuf},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    memory::InMemory,
    path::Path,
};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::{
    contents::Contents,
    error::DataError,
    faults,
    guard::{self, Guard, WeakGuard, Writing},
    lease::STAGING_SUFFIX,
    listing::{Entry, Listing, Stamp},
    location::{Location, Setting, StoreKind, Target, URL},
    logged::Logged,
    memory::Memory,
    survey::Listings,
    syncer::{Hurry, Syncer, sync_file},
    walk,
    web::{self, WebAccess, WebFile, WebFolder},
};
use crate::model::{Secret, is_secret_name};

/// A file larger than this is sent to a store in parts.
const PART_SIZE: usize = 16 << 20;
/// How long taking back an upload may take; what stays is removed by the store's own rules for unfinished uploads.
const ABORTING: Duration = Duration::from_secs(10);

/// All places that a run can reach: clients of object stores are made once and shared.
pub struct Stores {
    root: PathBuf,
    environment: Environment,
    remote: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    memory: Memory,
    listings: Listings,
    disk: Arc<Disk>,
    /// Leases of this process, by what is written at: a path, or a store's URL with a key.
    guards: Mutex<HashMap<String, WeakGuard>>,
    lease_expiry: Duration,
}

/// Reads one environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("root", &self.root).finish_non_exhaustive()
    }
}

/// A location that has been opened: what a path or URL of the catalog stands for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    kind: PlaceKind,
    /// As written in the catalog, without a slash at the end.
    shown: Arc<str>,
    secrets: Arc<[Secret]>,
    /// The lease on the dataset that lies here, where this process has it.
    guard: Option<Guard>,
}

#[derive(Debug, Clone)]
enum PlaceKind {
    Local(PathBuf, Arc<Disk>),
    Remote { store: Arc<dyn ObjectStore>, url: ObjectStoreUrl, path: Path },
}

/// What is known of local disks.
#[derive(Debug)]
struct Disk {
    contents: Contents,
    syncer: Syncer,
}

impl Stores {
    /// Stores of a project; relative paths start at `root`. `environment` is asked for what a store's own tools
    /// read from there (`AWS_…`, `GOOGLE_…`, `AZURE_…`), where the catalog gives no credentials.
    pub fn new(root: impl Into<PathBuf>, environment: Environment) -> Self {
        let root = root.into();
        // A relative root would change its meaning for stores that want absolute paths.
        let root = std::path::absolute(&root).unwrap_or(root);
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let remote = Mutex::new(HashMap::from([("memory".to_owned(), memory)]));
        Self {
            disk: Arc::new(Disk { contents: Contents::new(&root), syncer: Syncer::default() }),
            root,
            environment,
            remote,
            memory: Memory::default(),
            listings: Listings::default(),
            guards: Mutex::default(),
            lease_expiry: super::lease::EXPIRY,
        }
    }

    /// Leases on object stores live this long without being renewed, instead of 90 seconds.
    #[must_use]
    pub fn with_lease_expiry(self, lease_expiry: Duration) -> Self {
        Self { lease_expiry, ..self }
    }

    /// `memory://` is this store.
    #[cfg(test)]
    pub(super) fn with_memory(self, store: Arc<dyn ObjectStore>) -> Self {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner).insert("memory".to_owned(), store);
        self
    }

    pub(super) fn lease_expiry(&self) -> Duration {
        self.lease_expiry
    }

    /// Whoever opens this location from now on writes under this lease.
    pub(super) fn put_under(&self, location: &Location, guard: &Guard) {
        let mut guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        guards.insert(self.written_at(location), guard.downgrade());
    }

    fn guard(&self, location: &Location) -> Option<Guard> {
        let guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        guards.get(&self.written_at(location))?.upgrade()
    }

    /// What two views of a dataset share, whatever credentials they have.
    fn written_at(&self, location: &Location) -> String {
        match location.target() {
            Target::Local(path) => self.local_path(path).display().to_string(),
            Target::Remote { base, key, .. } => format!("{base}/{key}"),
        }
    }

    fn local_path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_end_matches('/'))
    }

    /// The project's folder.
    pub fn root(&self) -> &FsPath {
        &self.root
    }

    /// What `memory` datasets hold.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What was listed during a survey.
    pub(super) fn listings(&self) -> &Listings {
        &self.listings
    }

    /// Says that somebody has nothing more to write: as long as the answer lives, what waits to be synced does not wait
    /// for others to come along.
    pub fn hurry(&self) -> Hurry {
        self.disk.syncer.hurry()
    }

    /// Lets go of what a `memory` dataset holds, once nobody will read it any more. `name` may carry a view.
    pub fn forget(&self, name: &str) {
        self.memory.forget(name);
    }

    /// Opens a location. Nothing is sent to anybody yet.
    pub(super) fn open(&self, location: &Location) -> Result<Place, DataError> {
        let shown: Arc<str> = location.shown().trim_end_matches('/').into();
        let invalid = |message: String| DataError::Location { location: location.shown().to_owned(), message };
        let (kind, base, key) = match location.target() {
            Target::Local(path) => {
                let kind = PlaceKind::Local(self.local_path(path), Arc::clone(&self.disk));
                return Ok(Place { kind, shown, secrets: Arc::default(), guard: self.guard(location) });
            }
            Target::Remote { kind, base, key } => (*kind, base, key),
        };
        let path = match kind {
            StoreKind::Http if location.is_folder() => Path::default(),
            StoreKind::Http => WebFile::path(),
            _ => Path::parse(key).map_err(|error| invalid(error.to_string()))?,
        };
        let id = if kind == StoreKind::Memory { "memory".to_owned() } else { location.store_id().to_string() };
        let mut options = Vec::new();
        let mut secrets = Vec::new();
        for (name, setting) in location.options() {
            match setting {
                Setting::Known(value) => {
                    if is_secret_name(name) || name.ends_with("_key") || kind == StoreKind::Http {
                        secrets.push(value.clone());
                    }
                    options.push((name.as_str(), value.expose()));
                }
                Setting::MissingVariable(variable) => {
                    return Err(invalid(format!(
                        "credentials: `{name}` needs the environment variable {variable}, which is not set"
                    )));
                }
            }
        }
        let mut remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match remote.get(&id) {
            Some(store) => Arc::clone(store),
            None => {
                let built = match kind {
                    StoreKind::Http => web_store(&options, location.is_folder()),
                    _ => build(kind, base, &options, &self.environment),
                };
                let store = built.map(Logged::around).map_err(|error| {
                    let error = DataError::store(&shown, &error, &secrets);
                    invalid(match error {
                        DataError::Store { message, .. } => message,
                        other => other.to_string(),
                    })
                })?;
                remote.insert(id.clone(), Arc::clone(&store));
                store
            }
        };
        let url = ObjectStoreUrl::parse(format!("flow://{id}")).map_err(DataError::Rows)?;
        let kind = PlaceKind::Remote { store, url, path };
        Ok(Place { kind, shown, secrets: secrets.into(), guard: self.guard(location) })
    }
}

/// Variables that the stores' own tools read, with the options they stand for.
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

fn build(
    kind: StoreKind,
    base: &str,
    options: &[(&str, &str)],
    environment: &Environment,
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
    all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    // Plain http only where the endpoint was written so.
    let plain = base.starts_with("http://") || all.iter().any(|(_, value)| value.starts_with("http://"));
    let retry = retry();
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

fn web_store(options: &[(&str, &str)], folder: bool) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let url = options.iter().find(|(name, _)| *name == URL).map_or("", |(_, url)| *url);
    let access = WebAccess::new(url, options).map_err(web::refused)?;
    Ok(if folder { Arc::new(WebFolder::new(&access, retry())?) } else { Arc::new(WebFile::new(access)?) })
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

/// Runs blocking work on a thread made for it. Its panic goes on here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    ended(tokio::task::spawn_blocking(work).await).await
}

/// What a task gave. Its panic goes on here.
pub(super) async fn ended<T>(task: Result<T, JoinError>) -> T {
    match task {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels work, and then nobody waits here.
            Err(_) => futures::future::pending().await,
        },
    }
}

/// A name that no other process or call makes, on this machine or on another that shares the disk: in containers every
/// process may be number 1.
pub(super) fn unique_name() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(rand::random);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}-{}", *PROCESS, COUNTER.fetch_add(1, Ordering::Relaxed))
}

impl Place {
    /// As shown to people.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Tells this place from all others.
    pub(super) fn id(&self) -> String {
        match &self.kind {
            PlaceKind::Local(path, _) => path.display().to_string(),
            PlaceKind::Remote { url, path, .. } => format!("{url}{path}"),
        }
    }

    /// A file of this place as shown to people; the place itself for the empty path.
    pub(super) fn show(&self, relative: &str) -> String {
        if relative.is_empty() { self.shown.to_string() } else { format!("{}/{relative}", self.shown) }
    }

    /// The path on the local disk, if it is there.
    pub(super) fn local(&self) -> Option<&FsPath> {
        match &self.kind {
            PlaceKind::Local(path, _) => Some(path),
            PlaceKind::Remote { .. } => None,
        }
    }

    /// True for a folder of the local disk, whatever it holds.
    pub(super) async fn is_local_folder(&self) -> bool {
        let Some(path) = self.local().map(FsPath::to_path_buf) else { return false };
        blocking(move || path.is_dir()).await
    }

    /// What lies below. The empty path stays here.
    pub(super) fn child(&self, relative: &str) -> Self {
        if relative.is_empty() {
            return self.clone();
        }
        let kind = match &self.kind {
            PlaceKind::Local(path, disk) => PlaceKind::Local(path.join(relative), Arc::clone(disk)),
            PlaceKind::Remote { store, url, path } => {
                PlaceKind::Remote { store: Arc::clone(store), url: url.clone(), path: join(path, relative) }
            }
        };
        Self { kind, shown: self.show(relative).into(), secrets: Arc::clone(&self.secrets), guard: self.guard.clone() }
    }

    /// What lies beside: `.<name><suffix>` in the same folder, named after the path itself and not after how it is
    /// shown, so that no two places share it.
    pub(super) fn sibling(&self, suffix: &str) -> Self {
        let (name, kind) = match &self.kind {
            PlaceKind::Local(path, disk) => {
                let name = hidden(path.file_name().map(|name| name.to_string_lossy()).as_deref(), suffix);
                let path = path.with_file_name(&name);
                (name, PlaceKind::Local(path, Arc::clone(disk)))
            }
            PlaceKind::Remote { store, url, path } => {
                let name = hidden(path.filename(), suffix);
                let path = join(&path.parent().unwrap_or_default(), &name);
                (name, PlaceKind::Remote { store: Arc::clone(store), url: url.clone(), path })
            }
        };
        let shown = match self.shown.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{name}"),
            None => name,
        };
        Self { kind, shown: shown.into(), secrets: Arc::clone(&self.secrets), guard: self.guard.clone() }
    }

    /// The store's URL and this place's path in it, for DataFusion.
    pub(super) fn object(&self, relative: &str) -> Result<(ObjectStoreUrl, Path), DataError> {
        match &self.kind {
            PlaceKind::Local(path, _) => {
                let full = if relative.is_empty() { path.clone() } else { path.join(relative) };
                let text = full.to_str().ok_or_else(|| self.layout(relative, "its path is no Unicode text"))?;
                // The local store's root is the root of the file system.
                let path = Path::parse(text.trim_start_matches('/'))
                    .map_err(|error| self.layout(relative, &error.to_string()))?;
                Ok((ObjectStoreUrl::local_filesystem(), path))
            }
            PlaceKind::Remote { url, path, .. } => Ok((url.clone(), join(path, relative))),
        }
    }

    pub(super) fn layout(&self, relative: &str, message: &str) -> DataError {
        DataError::Layout { file: self.show(relative), message: message.to_owned() }
    }

    /// The store behind a remote place.
    pub(super) fn remote(&self) -> Option<(&Arc<dyn ObjectStore>, &Path)> {
        match &self.kind {
            PlaceKind::Local(..) => None,
            PlaceKind::Remote { store, path, .. } => Some((store, path)),
        }
    }

    /// Begins something that changes the dataset: refused when its lease is lost, and waited for before it is given back.
    pub(super) fn begin_write(&self) -> Result<Writing, DataError> {
        guard::begin(self.guard.as_ref())
    }

    /// One request of something that was begun, given up when the lease is lost.
    async fn request<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T, DataError> {
        guard::hold(self.guard.as_ref(), request).await?.map_err(|error| self.store_error("", &error))
    }

    /// The bucket or container is not there.
    pub(super) fn no_bucket(&self) -> DataError {
        let rest = self.shown.split_once("://").map_or(&*self.shown, |(_, rest)| rest);
        let bucket = rest.split('/').next().unwrap_or_default();
        let message = format!("bucket `{bucket}` does not exist; create it, or correct the path or the endpoint");
        DataError::Store { location: self.shown.to_string(), message, not_found: false, transient: false }
    }

    /// Waits until everything that was written here before now survives the loss of power. On a store every write does.
    pub(super) async fn synced(&self) -> Result<(), DataError> {
        match &self.kind {
            PlaceKind::Local(path, disk) => disk.syncer.synced(path).await.map_err(|error| DataError::io(path, error)),
            PlaceKind::Remote { .. } => Ok(()),
        }
    }

    pub(super) fn store_error(&self, relative: &str, error: &object_store::Error) -> DataError {
        const NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
        let words = super::error::chain(error);
        if NO_BUCKET.iter().any(|words_of_one| words.contains(words_of_one)) {
            return self.no_bucket();
        }
        DataError::store(&self.show(relative), error, &self.secrets)
    }

    /// What is here: nothing, one file, or a folder of files. Hidden files are left out. Local files that others wrote
    /// are read, where nothing is remembered of them, so that the digest of the listing is one of their content.
    pub(super) async fn list(&self) -> Result<Listing, DataError> {
        match &self.kind {
            PlaceKind::Local(path, disk) => {
                let (path, disk) = (path.clone(), Arc::clone(disk));
                blocking(move || {
                    let mut listing = walk::list(&path)?;
                    disk.contents.fill(&path, &mut listing);
                    Ok(listing)
                })
                .await
            }
            PlaceKind::Remote { store, path, .. } => self.list_remote(store, path).await,
        }
    }

    /// As [`Self::list`], for those who want names and sizes only.
    pub(super) async fn list_names(&self) -> Result<Listing, DataError> {
        match &self.kind {
            PlaceKind::Local(path, _) => {
                let path = path.clone();
                blocking(move || walk::list(&path)).await
            }
            PlaceKind::Remote { store, path, .. } => self.list_remote(store, path).await,
        }
    }

    /// The names in this folder, which is known not to be a file: on a store, one request less.
    pub(super) async fn list_folder(&self) -> Result<Listing, DataError> {
        match &self.kind {
            PlaceKind::Local(..) => self.list_names().await,
            PlaceKind::Remote { store, path, .. } => self.list_below(store, path).await,
        }
    }

    async fn list_remote(&self, store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Listing, DataError> {
        if !path.is_root() {
            match store.head(path).await {
                // A store's console writes an empty object for a folder.
                Ok(meta) if meta.size > 0 => return Ok(Listing::File(remote_entry(String::new(), meta))),
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.store_error("", &error)),
            }
        }
        self.list_below(store, path).await
    }

    async fn list_below(&self, store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Listing, DataError> {
        let mut entries = Vec::new();
        let prefix = if path.is_root() { None } else { Some(path) };
        let mut stream = store.list(prefix);
        while let Some(meta) = stream.try_next().await.map_err(|error| self.store_error("", &error))? {
            let full = meta.location.as_ref();
            let relative = full.strip_prefix(path.as_ref()).unwrap_or(full).trim_start_matches('/').to_owned();
            if relative.is_empty() || is_hidden(&relative) || (meta.size == 0 && !relative.contains('.')) {
                continue;
            }
            entries.push(remote_entry(relative, meta));
        }
        Ok(Listing::folder(entries))
    }

    /// The whole content, or `None` when nothing is there.
    pub(super) async fn read(&self) -> Result<Option<Bytes>, DataError> {
        match &self.kind {
            PlaceKind::Local(path, _) => {
                let path = path.clone();
                blocking(move || match fs::read(&path) {
                    Ok(bytes) => Ok(Some(Bytes::from(bytes))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(DataError::io(&path, error)),
                })
                .await
            }
            PlaceKind::Remote { store, path, .. } => {
                let got = match store.get(path).await {
                    Ok(got) => got,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(self.store_error("", &error)),
                };
                Ok(Some(got.bytes().await.map_err(|error| self.store_error("", &error))?))
            }
        }
    }

    /// Puts a small object here in one atomic step, replacing what was here. On the local disk it is first written
    /// where writes to `dataset` are staged, so that what a dead process leaves goes with the next lease.
    ///
    /// Once begun it goes on to its end, also where nobody waits for it any more.
    pub(super) async fn put(&self, bytes: Bytes, dataset: &Self) -> Result<(), DataError> {
        let writing = self.begin_write()?;
        match &self.kind {
            PlaceKind::Local(path, _) => {
                let path = path.clone();
                let staging = dataset.sibling(STAGING_SUFFIX).local().map(FsPath::to_path_buf).unwrap_or_default();
                blocking(move || {
                    let _writing = writing;
                    for folder in path.parent().into_iter().chain([&*staging]) {
                        fs::create_dir_all(folder).map_err(|error| DataError::io(folder, error))?;
                    }
                    let staged = staging.join(unique_name());
                    let written = fs::write(&staged, &bytes).and_then(|()| {
                        faults::point();
                        sync_file(&staged)?;
                        fs::rename(&staged, &path)?;
                        sync_file(&path)
                    });
                    if written.is_err() {
                        let _ = fs::remove_file(&staged);
                    }
                    // Fails while others stage there.
                    let _ = fs::remove_dir(&staging);
                    faults::point();
                    written.map_err(|error| DataError::io(&path, error))
                })
                .await
            }
            PlaceKind::Remote { store, path, .. } => {
                let (this, store, path) = (self.clone(), Arc::clone(store), path.clone());
                let task = tokio::spawn(async move {
                    let _writing = writing;
                    faults::point();
                    this.request(store.put(&path, PutPayload::from_bytes(bytes))).await?;
                    faults::point();
                    Ok(())
                });
                ended(task.await).await
            }
        }
    }

    /// Sends a finished local file here: one PUT, or a multipart upload that is complete or not there at all. Where
    /// nobody waits for it any more, it is taken back.
    pub(super) async fn upload(&self, file: fs::File, size: u64) -> Result<(), DataError> {
        let mut reader = PartReader { file: Arc::new(Mutex::new(file)), left: size };
        if size <= PART_SIZE as u64 {
            let bytes = reader.next().await.map_err(|e| DataError::io(&*self.shown, e))?.unwrap_or_default();
            return self.put(bytes, self).await;
        }
        let writing = self.begin_write()?;
        let wanted = CancellationToken::new();
        let _until_dropped = wanted.clone().drop_guard();
        let this = self.clone();
        let task = tokio::spawn(async move {
            let _writing = writing;
            this.send_parts(reader, &wanted).await
        });
        ended(task.await).await
    }

    async fn send_parts(&self, mut reader: PartReader, given_up: &CancellationToken) -> Result<(), DataError> {
        let PlaceKind::Remote { store, path, .. } = &self.kind else {
            return Err(self.layout("", "only stores take uploads"));
        };
        let mut upload = self.request(store.put_multipart(path)).await?;
        let parts = async {
            while let Some(bytes) = reader.next().await.map_err(|e| DataError::io(&*self.shown, e))? {
                faults::point();
                self.request(upload.put_part(PutPayload::from_bytes(bytes))).await?;
            }
            Ok::<_, DataError>(())
        };
        let sent = tokio::select! {
            biased;
            () = given_up.cancelled() => Err(self.layout("", "its upload was given up")),
            sent = parts => sent,
        };
        if let Err(error) = sent {
            // An upload that is not ended is billed for ever.
            let _ = tokio::time::timeout(ABORTING, upload.abort()).await;
            return Err(error);
        }
        self.request(upload.complete()).await?;
        faults::point();
        Ok(())
    }

    /// Removes files below this place; ones that are gone already are fine. Emptied local folders go too.
    pub(super) async fn remove(&self, files: Vec<String>) -> Result<(), DataError> {
        if files.is_empty() {
            return Ok(());
        }
        let writing = self.begin_write()?;
        match &self.kind {
            PlaceKind::Local(root, _) => {
                let root = root.clone();
                blocking(move || {
                    let _writing = writing;
                    for file in files {
                        walk::refuse_links(&root, file.rsplit_once('/').map_or("", |(folder, _)| folder))?;
                        let path = if file.is_empty() { root.clone() } else { root.join(&file) };
                        match fs::remove_file(&path) {
                            Ok(()) => faults::point(),
                            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                            Err(error) => return Err(DataError::io(&path, error)),
                        }
                        let mut folder = path.parent();
                        // Stops at the first folder that still holds something.
                        while let Some(parent) = folder.filter(|parent| *parent != root && parent.starts_with(&root)) {
                            if fs::remove_dir(parent).is_err() {
                                break;
                            }
                            folder = parent.parent();
                        }
                    }
                    Ok(())
                })
                .await
            }
            PlaceKind::Remote { store, path, .. } => {
                let (this, store) = (self.clone(), Arc::clone(store));
                let paths: Vec<_> = files.iter().map(|file| Ok(join(path, file))).collect();
                let task = tokio::spawn(async move {
                    let _writing = writing;
                    let mut done = store.delete_stream(futures::stream::iter(paths).boxed());
                    while let Some(result) = guard::hold(this.guard.as_ref(), done.next()).await? {
                        faults::point();
                        match result {
                            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                            Err(error) => return Err(this.store_error("", &error)),
                        }
                    }
                    Ok(())
                });
                ended(task.await).await
            }
        }
    }
}

/// The hidden name that belongs to `name`; to the root of a store, which has none, a name that no other place gives.
fn hidden(name: Option<&str>, suffix: &str) -> String {
    match name {
        Some(name) => format!(".{name}{suffix}"),
        None => suffix.to_owned(),
    }
}

fn remote_entry(path: String, meta: object_store::ObjectMeta) -> Entry {
    let stamp = match meta.e_tag {
        Some(tag) => Stamp::Tag(tag),
        None => Stamp::Time(meta.last_modified.timestamp_nanos_opt().unwrap_or_default()),
    };
    Entry { path, size: meta.size, stamp, plain: true }
}

struct PartReader {
    file: Arc<Mutex<fs::File>>,
    left: u64,
}

impl PartReader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let size = self.left.min(PART_SIZE as u64);
        self.left -= size;
        let file = Arc::clone(&self.file);
        let size = usize::try_from(size).unwrap_or(PART_SIZE);
        blocking(move || {
            let mut buffer = vec![0; size];
            io::Read::read_exact(&mut *file.lock().unwrap_or_else(PoisonError::into_inner), &mut buffer)?;
            Ok(Some(Bytes::from(buffer)))
        })
        .await
    }
}

/// Joins without escaping again: relative paths come from listings or from [`crate::model::PartitionKey::path`].
fn join(path: &Path, relative: &str) -> Path {
    if relative.is_empty() {
        return path.clone();
    }
    let text = if path.is_root() { relative.to_owned() } else { format!("{path}/{relative}") };
    Path::parse(&text).unwrap_or_else(|_| Path::from(text))
}

/// True for what Spark, Hadoop and `flow` leave beside data: `_SUCCESS`, `.crc` files, staging. A partition column
/// may start with `_`.
pub(super) fn is_hidden(relative: &str) -> bool {
    relative.split('/').any(|name| name.starts_with('.') || (name.starts_with('_') && !name.contains('=')))
}
