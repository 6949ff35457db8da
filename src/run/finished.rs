//! Which nodes have ended whose work leaves nothing that could be looked at: outputs in memory that nobody reads, or none at all.
//! In `.flow/finished`; when it is deleted, they run again.

use std::{fs, path::Path, path::PathBuf};

use super::workspace::Step;
use crate::{data::create_private_folder, model::Fingerprint};

fn file(root: &Path, node: &str) -> PathBuf {
    // A name may be longer than a file's name may be.
    root.join(".flow/finished").join(Fingerprint::of(node).to_string())
}

/// True for a step whose end is remembered.
fn is_remembered(step: &Step) -> bool {
    step.job.remembers_end() && step.outputs.iter().all(|(_, dataset)| !dataset.info().persistent)
}

/// Remembers the end of a step. What cannot be written is not remembered.
pub(super) fn write(root: &Path, step: &Step, receipt: Fingerprint) {
    if !is_remembered(step) {
        return;
    }
    let file = file(root, &step.name);
    let written =
        file.parent().map_or(Ok(()), create_private_folder).and_then(|()| fs::write(&file, receipt.to_string()));
    if let Err(error) = written {
        tracing::debug!(node = step.name, %error, "its end is not remembered");
    }
}

/// True when the step is known to have ended with this work.
pub(super) fn has_ended(root: &Path, step: &Step, receipt: Fingerprint) -> bool {
    is_remembered(step) && fs::read_to_string(file(root, &step.name)).is_ok_and(|found| found == receipt.to_string())
}
