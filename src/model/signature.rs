//! The inputs and outputs of a function, as the graph checks them.

use std::fmt;

/// The kind of data at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One table: a stream of record batches with one schema.
    Table,
    /// Partitions: keys, each of which can be loaded separately.
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
    /// The kind of data.
    pub shape: Shape,
    /// True if it takes a table as well, and gives one then: rows are computed one by one.
    pub or_table: bool,
    /// False if a node may omit it.
    pub required: bool,
    /// One line for `flow ls functions`.
    pub doc: &'static str,
}

impl Port {
    /// A required port.
    pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, or_table: false, required: true, doc }
    }

    /// An optional port.
    pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, or_table: false, required: false, doc }
    }

    /// The same port, which takes a table as well; an output gives what the input is.
    pub const fn or_table(self) -> Self {
        Self { or_table: true, ..self }
    }

    /// True if data of this shape fits.
    pub fn takes(&self, shape: Shape) -> bool {
        self.shape == shape || (self.or_table && shape == Shape::Table)
    }

    /// What it takes or gives, in words.
    pub fn shapes(&self) -> String {
        if self.or_table { format!("{} or {}", self.shape, Shape::Table) } else { self.shape.to_string() }
    }
}

/// The ports of a function, in the order in which a list under `inputs:` or `outputs:` fills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Named inputs.
    pub inputs: &'static [Port],
    /// Named outputs. A single dataset under `outputs:` fills the first.
    pub outputs: &'static [Port],
    /// The shape of additional inputs by name, if they are allowed (as in `sql`).
    pub more_inputs: Option<Shape>,
    /// True if any inputs and outputs of any shape are allowed (`placeholder`).
    pub anything: bool,
}
