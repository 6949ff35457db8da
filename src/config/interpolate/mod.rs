//! `${…}` on merged trees: after this no interpolation is left, and secrets are secrets.
//!
//! Works on trees, never on text, so that a value cannot inject syntax and every problem has its location. A string with
//! `${…}` is evaluated when it is first needed, and once:
//!
//! - [`stack`] has what is being evaluated, from the outside in, and what is done; it finds cycles and bounds depth.
//! - [`evaluator`] computes values: collections item by item, strings part by part.
//! - [`lookup`] finds what a reference leads to, [`resolvers`] what `${name:…}` gives.
//! - [`origin`] says where in a file a reference is written, [`reporter`] what is wrong with it.
//! - [`budget`] bounds how much references may copy, [`values`] converts what they copied.

mod budget;
mod evaluator;
mod lookup;
mod origin;
mod reporter;
mod resolvers;
mod stack;
mod values;

pub(super) use evaluator::{Interpolator, Roots};
pub(super) use values::is_plain;

#[cfg(test)]
mod tests;
