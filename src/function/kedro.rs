//! `kedro:NODE`: a node of a Kedro project, run by Kedro's own code in a Python process.
//!
//! Owns what the result of such a node depends on. Its inputs are loaded and its outputs saved by the project's own catalog; what
//! it leaves in memory stays there.

use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Arguments, Context, Function, FunctionError, Job, NodeInput, NodeOutput, Outputs, OutputsJob, code_log};
use crate::{
    config::KEDRO_FUNCTION,
    data::HeldObject,
    diagnostic::Diagnostics,
    model::{Fingerprint, Signature},
    python::{Described, Held, NodeCall, NodeRequest, OutputData},
};

/// See the module.
pub(super) struct Kedro;

/// What the project says about the node, beside its inputs and outputs.
#[derive(Debug, Deserialize)]
struct Definition {
    pipeline: String,
    /// The name of its function, with the arguments that are bound to it.
    function: String,
    python: String,
    code: Vec<(String, String)>,
    file: String,
    line: u64,
    arguments: Json,
    results: Json,
}

impl Function for Kedro {
    fn name(&self) -> &'static str {
        "kedro:NODE"
    }

    fn doc(&self) -> &'static str {
        "A node of a Kedro project, which is run as it is; not to be written in a pipeline"
    }

    fn version(&self) -> u64 {
        1
    }

    fn signature(&self) -> Signature {
        Signature { inputs: &[], outputs: &[], more_inputs: None, anything: true }
    }

    fn is_called(&self, name: &str) -> bool {
        name.starts_with(KEDRO_FUNCTION)
    }

    fn options(&self) -> &'static [&'static str] {
        &["kedro"]
    }

    fn prepare(&self, arguments: &Arguments<'_>, problems: &mut Diagnostics) -> Option<Job> {
        let definition = arguments.options.get("kedro").map(|node| node.to_json());
        let Some(definition) = definition.and_then(|json| serde_json::from_value::<Definition>(json).ok()) else {
            let message = format!("node `{}` is of no Kedro project", arguments.node);
            problems
                .push(crate::diagnostic::Diagnostic::error("kedro::node", message).at(arguments.function.1, "").help(
                "`kedro:` is what nodes of a Kedro project are shown with; write `python:package.module.function` here",
            ));
            return None;
        };
        let Definition { function, python, code, file, line, .. } = definition;
        let mut work = Fingerprint::builder("kedro").text(&function).text(&python);
        for (file, digest) in &code {
            work = work.text(file).text(digest);
        }
        work = work.text(&definition.arguments.to_string()).text(&definition.results.to_string());
        let mut missing = Vec::new();
        for argument in &arguments.inputs {
            work = work.text("input").text(&argument.name);
            // A parameter, or the entry of the catalog.
            if let Some(node) = arguments.value(&argument.port).or(argument.external.as_ref()) {
                work = work.fingerprint(node.fingerprint());
                missing.extend(node.missing_secrets());
            }
        }
        Some(Job::Outputs(Arc::new(KedroJob {
            node: arguments.node.to_owned(),
            pipeline: definition.pipeline,
            outputs: arguments.outputs.iter().map(|output| output.name.clone()).collect(),
            work: work.finish(),
            described: Described { signature: None, kinds: Vec::new(), file, line, python, code },
            missing,
        })))
    }
}

#[derive(Debug)]
struct KedroJob {
    node: String,
    pipeline: String,
    outputs: Vec<String>,
    work: Fingerprint,
    described: Described,
    missing: Vec<String>,
}

#[async_trait]
impl OutputsJob for KedroJob {
    fn needs_python(&self) -> bool {
        true
    }

    fn opens_external(&self) -> bool {
        true
    }

    fn remembers_end(&self) -> bool {
        true
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.missing.clone()
    }

    fn changed(&self, context: &Context) -> Option<String> {
        code_log::changed(&context.service.root, &self.node, None, &self.described)
    }

    fn succeeded(&self, context: &Context) {
        code_log::write(&context.service.root, &self.node, None, &self.described);
    }

    fn fingerprint(&self, _: &Context) -> Result<Fingerprint, FunctionError> {
        Ok(self.work)
    }

    async fn run(
        &self,
        inputs: IndexMap<String, NodeInput>,
        context: &Context,
    ) -> Result<Box<dyn Outputs>, FunctionError> {
        let mut held = Vec::new();
        for input in inputs.values() {
            if let NodeInput::Held(object) = input {
                held.push(object.0.clone().downcast::<Held>().map_err(|_| unknown_object())?);
            }
        }
        let request =
            NodeRequest { pipeline: &self.pipeline, node: &self.node, held: held.iter().map(|held| &**held).collect() };
        let call = context.python.call_node(request).await?;
        Ok(Box::new(KedroOutputs { call, names: self.outputs.clone() }))
    }
}

fn unknown_object() -> FunctionError {
    FunctionError::Failed("an input in memory is of no Python process".to_owned())
}

struct KedroOutputs {
    call: NodeCall,
    names: Vec<String>,
}

#[async_trait]
impl Outputs for KedroOutputs {
    async fn next(&mut self) -> Result<Option<NodeOutput>, FunctionError> {
        Ok(match self.call.call.next().await? {
            None => None,
            Some(OutputData::Held(at)) => {
                let name = self.names.get(at).map(String::as_str).unwrap_or_default();
                Some(NodeOutput::Held(HeldObject(Arc::new(self.call.held(name)))))
            }
            Some(OutputData::Saved) => Some(NodeOutput::External),
            Some(OutputData::Value(_) | OutputData::Table(_) | OutputData::Partitions(_)) => {
                return Err(FunctionError::Failed("the node gave something else than Kedro saves".to_owned()));
            }
        })
    }
}
