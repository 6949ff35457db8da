//! The network.
pub mod work_clock;
