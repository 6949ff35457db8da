//! What a worker knows about a function without calling it: how it takes its inputs, where it is, and a digest of its code.

use serde::{Deserialize, Serialize};

/// A question about a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct DescribeRequest {
    /// Its dotted name.
    pub function: String,
    /// What its digest covers: `closure`, `function` or `none`.
    pub code: &'static str,
    /// The inputs that it will get.
    pub inputs: Vec<DescribeInput>,
}

/// One input of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct DescribeInput {
    /// The name of its port.
    pub port: String,
    /// True for an argument by position.
    pub positional: bool,
    /// `value`, or as what a table is passed if the function does not say it.
    pub kind: &'static str,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Described {
    /// Its signature as Python writes it; `None` for a function that has none.
    pub signature: Option<String>,
    /// As what each input is passed, in the order of the request.
    pub kinds: Vec<String>,
    /// The file that holds it, relative to the project.
    pub file: String,
    /// The line where it begins.
    pub line: u64,
    /// Python's version, as `3.12`.
    pub python: String,
    /// Files and digests of its code.
    pub code: Vec<(String, String)>,
}
