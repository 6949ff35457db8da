//! Names beside a dataset, and leases on it.

use super::*;

#[test]
fn no_two_places_share_what_lies_beside_them() {
    let stores = Stores::new("/p", Arc::new(|_| None));
    let paths =
        ["a?1", "a?2", "a", "A", "a%3F1", "b/a?1", "memory://b", "memory://", "memory://b/a?1", "memory://b/a?2"];
    let roots = ["s3://b", "s3://b/dataset", "s3://b/a?1", "s3://b/a%3F1", "s3://c"];
    let mut seen = std::collections::HashSet::new();
    for path in paths.iter().chain(&roots) {
        let place = stores.open(&Location::parse(path, None).expect(path)).expect(path);
        for suffix in [".flow", ".flow-lock", ".flow-staging"] {
            let beside = place.sibling(suffix);
            assert!(seen.insert(beside.id()), "{path}: {} is another's", beside.id());
        }
    }
}

#[test]
fn names_of_what_is_staged_are_unique_among_processes_of_the_same_number() {
    let name = names::unique_name();
    assert!(!name.starts_with(&format!("{}-", std::process::id())), "{name}");
    assert_ne!(name, names::unique_name());
}

#[tokio::test]
async fn leftovers_of_a_dead_process_go_when_the_lease_is_taken() {
    let (project, dataset) = (Project::new(), dataset_of_table("data/t", "bucket"));
    fs::create_dir_all(project.path("data/.t.flow-staging/0123456789abcdef-2/bucket=1")).expect("makes folders");
    fs::write(project.path("data/.t.flow-staging/0123456789abcdef-2/bucket=1/x.parquet"), "half").expect("writes");
    let lease = project.stores.lease(&*dataset).await.expect("free");
    assert_eq!(project.files(), ["data/.t.flow-lock"]);
    let other = Stores::new(project.folder.path(), Arc::new(|_| None));
    let held = other.lease(&*dataset).await.expect_err("taken");
    assert!(matches!(&held, DataError::Held { by, .. } if by.contains(&std::process::id().to_string())), "{held}");
    write(&project, &*dataset, &[table(&[1])], "w").await.expect("writes");
    drop(lease);
    assert!(!project.path("data/.t.flow-lock").exists());
    let _again = other.lease(&*dataset).await.expect("free again");
}

#[tokio::test]
async fn a_lease_on_a_store_keeps_others_out() {
    let (project, dataset) = (Project::new(), dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}"));
    let lease = project.stores.lease(&*dataset).await.expect("free");
    assert!(matches!(project.stores.lease(&*dataset).await, Err(DataError::Held { .. })));
    drop(lease);
    // Given back in the background.
    for _ in 0..1000 {
        if project.stores.lease(&*dataset).await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the lease was never given back");
}

/// Waits for what the runtime does in the background.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn a_lease_that_is_released_is_free_at_once_and_one_that_lives_is_renewed() {
    let stores = Stores::new("/p", Arc::new(|_| None)).with_lease_expiry(Duration::from_millis(400));
    let dataset = dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}");
    let lease = stores.lease(&*dataset).await.expect("free");
    // Longer than it lives without being renewed.
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(1000) {
        let error = stores.lease(&*dataset).await.expect_err("held").to_string();
        assert!(error.contains("its lease ends at"), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!lease.lost().is_cancelled());
    lease.release().await;
    let again = stores.lease(&*dataset).await.expect("free");
    again.release().await;
}

#[tokio::test]
async fn a_lease_that_another_run_took_over_is_lost() {
    let stores = Stores::new("/p", Arc::new(|_| None)).with_lease_expiry(Duration::from_millis(100));
    let dataset = dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}");
    let lease = stores.lease(&*dataset).await.expect("free");
    let lock = stores.open(dataset.location().expect("a place")).expect("opens").sibling(".flow-lock");
    let mut other: serde_json::Value =
        serde_json::from_slice(&lock.read().await.expect("reads").expect("a lock")).expect("JSON");
    for (key, value) in [("token", "another"), ("host", "elsewhere")] {
        other[key] = value.into();
    }
    other["process"] = serde_json::Value::Null;
    lock.put(other.to_string().into(), &lock).await.expect("writes");
    tokio::time::timeout(Duration::from_secs(10), lease.lost().cancelled()).await.expect("it notices");
    lease.release().await;
    assert!(lock.read().await.expect("reads").is_some(), "the other's lock is not ours to remove");
    // The other one is not renewed, so it can be taken over in its turn.
    until(async || stores.lease(&*dataset).await.is_ok()).await;
}

#[tokio::test]
async fn a_lock_that_nobody_can_read_keeps_nobody_out() {
    let project = Project::new();
    let dataset = dataset("{type: partitioned, path: 'memory://b/p', dataset: parquet}");
    let lock = project.stores.open(dataset.location().expect("a place")).expect("opens").sibling(".flow-lock");
    lock.put("{".into(), &lock).await.expect("writes");
    project.stores.lease(&*dataset).await.expect("taken over").release().await;
}
