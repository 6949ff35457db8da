//! Names and plain data types that several modules share.
//!
//! Owns the format of names (`base@view`, `bucket=12`) and the shapes of ports. Must not know files, YAML, the network, or
//! anything that performs work.

mod amount;
mod blank;
mod estimate;
mod excerpt;
mod fingerprint;
#[cfg(test)]
pub(crate) mod fuzz;
#[cfg(test)]
mod fuzz_tests;
mod mask;
mod names;
mod partition;
mod row_tally;
mod secret;
mod seen;
mod service_error;
mod shard;
mod signature;
mod spelling;
mod usage;
mod visible;

pub use amount::{count, money};
pub use blank::is_blank;
pub use estimate::{Estimate, OutputTokens};
pub use excerpt::excerpt;
pub use fingerprint::{ByDigest, Fingerprint, FingerprintBuilder, FirstBytes, Namer};
pub use mask::SecretMask;
pub use names::{DatasetRef, InvalidDatasetRef, base_name};
pub use partition::{InvalidPartitionPath, NULL_PARTITION, PartitionKey, PartitionValue, is_hidden_name};
pub use row_tally::RowTally;
pub use secret::{
    HEADERS, Secret, connection_secrets, is_open_header, is_secret_mapping_name, is_secret_name, is_secret_parameter,
    keys_within, looks_like_a_key, similar_secret_name, url_secrets,
};
pub use seen::Seen;
pub use service_error::ServiceError;
pub use shard::{InvalidRateShare, InvalidShard, RateShare, Shard};
pub use signature::{Port, Shape, Signature};
pub use usage::{Caps, Usage, UsageSnapshot};
pub use visible::{
    visible, visible_event, visible_in_place, visible_json, visible_json_text, visible_line, visible_message,
};
