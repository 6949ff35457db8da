//! The call that a node makes: its arguments, what its result depends on, and the request to a worker.

use serde_json::Value as Json;

use crate::{
    data::DeclaredColumns,
    function::{Context, FunctionError, code_log},
    model::Fingerprint,
    python::{CallInput, CallOutput, CallRequest, DescribeInput, DescribeRequest, Described, InputData, PythonError},
};

/// A node's call of its function.
#[derive(Debug)]
pub(super) struct PythonCall {
    pub(super) node: String,
    pub(super) function: String,
    /// What the digest of the code covers.
    pub(super) code: &'static str,
    pub(super) version: Option<String>,
    pub(super) workers: Option<usize>,
    pub(super) max_calls: Option<u64>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<CallOutput>,
    /// What each output declares of its columns.
    pub(super) declared: Vec<DeclaredColumns>,
}

pub(super) struct Input {
    pub(super) port: String,
    pub(super) positional: bool,
    /// As what it is passed if the function does not say it.
    pub(super) kind: &'static str,
    /// True for a dataset that both Python and `flow` can open.
    pub(super) readable: bool,
    /// True for partitions that come as a dictionary.
    pub(super) partitions: bool,
    /// The value of a parameter.
    pub(super) value: Option<Json>,
    pub(super) missing: Vec<String>,
    pub(super) fingerprint: Option<Fingerprint>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The value may be a secret.
        f.debug_struct("Input").field("port", &self.port).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PythonCall {
    fn description(&self) -> DescribeRequest {
        let input = |input: &Input| DescribeInput {
            port: input.port.clone(),
            positional: input.positional,
            kind: if input.readable {
                "spark"
            } else if input.partitions {
                "partitions"
            } else {
                input.kind
            },
        };
        DescribeRequest {
            function: self.function.clone(),
            code: self.code,
            inputs: self.inputs.iter().map(input).collect(),
        }
    }

    /// What an output declares of its columns.
    pub(super) fn declared_of(&self, output: usize) -> DeclaredColumns {
        self.declared.get(output).cloned().unwrap_or_default()
    }

    pub(super) async fn load(&self, context: &Context) -> Result<(), FunctionError> {
        context.python.describe(&self.description()).await?;
        Ok(())
    }

    /// What [`Self::load`] learned.
    pub(super) fn described(&self, context: &Context) -> Result<Described, FunctionError> {
        Ok(context.python.described(&self.description())?)
    }

    /// True if the function takes the data at a port as this.
    pub(super) fn takes(&self, port: &str, wanted: &str, context: &Context) -> bool {
        let Ok(described) = self.described(context) else { return false };
        let mut kinds = self.inputs.iter().zip(&described.kinds);
        kinds.any(|(input, kind)| input.port == port && kind == wanted)
    }

    pub(super) fn missing_secrets(&self) -> Vec<String> {
        self.inputs.iter().flat_map(|input| input.missing.clone()).collect()
    }

    /// Which file of the code has changed since the function last succeeded.
    pub(super) fn changed(&self, context: &Context) -> Option<String> {
        let described = self.described(context).ok()?;
        code_log::changed(&context.service.root, &self.node, self.version.as_deref(), &described)
    }

    /// Remembers the code with which the function succeeded.
    pub(super) fn succeeded(&self, context: &Context) {
        if let Ok(described) = self.described(context) {
            code_log::write(&context.service.root, &self.node, self.version.as_deref(), &described);
        }
    }

    pub(super) fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError> {
        let described = self.described(context)?;
        let mut builder = Fingerprint::builder("python")
            .text(&self.function)
            .text(self.version.as_deref().unwrap_or_default())
            .text(&described.python);
        for (file, digest) in &described.code {
            builder = builder.text(file).text(digest);
        }
        for (input, kind) in self.inputs.iter().zip(&described.kinds) {
            builder = builder.text("input").text(&input.port).text(kind);
            if let Some(value) = input.fingerprint {
                builder = builder.fingerprint(value);
            }
        }
        for output in &self.outputs {
            builder = builder.text("output").text(output.port.as_deref().unwrap_or_default());
        }
        Ok(builder.finish())
    }

    /// The request, with the data of the inputs that are no parameters.
    pub(super) fn request(
        &self,
        described: &Described,
        threads: usize,
        mut data: impl FnMut(&Input) -> Result<InputData, FunctionError>,
    ) -> Result<CallRequest, FunctionError> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (input, kind) in self.inputs.iter().zip(&described.kinds) {
            // What the function opens itself is a value too: the entry of the catalog.
            let data = match input.value.as_ref().filter(|_| !input.readable || kind == "dataset") {
                Some(value) => InputData::Value(value.clone()),
                None => data(input)?,
            };
            inputs.push(CallInput { port: input.port.clone(), positional: input.positional, kind: kind.clone(), data });
        }
        Ok(CallRequest {
            function: self.function.clone(),
            program: None,
            node: self.node.clone(),
            inputs,
            outputs: self.outputs.clone(),
            threads,
            limit: None,
            max_calls: self.max_calls,
        })
    }
}

impl From<PythonError> for FunctionError {
    fn from(error: PythonError) -> Self {
        match error {
            PythonError::Unavailable(text) => Self::Refused(text),
            PythonError::Died(text) => Self::Crashed(text),
            PythonError::Raised(text) => Self::Failed(text),
            PythonError::Input(error) => error.into(),
        }
    }
}
