//! A digest of a project as it was checked, by which the parts of a compiled workflow recognize that they run the same project.
//!
//! Owns what is part of it: everything that decides what is computed and where it is kept, for the whole project and not for a
//! selection, without secrets. The code of Python functions is not, as it is not imported; it is part of the fingerprint of what it
//! computes.

use super::workspace::Workspace;
use crate::{config::Bindings, function::Job, model::Fingerprint};

impl Workspace {
    /// The digest of the project: equal on every machine where the same files, environment (`--env`), parameters and variables
    /// give the same values, whatever the secrets.
    pub fn digest(&self) -> Fingerprint {
        let mut digest = Fingerprint::builder("project").text(env!("CARGO_PKG_VERSION"));
        let catalog = self.project.catalog.entries.values().chain(&self.project.catalog.patterns);
        for spec in catalog {
            digest = digest.text(&spec.name).fingerprint(spec.options.fingerprint());
        }
        digest = digest.text("parameters").fingerprint(self.project.parameters.fingerprint());
        let bindings = |mut digest: crate::model::FingerprintBuilder, bindings: &Bindings| {
            digest = digest.number(bindings.list.len() as u64);
            for binding in &bindings.list {
                let port = binding.port.as_ref().map_or("", |port| port.value.as_str());
                digest = digest.text(port).text(&binding.dataset.value);
            }
            digest
        };
        for node in self.project.pipelines.iter().flat_map(|pipeline| &pipeline.nodes) {
            digest = digest.text(&node.pipeline).text(&node.name.value).text(&node.function.value);
            digest = bindings(bindings(digest, &node.inputs), &node.outputs).number(node.after.len() as u64);
            for (name, value) in &node.options {
                digest = digest.text(name).fingerprint(value.fingerprint());
            }
        }
        for step in self.steps() {
            digest = digest.text(&step.name).fingerprint(step.code).fingerprint(step.save_options);
            // With files that the project names, such as a query.
            if let Job::Table(job) = &step.job {
                digest = digest.fingerprint(job.fingerprint());
            }
        }
        digest.finish()
    }
}
