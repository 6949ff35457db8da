//! What code a node ran with when it last succeeded, in `.flow/code`: so that a plan names the files that changed. No decision
//! depends on it, and it may be deleted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{data::create_private_folder, model::Fingerprint, python::Described};

#[derive(Debug, Serialize, Deserialize)]
struct Logged {
    node: String,
    python: String,
    version: Option<String>,
    code: BTreeMap<String, String>,
}

fn file(root: &Path, node: &str) -> PathBuf {
    // A name may be longer than a file's name may be.
    root.join(".flow/code").join(format!("{}.json", Fingerprint::of(node)))
}

/// Remembers the code of a node. What cannot be written is not remembered.
pub(super) fn write(root: &Path, node: &str, version: Option<&str>, described: &Described) {
    let file = file(root, node);
    let logged = Logged {
        node: node.to_owned(),
        python: described.python.clone(),
        version: version.map(str::to_owned),
        code: described.code.iter().cloned().collect(),
    };
    let text = serde_json::to_string(&logged).expect("plain data becomes JSON");
    if fs::read_to_string(&file).is_ok_and(|before| before == text) {
        return;
    }
    let written = create_private_folder(file.parent().expect("in a folder")).and_then(|()| fs::write(&file, text));
    if let Err(error) = written {
        tracing::debug!(%error, "the code of a node is not remembered");
    }
}

/// What changed since then; `None` if nothing did, or nothing is known.
pub(super) fn changed(root: &Path, node: &str, version: Option<&str>, described: &Described) -> Option<String> {
    let text = fs::read_to_string(file(root, node)).ok()?;
    let before: Logged = serde_json::from_str(&text).ok()?;
    let mut parts = Vec::new();
    if before.python != described.python {
        parts.push(format!("Python {} instead of {}", described.python, before.python));
    }
    if before.version.as_deref() != version {
        parts.push("`version` changed".to_owned());
    }
    let now: BTreeMap<&str, &str> = described.code.iter().map(|(file, digest)| (&**file, &**digest)).collect();
    for (file, digest) in &now {
        match before.code.get(*file) {
            None => parts.push(format!("{file} is new")),
            Some(old) if old != digest => parts.push(format!("{file} changed")),
            Some(_) => {}
        }
    }
    let gone = before.code.keys().filter(|file| !now.contains_key(file.as_str()));
    parts.extend(gone.map(|file| format!("{file} is gone")));
    const SHOWN: usize = 3;
    if parts.len() > SHOWN {
        let more = parts.len() - SHOWN;
        parts.truncate(SHOWN);
        parts.push(format!("{more} more"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}
