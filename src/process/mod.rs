//! Processes of other programs: started in groups of their own, so that none is left behind, and what they write.
//!
//! Must not know what a program does.

mod group;
mod lines;
mod memory;

pub use group::{Pipes, Process, explain};
pub use lines::{Lines, Speaker};
pub use memory::{memory_of, own_memory};
