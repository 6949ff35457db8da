//! The stores behind one trait.

use std::{error::Error, path::Path};

use flow::{model::Fingerprint, cache::CacheMode, embed::EmbeddingCache};

/// Dimensions of a vector.
pub const DIMENSIONS: usize = 100;

type Opened = Result<Box<dyn Store>, Box<dyn Error>>;

/// What the embedding cache needs of a store.
pub trait Store {
    /// Stores a batch. After it returns, the batch survives a kill of the process.
    fn put(&self, batch: &[(Fingerprint, Vec<f32>)]);
    /// Calls `found` with the position of each stored key, and its vector.
    fn get(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[f32]));
    /// Syncs everything to the disk.
    fn flush(&self);
}

/// By name; `flow` is the embedding cache itself.
pub const STORES: &[(&str, fn(&Path) -> Opened)] =
    &[("flow", open_flow), ("lmdb", open_lmdb), ("redb", open_redb), ("fjall", open_fjall)];

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().expect("four bytes"))).collect()
}

struct Flow(EmbeddingCache);

fn open_flow(path: &Path) -> Opened {
    Ok(Box::new(Flow(EmbeddingCache::open(path, Fingerprint::of("bench"), CacheMode::ReadWrite)?)))
}

impl Store for Flow {
    fn put(&self, batch: &[(Fingerprint, Vec<f32>)]) {
        let entries: Vec<_> = batch.iter().map(|(key, vector)| (*key, vector.as_slice())).collect();
        self.0.put_many(&entries).expect("stored");
    }

    fn get(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[f32])) {
        self.0.get_many(keys, found).expect("read");
    }

    fn flush(&self) {
        self.0.flush().expect("synced");
    }
}

struct Lmdb(heed::Env, heed::Database<heed::types::Bytes, heed::types::Bytes>);

#[expect(unsafe_code, reason = "the crate marks opening a mapped file as unsafe")]
fn open_lmdb(path: &Path) -> Opened {
    std::fs::create_dir_all(path)?;
    let mut options = heed::EnvOpenOptions::new();
    options.map_size(64 << 30);
    // SAFETY: the folder is this benchmark's own, and no process opens it with other flags.
    let env = unsafe { options.flags(heed::EnvFlags::NO_SYNC).open(path)? };
    let mut write = env.write_txn()?;
    let database = env.create_database(&mut write, None)?;
    write.commit()?;
    Ok(Box::new(Lmdb(env, database)))
}

impl Store for Lmdb {
    fn put(&self, batch: &[(Fingerprint, Vec<f32>)]) {
        let mut write = self.0.write_txn().expect("begun");
        for (key, vector) in batch {
            self.1.put(&mut write, key.as_bytes(), &bytes(vector)).expect("stored");
        }
        write.commit().expect("committed");
    }

    fn get(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[f32])) {
        let read = self.0.read_txn().expect("begun");
        for (at, key) in keys.iter().enumerate() {
            if let Some(bytes) = self.1.get(&read, key.as_bytes()).expect("read") {
                found(at, &numbers(bytes));
            }
        }
    }

    fn flush(&self) {
        self.0.force_sync().expect("synced");
    }
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("vectors");

struct Redb(redb::Database);

fn open_redb(path: &Path) -> Opened {
    std::fs::create_dir_all(path)?;
    let database = redb::Database::create(path.join("store.redb"))?;
    let write = database.begin_write()?;
    write.open_table(TABLE)?;
    write.commit()?;
    Ok(Box::new(Redb(database)))
}

impl Redb {
    fn write(&self, batch: &[(Fingerprint, Vec<f32>)]) -> Result<(), Box<dyn Error>> {
        // A commit that is not synced (`Durability::None`) does not survive a kill of the process, so each one is synced.
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for (key, vector) in batch {
                table.insert(key.as_bytes().as_slice(), bytes(vector).as_slice())?;
            }
        }
        Ok(write.commit()?)
    }
}

impl Store for Redb {
    fn put(&self, batch: &[(Fingerprint, Vec<f32>)]) {
        self.write(batch).expect("stored");
    }

    fn get(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[f32])) {
        use redb::ReadableDatabase as _;
        let read = self.0.begin_read().expect("begun");
        let table = read.open_table(TABLE).expect("a table");
        for (at, key) in keys.iter().enumerate() {
            if let Some(bytes) = table.get(key.as_bytes().as_slice()).expect("read") {
                found(at, &numbers(bytes.value()));
            }
        }
    }

    fn flush(&self) {}
}

struct Fjall(fjall::Database, fjall::Keyspace);

fn open_fjall(path: &Path) -> Opened {
    let database = fjall::Database::builder(path).open()?;
    let keyspace = database.keyspace("vectors", fjall::KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall(database, keyspace)))
}

impl Store for Fjall {
    fn put(&self, batch: &[(Fingerprint, Vec<f32>)]) {
        let mut write = self.0.batch().durability(Some(fjall::PersistMode::Buffer));
        for (key, vector) in batch {
            write.insert(&self.1, key.as_bytes().as_slice(), bytes(vector));
        }
        write.commit().expect("stored");
    }

    fn get(&self, keys: &[Fingerprint], found: &mut dyn FnMut(usize, &[f32])) {
        for (at, key) in keys.iter().enumerate() {
            if let Some(bytes) = self.1.get(key.as_bytes()).expect("read") {
                found(at, &numbers(&bytes));
            }
        }
    }

    fn flush(&self) {
        self.0.persist(fjall::PersistMode::SyncAll).expect("synced");
    }
}
