//! The stores of a project: opens locations, and keeps what all datasets of a process share.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::{Path as FsPath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::{ObjectStore, memory::InMemory, path::Path};

use super::{
    contents::Contents,
    credentials::Setting,
    error::DataError,
    fault_store::FaultStore,
    glob::Glob,
    guard::{EXPIRY, Guard, WeakGuard},
    listing::Listing,
    listing_cache::{KeepListings, ListingCache},
    local_backend::{Disk, LocalBackend},
    location::{Location, Target, is_of_home},
    logged::Logged,
    memory_store::MemoryStore,
    remote_backend::RemoteBackend,
    store_clients::{EnvironmentLookup, build, web_store},
    store_kind::StoreKind,
    store_path::StorePath,
    syncer::{Syncer, Unbatched},
    web::WebFile,
};
use crate::model::is_secret_name;

/// All places that a run can reach: clients of object stores are made once and shared.
pub struct Stores {
    root: PathBuf,
    environment: EnvironmentLookup,
    remote: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    memory: MemoryStore,
    listings: ListingCache,
    /// Ids of partitions that are read, by the place of a dataset with a checkpoint.
    partitions_seen: Mutex<HashMap<String, Arc<BTreeSet<String>>>>,
    disk: Arc<Disk>,
    /// Leases of this process, by what is written at: a path, or a store's URL with a key.
    guards: Mutex<HashMap<String, WeakGuard>>,
    lease_expiry: Duration,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Stores {
    /// Stores of a project; relative paths start at `root`. `environment` is asked for what a store's own tools
    /// read from there (`AWS_…`, `GOOGLE_…`, `AZURE_…`), where the catalog gives no credentials.
    pub fn new(root: impl Into<PathBuf>, environment: EnvironmentLookup) -> Self {
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
            memory: MemoryStore::default(),
            listings: ListingCache::default(),
            partitions_seen: Mutex::default(),
            guards: Mutex::default(),
            lease_expiry: EXPIRY,
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

    /// Writes to this location from now on are under this lease.
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
        let path = path.trim_end_matches('/');
        match (is_of_home(path), (self.environment)("HOME")) {
            (true, Some(home)) => FsPath::new(&home).join(path[1..].trim_start_matches('/')),
            _ => self.root.join(path),
        }
    }

    /// The project's folder.
    pub fn root(&self) -> &FsPath {
        &self.root
    }

    /// What `memory` datasets hold.
    pub(super) fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    /// Ends the batching of syncs while the value lives: for a caller that has nothing more to write.
    pub fn sync_unbatched(&self) -> Unbatched {
        self.disk.syncer.unbatched()
    }

    /// Drops the content of a `memory` dataset after its last reader. `name` may include a view.
    pub fn forget(&self, name: &str) {
        self.memory.forget(name);
    }

    /// Opens a location. Sends no request.
    pub(super) fn open(&self, location: &Location) -> Result<StorePath, DataError> {
        let shown: Arc<str> = location.shown_folder().trim_end_matches('/').into();
        let invalid = |message: String| DataError::Location { location: location.shown().to_owned(), message };
        let (kind, base, key) = match location.target() {
            Target::Local(path) if is_of_home(path) && (self.environment)("HOME").is_none() => {
                return Err(invalid("`~/` needs the environment variable HOME, which is not set".to_owned()));
            }
            Target::Local(path) => {
                let backend = LocalBackend::new(self.local_path(path), Arc::clone(&self.disk));
                return Ok(StorePath::new(backend, shown, Arc::default(), self.guard(location)));
            }
            Target::Remote { kind, base, key } => (*kind, base, key),
        };
        if let Some(name) = location.missing_credentials() {
            return Err(DataError::NoCredentials { location: location.shown().to_owned(), name: name.to_owned() });
        }
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
                let store = built.map(FaultStore::around).map(Logged::around).map_err(|error| {
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
        let backend = RemoteBackend::new(store, url, path);
        Ok(StorePath::new(backend, shown, secrets.into(), self.guard(location)))
    }

    /// Keeps listings from now on, until the returned value is dropped.
    pub fn keep_listings(&self) -> KeepListings {
        self.listings.keep()
    }

    /// The files at a location: the kept listing, or a new one.
    pub(super) async fn list(&self, place: &StorePath) -> Result<Arc<Listing>, DataError> {
        self.listings.get(place.id(), place.list()).await
    }

    /// As [`Self::list`], of the files that a pattern matches.
    pub(super) async fn list_matching(&self, folder: &StorePath, glob: &Glob) -> Result<Arc<Listing>, DataError> {
        let id = format!("{} {}", folder.id(), glob.names().join("/"));
        self.listings.get(id, folder.list_matching(glob)).await
    }

    /// The ids of the partitions of a dataset with a checkpoint that were listed first.
    pub(super) fn partitions_seen(&self, place: &StorePath) -> Option<Arc<BTreeSet<String>>> {
        self.partitions_seen.lock().unwrap_or_else(PoisonError::into_inner).get(&place.id()).cloned()
    }

    /// From now on these are the partitions that are read.
    pub(super) fn see_partitions(&self, place: &StorePath, ids: Arc<BTreeSet<String>>) {
        self.partitions_seen.lock().unwrap_or_else(PoisonError::into_inner).insert(place.id(), ids);
    }

    /// The next listing says which partitions are read.
    pub(super) fn forget_partitions_seen(&self, place: &StorePath) {
        self.partitions_seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.id());
    }

    /// The names in a folder: the kept listing, or a new one.
    pub(super) async fn list_folder(&self, folder: &StorePath) -> Result<Arc<Listing>, DataError> {
        self.listings.get(folder.id(), folder.list_folder()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::location::Location;

    #[tokio::test]
    async fn kept_listings_are_made_once_and_made_again_after_they_are_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = Stores::new(folder.path(), Arc::new(|_| None));
        let place = stores.open(&Location::parse("data", None).expect("a path")).expect("opens");
        let write = |name: &str| {
            std::fs::create_dir_all(folder.path().join("data")).expect("a folder");
            std::fs::write(folder.path().join("data").join(name), "x").expect("written");
        };
        let files = async || stores.list(&place).await.expect("a listing").entries().len();
        assert_eq!(files().await, 0);
        write("a");
        assert_eq!(files().await, 1, "no listing is kept by default");
        let kept = stores.keep_listings();
        assert_eq!(files().await, 1);
        write("b");
        assert_eq!(files().await, 1, "as it was found");
        drop(kept);
        assert_eq!(files().await, 2);
    }
}
