//! The receipt of a written table: which work wrote it, and what it left there.
//!
//! A small JSON object `.<name>.flow` beside the dataset. It counts only as long as the digest in it equals that of
//! the present listing, so data that anybody touched has no receipt. It is written last, so a write that was cut
//! short has none either.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    DatasetState,
    error::DataError,
    listing::{Listing, Stamp},
    row_outcomes::{ComputedRows, RowOutcomes},
    store_path::StorePath,
};
use crate::model::Fingerprint;

const SUFFIX: &str = ".flow";
const VERSION: u32 = 1;

/// What is written beside a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    /// The fingerprint of the work.
    pub(super) work: Fingerprint,
    /// Digest of the listing that the write left behind.
    pub(super) digest: Fingerprint,
    /// Digest of the rows, where the names of the files do not carry it: an unchanged table stays unchanged for its
    /// readers though it was written again.
    pub(super) content: Option<Fingerprint>,
    /// The columns of a table that came without a single partition: an IPC stream without batches.
    pub(super) schema: Option<Vec<u8>>,
    /// Digest of the bytes of the one file that is about to get its name, so that it is known as ours should the
    /// write end before its receipt.
    pub(super) pending: Option<Fingerprint>,
    /// How the rows came out, where they were computed one by one.
    pub(super) computed: Option<ComputedRows>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    receipt: String,
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    computed: Option<WrittenRows>,
}

#[derive(Serialize, Deserialize)]
struct WrittenRows {
    rows: u64,
    errors: u64,
    empty: u64,
}

impl Receipt {
    /// The receipt beside a dataset; `None` when there is none, or one that cannot be read, which means the same.
    pub(super) async fn read(place: &StorePath) -> Result<Option<Self>, DataError> {
        let Some(bytes) = place.sibling(SUFFIX).read().await? else { return Ok(None) };
        let Ok(written) = serde_json::from_slice::<Written>(&bytes) else { return Ok(None) };
        if written.version != VERSION {
            return Ok(None);
        }
        let (Some(work), Some(digest)) = (Fingerprint::parse(&written.receipt), Fingerprint::parse(&written.digest))
        else {
            return Ok(None);
        };
        let content = written.content.as_deref().and_then(Fingerprint::parse);
        let schema = written.schema.and_then(|text| base64_simd::STANDARD.decode_to_vec(text).ok());
        let pending = written.pending.as_deref().and_then(Fingerprint::parse);
        let computed = written
            .computed
            .map(|WrittenRows { rows, errors, empty }| ComputedRows { rows, outcomes: RowOutcomes { errors, empty } });
        Ok(Some(Self { work, digest, content, schema, pending, computed }))
    }

    /// What says that a work has left a listing with this digest, and nothing more.
    pub(super) fn of(work: Fingerprint, digest: Fingerprint) -> Self {
        Self { work, digest, content: None, schema: None, pending: None, computed: None }
    }

    /// What says, before a file is written, that the file will be ours. It keeps what the receipt before it says; one
    /// of a first write fits no listing, so nothing counts as done by it.
    pub(super) fn announcing(before: Option<Self>, pending: Fingerprint) -> Self {
        let begun = Fingerprint::of("begun");
        let before = before.unwrap_or_else(|| Self::of(begun, begun));
        Self { pending: Some(pending), ..before }
    }

    /// Writes a receipt for what is there.
    pub(super) async fn accept(place: &StorePath, work: Fingerprint) -> Result<(), DataError> {
        let digest = place.list().await?.digest();
        // Its readers know it by what the receipt before said, if that still fits.
        let before = Self::read(place).await?.filter(|before| before.digest == digest);
        let before = before.unwrap_or_else(|| Self::of(work, digest));
        Self { work, pending: None, ..before }.write(place).await
    }

    /// Removes the receipt beside a dataset.
    pub(super) async fn remove(place: &StorePath) -> Result<(), DataError> {
        place.sibling(SUFFIX).remove(vec![String::new()]).await
    }

    /// Writes the receipt beside its dataset.
    pub(super) async fn write(&self, place: &StorePath) -> Result<(), DataError> {
        let written =
            Written {
                version: VERSION,
                receipt: self.work.to_string(),
                digest: self.digest.to_string(),
                content: self.content.map(|content| content.to_string()),
                schema: self.schema.as_ref().map(|bytes| base64_simd::STANDARD.encode_to_string(bytes)),
                pending: self.pending.map(|pending| pending.to_string()),
                computed: self.computed.map(|ComputedRows { rows, outcomes: RowOutcomes { errors, empty } }| {
                    WrittenRows { rows, errors, empty }
                }),
            };
        let bytes = serde_json::to_vec(&written).expect("plain texts always serialize");
        place.sibling(SUFFIX).put(Bytes::from(bytes), place).await
    }
}

/// True when the file at a location is the one in its receipt, or is empty.
pub(super) async fn is_own_file(place: &StorePath, listing: &Listing, receipt: &Receipt) -> Result<bool, DataError> {
    let [file] = listing.entries() else { return Ok(false) };
    if file.size == 0 || receipt.digest == listing.digest() {
        return Ok(true);
    }
    match (receipt.pending, &file.stamp) {
        (Some(pending), Stamp::Content(content)) => Ok(pending == *content),
        (Some(pending), _) => Ok(place.content().await? == Some(pending)),
        (None, _) => Ok(false),
    }
}

/// What is at a place: its listing, and the receipt that fits it.
pub(super) async fn state_of(
    place: &StorePath,
    listing: &Listing,
) -> Result<(DatasetState, Option<Receipt>), DataError> {
    let digest = listing.digest();
    // Data of other programs has no receipt; finding that out costs one small GET.
    let receipt = Receipt::read(place).await?.filter(|receipt| receipt.digest == digest);
    let there = *listing != Listing::Absent || receipt.is_some();
    let content = receipt.as_ref().and_then(|receipt| receipt.content);
    let state = DatasetState {
        digest: there.then_some(content.unwrap_or(digest)),
        receipt: receipt.as_ref().map(|receipt| receipt.work),
        files: listing.entries().len(),
        confirmed: false,
        computed: receipt.as_ref().and_then(|receipt| receipt.computed),
    };
    Ok((state, receipt))
}
