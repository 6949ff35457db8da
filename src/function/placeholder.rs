//! `placeholder`: a node without code yet, so that a graph can be drawn and checked before the code exists.

use super::{Arguments, Function, Job};
use crate::{diagnostic::Diagnostics, model::Signature};

/// See the module.
pub(super) struct Placeholder;

impl Function for Placeholder {
    fn name(&self) -> &'static str {
        "placeholder"
    }

    fn doc(&self) -> &'static str {
        "A node without code yet: any inputs and outputs; can be drawn and checked, not run"
    }

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        Signature { inputs: &[], outputs: &[], more_inputs: None, anything: true }
    }

    fn prepare(&self, _: &Arguments<'_>, _: &mut Diagnostics) -> Option<Job> {
        Some(Job::Placeholder)
    }
}
