//! Damaged files of a cache: never a wrong value, and files that are not damaged lose nothing.

use std::fs;

use super::{
    segment::{INDEX, SEGMENT},
    tests::{files, found, open, put, range},
    *,
};
use crate::model::fuzz::fuzz;

const WORDS: &[&str] = &["fvec", "flowidx1", "\0\0\0\0", "\u{7f}\u{7f}\u{7f}\u{7f}", "\u{1}\0\0\0"];

#[test]
fn a_damaged_cache_never_gives_a_wrong_value() {
    let whole = tempfile::tempdir().expect("a folder");
    for part in 0..3 {
        put(&open(whole.path()), part * 20..(part + 1) * 20);
    }
    let intact: Vec<(std::path::PathBuf, Vec<u8>)> = [SEGMENT, INDEX]
        .iter()
        .flat_map(|ending| files(whole.path(), ending))
        .map(|path| (path.clone(), fs::read(path).expect("a file")))
        .collect();
    let all: Vec<&[u8]> = intact.iter().map(|(_, bytes)| &bytes[..]).collect();
    fuzz("cache", 1500, |random| {
        let dir = tempfile::tempdir().expect("a folder");
        let damaged = random.below(intact.len());
        let stem = intact[damaged].0.file_stem();
        for (number, (path, bytes)) in intact.iter().enumerate() {
            let mut bytes = bytes.clone();
            if number == damaged {
                // Of its own bytes, or those of another file under its name.
                let own = [&bytes[..]];
                let of_others = random.below(3) == 0;
                bytes = random.mutated(if of_others { &all } else { &own }, WORDS);
            }
            fs::write(dir.path().join(path.file_name().expect("a name")), bytes).expect("writes");
        }
        verify(dir.path()).expect("a readable folder");
        let cache = open(dir.path());
        // Panics on a wrong one.
        let hits = found(&cache, &range(100));
        for (part, (path, _)) in intact.iter().take(3).enumerate() {
            if path.file_stem() != stem {
                let part = part as u32;
                let kept = hits.iter().filter(|n| (part * 20..(part + 1) * 20).contains(n)).count();
                assert_eq!(kept, 20, "values of an intact segment are lost");
            }
        }
        // What is lost is stored again, also past damage.
        put(&cache, 0..60);
        assert_eq!(found(&cache, &range(60)), range(60));
        drop(cache);
        assert_eq!(found(&open(dir.path()), &range(60)), range(60));
        gc(dir.path(), GcPolicy::default()).expect("a writable folder");
        assert_eq!(found(&open(dir.path()), &range(60)), range(60), "after upkeep");
    });
}

#[test]
fn damaged_claims_of_other_processes_stop_nobody() {
    fuzz("claims", 900, |random| {
        let dir = tempfile::tempdir().expect("a folder");
        let claims = dir.path().join("claims");
        fs::create_dir_all(&claims).expect("a folder");
        let cache = open(dir.path());
        let keys: Vec<_> = (0..30_u32).map(|n| cache.key(&n.to_string())).collect();
        let told: Vec<u8> = keys.iter().take(10).flat_map(|key| *key.as_bytes()).collect();
        let name = format!("{}.claim", crate::model::Fingerprint::of(random.next().to_le_bytes()));
        let file = fs::File::create(claims.join(name)).expect("a file");
        fs::write(claims.join("other.claim"), b"x").expect("writes");
        let changed = random.mutated(&[&told], &["\0\0\0\0"]);
        std::io::Write::write_all(&mut &file, &changed).expect("writes");
        let alive = random.below(2) == 0;
        if alive {
            file.lock().expect("locked");
        }
        let theirs: Vec<&[u8]> = changed.as_chunks::<16>().0.iter().map(|key| &key[..]).collect();
        for (key, claimed) in keys.iter().zip(cache.claim(&keys, false).expect("a readable folder")) {
            let wanted = alive && theirs.contains(&&key.as_bytes()[..]);
            assert_eq!(claimed, if wanted { Claimed::Elsewhere } else { Claimed::Ours });
        }
    });
}
