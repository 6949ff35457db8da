//! The guarantees of the cache: stored values are found byte by byte, and damage loses only the damaged records.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, RwLock, atomic::AtomicU64},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    claims::Claims,
    segment::{FileId, INDEX, MAX_BYTES, SEGMENT},
    shared::{MAX_SEALING, Shared, lock},
    view::View,
    *,
};
use crate::model::Fingerprint;

fn identity() -> Fingerprint {
    Fingerprint::of("a model")
}

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, "test", identity(), CacheMode::ReadWrite).expect("a writable folder")
}

/// The value that belongs to a number, so that a wrong value is recognized. Lengths differ.
fn value(n: u32) -> Vec<u8> {
    (0..1 + n % 7).flat_map(|i| (n * 31 + i).to_le_bytes()).collect()
}

/// Bytes of a long value.
const LONG: usize = 256 << 10;

pub(super) fn put(cache: &Store, numbers: impl IntoIterator<Item = u32>) {
    let entries: Vec<_> = numbers.into_iter().map(|n| (cache.key(&n.to_string()), value(n))).collect();
    let borrowed: Vec<_> = entries.iter().map(|(key, value)| (*key, &value[..])).collect();
    cache.put_many(&borrowed).expect("a writable folder");
}

/// The numbers that are found. Panics on a wrong value, or one delivered twice.
pub(super) fn found(cache: &Store, numbers: &[u32]) -> Vec<u32> {
    let keys: Vec<_> = numbers.iter().map(|n| cache.key(&n.to_string())).collect();
    let mut hits = Vec::new();
    cache
        .get_many(&keys, &mut |slot, found| {
            assert_eq!(found, value(numbers[slot]), "the value of {}", numbers[slot]);
            hits.push(numbers[slot]);
        })
        .expect("a readable folder");
    let delivered = hits.len();
    hits.sort_unstable();
    hits.dedup();
    assert_eq!(delivered, hits.len(), "nothing is delivered twice");
    hits
}

/// Ends a cache as `kill -9` would: without an index of the open segment.
fn kill(cache: Store) {
    lock(&cache.shared.writer).take();
    cache.shared.view_mut().own = None;
}

pub(super) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut list: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    list.sort();
    list
}

pub(super) fn range(end: u32) -> Vec<u32> {
    (0..end).collect()
}

#[cfg(unix)]
#[test]
fn a_new_cache_is_readable_by_its_owner_alone_and_one_in_a_shared_folder_by_its_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().expect("a folder");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let (own, shared) = (parent.path().join("own"), parent.path().join("shared"));
    fs::create_dir(&shared).expect("a folder");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o750)).expect("permissions");
    for (folder, folder_mode, file_mode) in [(&own, 0o700, 0o600), (&shared, 0o750, 0o640)] {
        let cache = open(folder);
        put(&cache, range(10));
        drop(cache);
        assert_eq!(mode(folder), folder_mode);
        let files: Vec<_> = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
        assert!(files.len() >= 2, "{files:?}");
        assert!(files.iter().all(|file| mode(file) == file_mode), "{files:?}");
    }
}

#[test]
fn stored_values_are_found_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path());
    put(&cache, 0..100);
    assert_eq!(found(&cache, &range(200)), range(100));
    drop(cache);
    let cache = open(dir.path());
    assert_eq!(found(&cache, &range(200)), range(100));
    let keys: Vec<_> = [5, 500].map(|n: u32| cache.key(&n.to_string())).into();
    assert_eq!(cache.contains_many(&keys).expect("a readable folder"), [true, false]);
}

#[test]
fn another_identity_finds_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    put(&open(dir.path()), 0..10);
    let other = Store::open(dir.path(), "test", Fingerprint::of("another model"), CacheMode::ReadWrite);
    assert!(found(&other.expect("a writable folder"), &range(10)).is_empty());
}

#[test]
fn a_killed_process_loses_nothing_that_was_stored() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path());
    put(&cache, 0..50);
    put(&cache, 50..80);
    kill(cache);
    assert_eq!(files(dir.path(), INDEX).len(), 0);
    let cache = open(dir.path());
    assert_eq!(found(&cache, &range(100)), range(80));
    assert_eq!(files(dir.path(), INDEX).len(), 1, "the missing index was made");
}

#[test]
fn two_processes_share_a_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (open(dir.path()), open(dir.path()));
    put(&one, 0..20);
    put(&two, 10..40);
    assert_eq!(found(&one, &range(50)), range(20));
    one.refresh().expect("a readable folder");
    assert_eq!(found(&one, &range(50)), range(40));
    put(&two, 40..45);
    one.refresh().expect("a readable folder");
    assert_eq!(found(&one, &range(50)), range(45));
    assert_eq!(files(dir.path(), INDEX).len(), 0, "a segment that is being written has no index");
    drop(two);
    assert_eq!(found(&one, &range(50)), range(45));
}

#[test]
fn read_mode_writes_nothing_and_off_does_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cache");
    let off = Store::open(&path, "test", identity(), CacheMode::Off).expect("nothing to fail");
    let read = Store::open(&path, "test", identity(), CacheMode::Read).expect("an empty cache");
    put(&off, 0..5);
    put(&read, 0..5);
    assert_eq!((found(&off, &range(5)), found(&read, &range(5))), (vec![], vec![]));
    assert!(!path.exists());

    let writer = open(&path);
    put(&writer, 0..5);
    kill(writer);
    let read = Store::open(&path, "test", identity(), CacheMode::Read).expect("a readable folder");
    assert_eq!(found(&read, &range(9)), range(5));
    drop(read);
    assert_eq!(files(&path, INDEX).len(), 0);
}

#[test]
fn values_of_invalid_length_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path());
    let key = cache.key("a");
    let long = vec![7; MAX_VALUE + 4];
    for invalid in [&[][..], &[1, 2, 3], &long] {
        assert!(matches!(cache.put_many(&[(key, invalid)]), Err(CacheError::Length(_))));
    }
    cache.put_many(&[(key, &long[4..])]).expect("the longest value");
    let mut length = 0;
    cache.get_many(&[key], &mut |_, value| length = value.len()).expect("a readable folder");
    assert_eq!(length, MAX_VALUE);
}

#[test]
fn full_segments_are_closed_and_still_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path());
    let long = vec![125; LONG];
    let keys: Vec<_> = (0..600).map(|n: u32| cache.key(&n.to_string())).collect();
    for keys in keys.chunks(50) {
        cache.put_many(&keys.iter().map(|key| (*key, &long[..])).collect::<Vec<_>>()).expect("free space");
    }
    assert_eq!(files(dir.path(), SEGMENT).len(), 2);
    let (mut hits, mut longest) = (0, 0);
    cache
        .get_many(&keys, &mut |_, value| {
            hits += 1;
            longest = longest.max(value.len());
        })
        .expect("a readable folder");
    assert_eq!((hits, longest), (600, LONG));
    assert!(files(dir.path(), SEGMENT).iter().all(|f| fs::metadata(f).expect("a file").len() <= MAX_BYTES));
}

#[test]
fn a_full_segment_is_found_while_it_waits_for_its_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open_without_background(dir.path());
    let long = vec![125; LONG];
    // Four segments and a part of the fifth, and no thread that writes indexes.
    let keys: Vec<_> = (0..2100).map(|n: u32| cache.key(&n.to_string())).collect();
    for (n, keys) in keys.chunks(100).enumerate() {
        cache.put_many(&keys.iter().map(|key| (*key, &long[..])).collect::<Vec<_>>()).expect("free space");
        assert!(cache.view().sealing.len() <= MAX_SEALING, "after {n} calls");
    }
    assert_eq!((files(dir.path(), SEGMENT).len(), files(dir.path(), INDEX).len()), (5, 2), "two wait, one is open");
    cache.refresh().expect("a readable folder");
    assert!(cache.contains_many(&keys).expect("a readable folder").iter().all(|found| *found));
    cache.put_many(&[(keys[0], &long[..])]).expect("free space");
    cache.flush().expect("a disk");
    drop(cache);
    assert_eq!(files(dir.path(), INDEX).len(), 5);
    let report = verify(dir.path()).expect("a readable folder");
    assert_eq!((report.entries, report.is_sound()), (2100, true), "nothing was stored twice");
}

#[test]
fn many_small_segments_are_merged_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..12 {
        put(&open_without_background(dir.path()), n * 10..n * 10 + 15);
    }
    let bystander = open_without_background(dir.path());
    put(&bystander, 1000..1010);
    assert_eq!(files(dir.path(), SEGMENT).len(), 13);
    assert!(maintenance::compact(dir.path()).expect("a writable folder"));
    assert_eq!(files(dir.path(), SEGMENT).len(), 2, "the merged one, and the one that is being written");
    assert_eq!(files(dir.path(), INDEX).len(), 1);
    assert_eq!(found(&bystander, &range(200)), range(125), "an open cache finds merged records");
    assert_eq!(found(&open(dir.path()), &range(200)), range(125));
    assert_eq!(stats(dir.path()).expect("a readable folder").entries, 135, "duplicates are gone");
}

/// A cache without a background thread, so that a test decides when compaction runs.
fn open_without_background(dir: &Path) -> Store {
    let cache = Store::open(dir, "test", identity(), CacheMode::Read).expect("a readable folder");
    let shared = Shared {
        dir: dir.to_path_buf(),
        mode: CacheMode::ReadWrite,
        view: RwLock::new(View::default()),
        writer: Mutex::default(),
        reserved_bytes: AtomicU64::new(0),
        pending: Mutex::default(),
        wake: Condvar::new(),
        claims: Claims::new(dir),
    };
    shared.refresh().expect("a readable folder");
    Store { mode: CacheMode::ReadWrite, shared: Arc::new(shared), background: None, namer: cache.namer.clone() }
}

#[test]
fn compaction_merges_indexes() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path());
    // Segments too large to be merged, written without the thread that would merge their indexes.
    let long = vec![5; 160_000];
    for part in 0..9 {
        let one = open_without_background(dir.path());
        let keys: Vec<_> = (0..60).map(|n| cache.key(&format!("{part} {n}"))).collect();
        one.put_many(&keys.iter().map(|key| (*key, &long[..])).collect::<Vec<_>>()).expect("free space");
    }
    assert_eq!(files(dir.path(), INDEX).len(), 9);
    assert!(maintenance::compact(dir.path()).expect("a writable folder"));
    assert_eq!((files(dir.path(), SEGMENT).len(), files(dir.path(), INDEX).len()), (9, 1));
    assert!(!maintenance::compact(dir.path()).expect("a writable folder"), "nothing is left to merge");
    cache.refresh().expect("a readable folder");
    let keys: Vec<_> = (0..9).map(|part| cache.key(&format!("{part} 59"))).collect();
    assert!(cache.contains_many(&keys).expect("a readable folder").iter().all(|found| *found));
}

#[test]
fn gc_removes_the_oldest_segments_first_and_none_that_is_being_written() {
    let dir = tempfile::tempdir().expect("a folder");
    for (age, n) in [(3_u64, 0), (2, 100), (1, 200)] {
        put(&open(dir.path()), n..n + 50);
        let newest = files(dir.path(), SEGMENT).pop().expect("a segment");
        let _ = fs::remove_file(newest.with_extension(INDEX));
        let old = FileId::at(FileId::new().millis() - age * 3_600_000);
        fs::rename(&newest, old.path(dir.path(), SEGMENT)).expect("a writable folder");
    }
    let live = open(dir.path());
    put(&live, 300..350);
    let all: Vec<u32> = (0..350).collect();
    let policy = GcPolicy { older_than: Some(Duration::from_secs(9000)), max_bytes: None };
    let report = gc(dir.path(), policy).expect("a writable folder");
    assert_eq!((report.segments_removed, report.in_use), (1, 0));
    let left = found(&open(dir.path()), &all);
    assert_eq!((left.len(), left.first()), (150, Some(&100)));

    let report = gc(dir.path(), GcPolicy { max_bytes: Some(0), older_than: None }).expect("a writable folder");
    assert_eq!((report.segments_removed, report.in_use), (2, 1));
    assert_eq!(found(&live, &all), (300..350).collect::<Vec<_>>());
    drop(live);
    let report = gc(dir.path(), GcPolicy { max_bytes: Some(0), older_than: None }).expect("a writable folder");
    assert_eq!((report.segments_removed, report.bytes_left), (1, 0));
    assert_eq!(stats(dir.path()).expect("a readable folder"), CacheStats::default());
}

#[test]
fn maintenance_of_a_missing_folder_finds_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("none");
    assert_eq!(stats(&path).expect("nothing to read"), CacheStats::default());
    assert_eq!(verify(&path).expect("nothing to read"), VerifyReport::default());
    assert_eq!(gc(&path, GcPolicy::default()).expect("nothing to remove"), GcReport::default());
    assert!(!path.exists());
}

#[test]
fn verify_distinguishes_damage_from_a_torn_write() {
    let dir = tempfile::tempdir().expect("a folder");
    put(&open(dir.path()), 0..10);
    let path = files(dir.path(), SEGMENT).pop().expect("a segment");
    OpenOptions::new().append(true).open(&path).expect("a file").write_all(b"fvec\x03\0\0\0half").expect("free space");
    let report = verify(dir.path()).expect("a readable folder");
    assert_eq!((report.entries, report.torn_bytes, report.is_sound()), (10, 12, true));

    let mut bytes = fs::read(&path).expect("a file");
    bytes[40] ^= 1;
    fs::write(&path, bytes).expect("a file");
    let report = verify(dir.path()).expect("a readable folder");
    assert_eq!((report.entries, report.damaged, report.is_sound()), (9, 1, false));

    let path = files(dir.path(), INDEX).pop().expect("an index");
    fs::write(&path, b"not an index").expect("a file");
    assert_eq!(verify(dir.path()).expect("a readable folder").damaged_indexes, 1);
    assert_eq!(found(&open(dir.path()), &range(10)).len(), 9, "a damaged index is written again");
    assert_eq!(verify(dir.path()).expect("a readable folder").damaged_indexes, 0);
}

#[test]
fn a_failed_sync_is_reported_by_the_next_call() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path());
    lock(&cache.shared.pending).failed = Some(io::Error::other("disk full"));
    let error = cache.flush().expect_err("the failure");
    assert!(error.to_string().ends_with("cannot be written: disk full"), "{error}");
    cache.flush().expect("it is reported once");
}

/// What happens to a folder between two lives of a process.
#[derive(Debug, Clone)]
enum Step {
    Put(u32, u32),
    Close,
    Kill,
    Truncate(usize, f64),
    Flip(usize, f64, u8),
    DropIndex(usize),
    Compact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u32..300, 1_u32..20).prop_map(|(from, count)| Step::Put(from, count)),
        2 => Just(Step::Close),
        2 => Just(Step::Kill),
        1 => (any::<usize>(), 0.0..1.0).prop_map(|(file, at)| Step::Truncate(file, at)),
        1 => (any::<usize>(), 0.0..1.0, 0_u8..8).prop_map(|(file, at, bit)| Step::Flip(file, at, bit)),
        1 => any::<usize>().prop_map(Step::DropIndex),
        1 => Just(Step::Compact),
    ];
    proptest::collection::vec(step, 1..25)
}

fn damage(dir: &Path, endings: &[&str], pick: usize, change: impl FnOnce(&mut Vec<u8>)) {
    let all: Vec<_> = endings.iter().flat_map(|ending| files(dir, ending)).collect();
    let Some(path) = all.get(pick % all.len().max(1)) else { return };
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("a writable file");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_of_crashes_and_damage_gives_a_wrong_value(steps in steps()) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut cache: Option<Store> = None;
        let all: Vec<u32> = (0..330).collect();
        let mut stored = std::collections::BTreeSet::new();
        let mut harmed = false;
        for step in steps {
            // Files are damaged only while they are closed, as on a machine that lost power.
            match step {
                Step::Put(..) => {}
                Step::Close | Step::DropIndex(_) => cache = None,
                _ => cache.take().into_iter().for_each(kill),
            }
            match step {
                Step::Put(from, count) => {
                    put(cache.get_or_insert_with(|| open_without_background(dir.path())), from..from + count);
                    stored.extend(from..from + count);
                }
                Step::Close | Step::Kill => {}
                Step::Truncate(file, at) => {
                    damage(dir.path(), &[SEGMENT], file, |bytes| bytes.truncate((bytes.len() as f64 * at) as usize));
                    harmed = true;
                }
                Step::Flip(file, at, bit) => {
                    damage(dir.path(), &[SEGMENT, INDEX], file, |bytes| {
                        let at = (bytes.len() as f64 * at) as usize;
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte ^= 1 << bit;
                        }
                    });
                    harmed = true;
                }
                Step::DropIndex(file) => {
                    let indexes = files(dir.path(), INDEX);
                    if let Some(path) = indexes.get(file % indexes.len().max(1)) {
                        fs::remove_file(path).expect("a writable folder");
                    }
                }
                Step::Compact => {
                    maintenance::compact(dir.path()).expect("a writable folder");
                }
            }
            let cache = cache.get_or_insert_with(|| open_without_background(dir.path()));
            // `found` panics on a wrong value.
            let hits = found(cache, &all);
            prop_assert!(hits.iter().all(|n| stored.contains(n)));
            if !harmed {
                prop_assert_eq!(hits, stored.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_key_is_claimed_by_one_process_at_a_time_and_what_it_stores_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, other) = (open(dir.path()), open(dir.path()));
    let keys: Vec<_> = (0..4_u32).map(|n| one.key(&n.to_string())).collect();
    let claim = |cache: &Store, keys: &[Fingerprint]| cache.claim(keys, false).expect("a readable folder");
    assert_eq!(claim(&one, &keys[..3]), [Claimed::Ours; 3]);
    assert_eq!(claim(&one, &keys[..1]), [Claimed::Ours], "its own claims are in nobody's way");
    assert_eq!(claim(&other, &keys), [Claimed::Elsewhere, Claimed::Elsewhere, Claimed::Elsewhere, Claimed::Ours]);
    put(&one, 0..2);
    one.release(keys[..3].iter());
    // The third failed: others may request it.
    one.shared.claims.tell_from_time_to_time();
    assert_eq!(claim(&one, &keys[3..]), [Claimed::Elsewhere]);
    assert_eq!(claim(&other, &keys[..3]), [Claimed::Stored, Claimed::Stored, Claimed::Ours]);
    assert_eq!(found(&other, &range(4)), [0, 1]);
    assert_eq!(claim(&other, &keys[..1]), [Claimed::Stored]);
    assert_eq!(other.claim(&keys[..1], true).expect("a readable folder"), [Claimed::Ours], "of no use");
    drop(other);
    assert_eq!(claim(&one, &keys[3..]), [Claimed::Ours], "claims end with their process");
}
