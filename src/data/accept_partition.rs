//! Takes over a partition that is there as the result of some work: its file gets the name that the work gives it, or, where its name is
//! its own, a receipt.

use std::fs;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;

use super::{
    error::DataError,
    faults,
    file_name::FileName,
    listing::{Entry, Listing},
    partition::{Partition, PartitionReceipt},
    partition_receipts::{self, Content, FileReceipt, folder_of},
    store_path::StorePath,
    tasks::blocking,
    walk::refuse_links,
};

/// Takes over a partition of the dataset at `place`, whose files end with `suffix`.
///
/// # Errors
/// When it is not one whole file, or the store refuses.
pub(super) async fn accept_partition(
    (place, suffix): (&StorePath, &str),
    partition: &Partition,
    receipt: PartitionReceipt,
) -> Result<(), DataError> {
    let [file] = partition.files.as_slice() else {
        let message = format!("partition {} has {} files, and one is expected", partition.key, partition.files.len());
        return Err(DataError::Layout { file: place.show(&partition.key.path()), message });
    };
    if let Some(id) = partition.key.file() {
        return announce(place, (id, &file.path), receipt).await;
    }
    let PartitionReceipt { fingerprint, rows, outcomes } = receipt;
    let name = FileName { fingerprint, rows, errors: outcomes.errors, empty: outcomes.empty, bytes: file.size, suffix };
    let to = format!("{}/{name}", partition.key.path());
    if *to == *file.path {
        return Ok(());
    }
    let writing = place.begin_write()?;
    if let Some(root) = place.local().map(ToOwned::to_owned) {
        let from = file.path.to_string();
        return blocking(move || {
            let _writing = writing;
            refuse_links(&root, &from)?;
            refuse_links(&root, &to)?;
            fs::rename(root.join(&from), root.join(&to)).map_err(|error| DataError::io(root.join(from), error))?;
            faults::point();
            Ok(())
        })
        .await;
    }
    let (from, target) = (place.child(&file.path), place.child(&to));
    if let (Some((store, from)), Some((_, to))) = (from.remote(), target.remote()) {
        store.copy(from, to).await.map_err(|error| place.store_error(&error))?;
        faults::point();
    }
    // A copy under the new name counts already.
    drop(writing);
    place.remove(vec![file.path.to_string()]).await
}

/// Writes the receipt of a file with a name of its own.
async fn announce(place: &StorePath, (id, path): (&str, &str), receipt: PartitionReceipt) -> Result<(), DataError> {
    let gone = || DataError::Layout {
        file: place.show(path),
        message: "the file is not there any more as it was listed".to_owned(),
    };
    let Listing::File(there) = place.child(path).list().await? else { return Err(gone()) };
    let there = Entry { path: path.into(), ..there };
    let content = Content::of(&there).ok_or_else(gone)?;
    let receipt = FileReceipt { receipt, bytes: there.size, content };
    let receipts = partition_receipts::folder(place).child(&folder_of(id));
    receipts.child(&receipt.name()).put(Bytes::from(id.to_owned()), place).await?;
    let others = receipts.list_folder().await?;
    let others = others.entries().iter().map(|entry| entry.path.to_string()).filter(|name| *name != receipt.name());
    receipts.remove(others.collect()).await
}
