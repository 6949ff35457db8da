//! What benchmarks of the library share: a dataset from its YAML, and what a job needs to run.

use std::{error::Error, path::PathBuf, sync::Arc};

use flow::{
    config::{DatasetSpec, Spanned, parse_yaml},
    data::{DATASETS, Dataset, decode, session},
    diagnostic::{Diagnostics, SourceId},
    function::{Context, MemoryBudget},
    model::Usage,
    net::{ServiceContext, ServiceEnvironment},
};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A dataset, from a catalog entry.
pub fn dataset(entry: &str) -> Outcome<Arc<dyn Dataset>> {
    let mut problems = Diagnostics::default();
    let options = parse_yaml(SourceId(0), entry, &mut problems).ok_or("no YAML")?;
    let kind = options.get("type").and_then(|kind| kind.as_text()).ok_or("no type")?.to_owned();
    let span = options.span;
    let spec = DatasetSpec { name: "bench".to_owned(), name_span: span, kind: Spanned { value: kind, span }, options };
    decode(&spec, DATASETS, &mut problems).ok_or_else(|| format!("{problems:?}").into())
}

/// What a job needs, with two cores and so many bytes of memory.
pub fn context(root: PathBuf, memory: u64) -> Outcome<Context> {
    let service = ServiceContext {
        root,
        usage: Arc::new(Usage::default()),
        max_cost_nano_usd: None,
        max_requests: None,
        environment: ServiceEnvironment::default(),
        notices: Default::default(),
        stopping: Default::default(),
        clients: Default::default(),
    };
    Ok(Context {
        session: session(memory, 2)?,
        service,
        memory: MemoryBudget::of_limit(memory),
        python: Default::default(),
    })
}
