//! Functions of a project that are written in Python: finding an interpreter, and processes that call them.
//!
//! Owns the worker program (`worker/*.py`, embedded in the binary), the frames between it and `flow`, how tables and values cross
//! the pipe, and how many processes there are. Must not know nodes, datasets or partitions: a call names a function, its
//! inputs and its outputs.

mod call;
mod columns;
mod describe;
mod error;
mod interpreter;
mod memory;
mod plain;
mod pool;
mod project;
mod project_start;
mod protocol;
mod send;
mod worker;

pub use call::{
    Call, CallInput, CallOutput, CallRequest, InputData, OutputData, OutputForm, PartitionEvent, PartitionReader,
    PartitionsInput, PartitionsOutput, TableOutput,
};
pub use describe::{DescribeInput, DescribeRequest, Described};
pub use error::PythonError;
pub use interpreter::{Interpreter, InterpreterSettings};
pub use pool::{Workers, WorkersSettings};
pub use project::{Held, NodeCall, NodeRequest};
pub use project_start::ProjectStart;
