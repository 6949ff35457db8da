//! What a function takes and gives, as far as the graph has to know.

use std::fmt;

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One table: a stream of record batches with one schema.
    Table,
    /// Partitions: keys, each with a way to load it.
    Partitions,
    /// A value of `parameters.yml`, or a small document.
    Value,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "a table",
            Self::Partitions => "partitions",
            Self::Value => "a value",
        })
    }
}

/// One named input or output of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The name under `inputs:` or `outputs:`.
    pub name: &'static str,
    /// What it carries.
    pub shape: Shape,
    /// False where the node may leave it out.
    pub required: bool,
    /// One line for `flow ls functions`.
    pub doc: &'static str,
}

impl Port {
    /// A port that must be given.
    pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, required: true, doc }
    }

    /// A port that may be left out.
    pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, required: false, doc }
    }
}

/// The ports of a function, in the order in which a list under `inputs:` or `outputs:` fills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Named inputs.
    pub inputs: &'static [Port],
    /// Named outputs. A single dataset under `outputs:` fills the first.
    pub outputs: &'static [Port],
    /// When set, inputs beyond the named ones are allowed: tables by name (`sql`) have this shape.
    pub more_inputs: Option<Shape>,
    /// True for `placeholder`: any inputs and outputs of any shape.
    pub anything: bool,
}
