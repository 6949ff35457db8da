//! One writer at a time: a lease on a dataset for as long as a run writes to it.
//!
//! On the local disk a file lock on `.<name>.flow-lock` beside the dataset: the system takes it back when the process
//! dies, however it dies. On an object store an object made with create-only, renewed while the run lives. The next
//! run takes it over once it was not renewed for [`EXPIRY`], or at once when its holder was a process of this very
//! machine that is gone. A holder that could not renew counts its own lease as lost a third of that time before others
//! may take it over, and writes nothing more ([`Lease::lost`], `super::guard`): the third is for clocks that disagree
//! and for requests on their way. Taking a lease also removes what a dead process left staged.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path};
use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Dataset,
    error::DataError,
    faults,
    fence::{is_taken, is_unconditional},
    guard::{EXPIRY, Guard, Moment},
    names::{LOCK_SUFFIX, STAGING_SUFFIX, unique_name},
    store_path::StorePath,
    stores::Stores,
    tasks::blocking,
};

/// How long giving back waits for what still writes, and for the store.
const PATIENCE: Duration = Duration::from_secs(15);

/// The right to write to one dataset. Given back when dropped, and for certain by [`Lease::release`].
#[derive(Debug)]
#[must_use = "a lease that is dropped is given back at once"]
pub struct Lease {
    dataset: String,
    guard: Guard,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// Nothing outside this process can write there.
    Nothing,
    Local {
        file: File,
        lock: PathBuf,
        staging: PathBuf,
    },
    /// Left to expire, or to end with the process: something that writes under it may not have ended.
    Left,
    Remote {
        lock: Box<RemoteLock>,
        renewal: AbortOnDropHandle<()>,
        runtime: tokio::runtime::Handle,
        released: bool,
    },
}

impl Lease {
    /// The dataset it is for.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// Cancelled when another run may have it: this one could not renew it in time and writes nothing more. Never
    /// happens to a lease on the local disk.
    pub fn lost(&self) -> CancellationToken {
        self.guard.lost()
    }

    /// Lets nothing new begin to write under it, waits until all that has begun is over, gives it back, and waits until it
    /// is. Where something does not end, it is not given back: on the local disk it ends with the process, on a store it
    /// expires. On an object store a lease that is only dropped may outlive a process that ends right then, and would
    /// have to expire.
    pub async fn release(mut self) {
        if !self.guard.ended(PATIENCE).await {
            match &mut self.held {
                Held::Remote { renewal, released, .. } => {
                    renewal.abort();
                    *released = true;
                }
                // Closing the file would unlock it.
                local => std::mem::forget(std::mem::replace(local, Held::Left)),
            }
            return;
        }
        if let Held::Remote { lock, renewal, released, .. } = &mut self.held {
            renewal.abort();
            // What cannot be removed expires.
            let _ = tokio::time::timeout(PATIENCE, lock.give_back()).await;
            *released = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.guard.end();
    }
}

/// What the lock says to others.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Holder {
    token: String,
    host: String,
    pid: u32,
    since: DateTime<Utc>,
    renewed: DateTime<Utc>,
    /// How long it lives without being renewed.
    #[serde(default = "default_seconds")]
    expires_after_seconds: f64,
    /// The host's boot and the process's start time, which show for certain that the process is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

/// No lease lives for longer, in seconds; one that claims to comes from a clock that is wrong, or is damaged.
const MAX_LIFE: f64 = 24.0 * 3600.0;

fn default_seconds() -> f64 {
    EXPIRY.as_secs_f64()
}

/// One process of one machine since its boot. Linux only; elsewhere leases just expire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    boot: String,
    namespace: String,
    started: u64,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; the start time is the 20th field after it.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { boot, namespace, started })
    }
}

impl Holder {
    fn here(expiry: Duration) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let now = Utc::now();
        let token = format!("{host}-{}-{}", unique_name(), now.timestamp_nanos_opt().unwrap_or_default());
        let pid = std::process::id();
        let expires_after_seconds = expiry.as_secs_f64();
        Self { token, host, pid, since: now, renewed: now, expires_after_seconds, process: Process::of(pid) }
    }

    fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("plain texts always serialize"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// In seconds; negative when it has run out.
    fn left(&self) -> f64 {
        let age = Utc::now().signed_duration_since(self.renewed);
        self.expires_after_seconds - age.as_seconds_f64()
    }

    /// True when it is a process of this machine and is no more.
    fn is_dead(&self) -> bool {
        let (Some(theirs), Some(ours)) = (&self.process, Process::of(std::process::id())) else { return false };
        (&theirs.boot, &theirs.namespace) == (&ours.boot, &ours.namespace)
            && Process::of(self.pid).is_none_or(|now| now.started != theirs.started)
    }

    fn shown(&self) -> String {
        let host = if self.host.is_empty() { String::new() } else { format!(" on {}", self.host) };
        format!("process {}{host} since {}", self.pid, self.since.format("%Y-%m-%d %H:%M:%S UTC"))
    }

    /// For a lease that expires: also when that is.
    fn shown_with_end(&self) -> String {
        let life = chrono::TimeDelta::try_milliseconds((self.expires_after_seconds * 1000.0) as i64);
        match life.and_then(|life| self.renewed.checked_add_signed(life)).filter(|_| self.left() <= MAX_LIFE) {
            Some(end) => format!(
                "{} (should it have died: its lease ends at {}, {:.0} s from now, unless it is renewed)",
                self.shown(),
                end.format("%H:%M:%S UTC"),
                self.left().max(0.0).ceil()
            ),
            None => format!(
                "{} (its lease claims to end on {}: if no run is alive, remove the lock object)",
                self.shown(),
                self.renewed.format("%Y-%m-%d")
            ),
        }
    }
}

impl Stores {
    /// Takes the right to write to a dataset, and removes what a dead process left staged there.
    ///
    /// # Errors
    /// [`DataError::Held`] when another run has it, naming it.
    pub async fn lease(&self, dataset: &dyn Dataset) -> Result<Lease, DataError> {
        let name = dataset.info().name.clone();
        let (guard, held) = match dataset.location() {
            None => (Guard::lasting(name.clone()), Held::Nothing),
            Some(location) => {
                if location.is_on_a_web_server() {
                    let message = "is on a web server, which is only read: write to a local path or a bucket";
                    return Err(DataError::unsupported(&name, message));
                }
                if location.glob().is_some() {
                    let message = "has a `*` in its path, which is only read: write to a path without one";
                    return Err(DataError::unsupported(&name, message));
                }
                let place = self.open(location)?;
                let (guard, held) = match place.remote() {
                    None => (Guard::lasting(name.clone()), local(&place, name.clone()).await?),
                    Some(_) => remote(&place, &name, self.lease_expiry()).await?,
                };
                self.put_under(location, &guard);
                (guard, held)
            }
        };
        faults::point();
        tracing::debug!(dataset = name, "lease taken");
        Ok(Lease { dataset: name, guard, held })
    }
}

async fn local(place: &StorePath, dataset: String) -> Result<Held, DataError> {
    let path_of = |place: &StorePath| place.local().map(FsPath::to_path_buf).unwrap_or_default();
    let (lock, staging) = (path_of(&place.sibling(LOCK_SUFFIX)), path_of(&place.sibling(STAGING_SUFFIX)));
    blocking(move || {
        for ours in [&lock, &staging] {
            // A link's target belongs to another program and would be truncated or written through it.
            if fs::symlink_metadata(ours).is_ok_and(|metadata| metadata.is_symlink()) {
                let message = "it is a link where flow keeps a file or folder of its own; remove the link";
                return Err(DataError::Layout { file: ours.display().to_string(), message: message.to_owned() });
            }
        }
        if let Some(parent) = lock.parent() {
            fs::create_dir_all(parent).map_err(|error| DataError::io(parent, error))?;
        }
        let error = |error| DataError::io(&lock, error);
        let mut file = loop {
            let file =
                File::options().create(true).truncate(false).read(true).write(true).open(&lock).map_err(error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let by = fs::read(&lock).ok().and_then(|bytes| Holder::parse(&bytes));
                    let by = by.map_or_else(|| "another process".to_owned(), |holder| holder.shown());
                    return Err(DataError::Held { dataset, by });
                }
                Err(TryLockError::Error(source)) => return Err(error(source)),
            }
            // Between opening and locking, the last holder may have removed the file: then this lock protects nothing.
            if same_file(&file, &lock) {
                break file;
            }
        };
        file.set_len(0).and_then(|()| file.write_all(&Holder::here(EXPIRY).to_bytes())).map_err(error)?;
        clear(&staging)?;
        Ok(Held::Local { file, lock, staging })
    })
    .await
}

/// Removes what a dead process left staged: whatever has a name that only we give.
fn clear(staging: &FsPath) -> Result<(), DataError> {
    let items = match fs::read_dir(staging) {
        Ok(items) => items,
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(DataError::io(staging, source)),
    };
    for item in items {
        let item = item.map_err(|source| DataError::io(staging, source))?;
        let name = item.file_name();
        if !name.to_str().is_some_and(is_staged) {
            continue;
        }
        let path = item.path();
        let kind = item.file_type().map_err(|source| DataError::io(&path, source))?;
        let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Ok(()) => {}
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DataError::io(&path, source)),
        }
    }
    // Holds something of others, or goes.
    let _ = fs::remove_dir(staging);
    Ok(())
}

/// True for what [`unique_name`] and temporary files are called.
fn is_staged(name: &str) -> bool {
    if let Some(random) = name.strip_prefix(".tmp") {
        return random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    }
    name.split_once('-').is_some_and(|(process, count)| {
        process.len() == 16
            && process.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !count.is_empty()
            && count.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(unix)]
fn same_file(file: &File, path: &FsPath) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn same_file(_file: &File, _path: &FsPath) -> bool {
    true
}

/// A lock object and who holds it.
#[derive(Debug, Clone)]
struct RemoteLock {
    place: StorePath,
    store: Arc<dyn ObjectStore>,
    path: Path,
    holder: Holder,
    version: UpdateVersion,
}

async fn remote(place: &StorePath, dataset: &str, expiry: Duration) -> Result<(Guard, Held), DataError> {
    let place = place.sibling(LOCK_SUFFIX);
    let Some((store, path)) = place.remote().map(|(store, path)| (Arc::clone(store), path.clone())) else {
        return Ok((Guard::lasting(dataset.to_owned()), Held::Nothing));
    };
    let version = UpdateVersion { e_tag: None, version: None };
    let begun = Moment::now();
    let mut lock = RemoteLock { place, store, path, holder: Holder::here(expiry), version };
    let taking = tokio::time::timeout(expiry * 2 / 3, lock.take(dataset));
    taking.await.map_err(|_| lock.silent())??;
    let guard = Guard::expiring(dataset.to_owned(), begun, expiry * 2 / 3);
    let renewal = AbortOnDropHandle::new(tokio::spawn(renew(lock.clone(), expiry, guard.clone())));
    let runtime = tokio::runtime::Handle::current();
    Ok((guard, Held::Remote { lock: Box::new(lock), renewal, runtime, released: false }))
}

/// Renews a lease for as long as it is held. Every request has a deadline, and is made again until the lease is no longer
/// certainly ours: then it is lost, a third of its life before others may take it over.
async fn renew(mut lock: RemoteLock, expiry: Duration, guard: Guard) {
    loop {
        tokio::time::sleep(expiry / 4).await;
        loop {
            let left = guard.left().unwrap_or(expiry);
            if left.is_zero() {
                tracing::debug!(dataset = lock.place.shown(), "lease lost: it could not be renewed in time");
                return guard.lose();
            }
            let begun = Moment::now();
            match tokio::time::timeout(left.min(expiry / 6), lock.renew()).await {
                Ok(Ok(true)) => {
                    tracing::debug!(dataset = lock.place.shown(), "lease renewed");
                    break guard.renewed(begun);
                }
                Ok(Ok(false)) => {
                    tracing::debug!(dataset = lock.place.shown(), "lease lost: another run has taken it over");
                    return guard.lose();
                }
                // No conclusive response: retry soon.
                Ok(Err(_)) | Err(_) => tokio::time::sleep((expiry / 32).min(guard.left().unwrap_or(expiry))).await,
            }
        }
    }
}

impl RemoteLock {
    /// The store did not respond in time.
    fn silent(&self) -> DataError {
        let message = "the store does not respond".to_owned();
        DataError::Store { location: self.place.shown().to_owned(), message, not_found: false, transient: true }
    }

    fn error(&self, error: &object_store::Error) -> DataError {
        self.place.store_error(error)
    }

    async fn put(&self, mode: PutMode) -> Result<UpdateVersion, object_store::Error> {
        let payload = PutPayload::from_bytes(self.holder.to_bytes());
        self.store.put_opts(&self.path, payload, PutOptions::from(mode)).await.map(UpdateVersion::from)
    }

    /// Who holds it now, and which version of the object says so.
    async fn read(&self) -> Result<Option<(Option<Holder>, UpdateVersion)>, object_store::Error> {
        let got = match self.store.get(&self.path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        Ok(Some((Holder::parse(&got.bytes().await?), version)))
    }

    async fn take(&mut self, dataset: &str) -> Result<(), DataError> {
        let held = |by: String| DataError::Held { dataset: dataset.to_owned(), by };
        let conditional = match self.put(PutMode::Create).await {
            Ok(version) => {
                self.version = version;
                return Ok(());
            }
            // Nothing has to be there for it but the bucket.
            Err(object_store::Error::NotFound { .. }) => return Err(self.place.no_bucket()),
            Err(error) if is_taken(&error) => true,
            // Web servers and simple stores have no conditional PUT: the last resort is to look and write.
            Err(error) if is_unconditional(&error) => false,
            Err(error) => return Err(self.error(&error)),
        };
        let found = self.read().await.map_err(|error| self.error(&error))?;
        let mode = match found {
            // One that cannot be read holds nothing.
            Some((holder, version)) => match holder.filter(|holder| holder.left() > 0.0 && !holder.is_dead()) {
                Some(holder) => return Err(held(holder.shown_with_end())),
                None => PutMode::Update(version),
            },
            // Given back just now.
            None => PutMode::Create,
        };
        match self.put(if conditional { mode } else { PutMode::Overwrite }).await {
            Ok(version) => {
                self.version = version;
                Ok(())
            }
            Err(error) if is_taken(&error) => Err(held("another run that began just now".to_owned())),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// False when another run has it now.
    async fn renew(&mut self) -> Result<bool, object_store::Error> {
        self.holder.renewed = Utc::now();
        match self.put(PutMode::Update(self.version.clone())).await {
            Ok(version) => {
                self.version = version;
                return Ok(true);
            }
            Err(error) if is_taken(&error) || is_unconditional(&error) => {}
            Err(error) => return Err(error),
        }
        // It may be our own renewal whose response was lost.
        match self.read().await? {
            Some((Some(holder), version)) if holder.token == self.holder.token => {
                self.version = version;
                match self.put(PutMode::Update(self.version.clone())).await {
                    Ok(version) => self.version = version,
                    Err(error) if is_unconditional(&error) => {
                        self.put(PutMode::Overwrite).await?;
                    }
                    Err(error) => return Err(error),
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Removes it if it is still ours. What cannot be removed expires.
    async fn give_back(&self) {
        if let Ok(Some((Some(holder), _))) = self.read().await
            && holder.token == self.holder.token
        {
            let _ = self.store.delete(&self.path).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self {
            Self::Nothing | Self::Left => {}
            Self::Local { file, lock, staging } => {
                // Empty unless the run was killed; then the next lease clears it.
                let _ = fs::remove_dir(staging);
                // Removed while still locked, so that no other process can lock the removed name.
                let _ = fs::remove_file(lock);
                let _ = file.unlock();
            }
            Self::Remote { released: true, .. } => {}
            Self::Remote { lock, renewal, runtime, .. } => {
                renewal.abort();
                let lock = lock.clone();
                // Given back in the background; if the process ends first, it expires.
                runtime.spawn(async move { lock.give_back().await });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_object_with_a_date_beyond_all_calendars_is_told_and_no_panic() {
        let mut holder = Holder::here(EXPIRY);
        assert!(holder.shown_with_end().contains("its lease ends at"));
        for (renewed, seconds) in
            [(DateTime::<Utc>::MAX_UTC, 90.0), (DateTime::<Utc>::MIN_UTC, -1e300), (Utc::now(), 1e300)]
        {
            holder = Holder { renewed, since: renewed, expires_after_seconds: seconds, ..holder };
            let read = Holder::parse(&holder.to_bytes()).unwrap_or_else(|| holder.clone());
            let shown = read.shown_with_end();
            assert!(shown.contains("process"), "{shown}");
            if seconds > 0.0 {
                assert!(shown.contains("remove the lock object"), "{shown}");
            }
        }
    }
}
