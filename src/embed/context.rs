//! What the process provides to a provider: folders, usage counters, caps, environment variables, shared clients.

use std::{fmt, path::PathBuf, sync::Arc};

use super::{notices::Notices, openai::Clients};
use crate::model::Usage;

/// What the process provides to a provider.
#[derive(Debug, Clone)]
pub struct ProviderContext {
    /// The project's folder; relative paths (models, cache) start here.
    pub root: PathBuf,
    /// Where to count requests, tokens and money.
    pub usage: Arc<Usage>,
    /// Hard cap on money, in billionths of a US dollar.
    pub max_cost_nano_usd: Option<u64>,
    /// Hard cap on requests.
    pub max_requests: Option<u64>,
    /// The process's environment, for addresses and keys that a mapping leaves out.
    pub environment: ProviderEnvironment,
    /// Where providers report waits, adapted settings and warnings.
    pub notices: Notices,
    /// The clients shared by nodes that request the same vectors from the same endpoint.
    pub clients: Clients,
}

/// A way to look up environment variables; empty by default.
#[derive(Clone, Default)]
pub struct ProviderEnvironment(Option<Arc<Lookup>>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl ProviderEnvironment {
    /// Looks variables up with a function.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(lookup)))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.as_ref().and_then(|lookup| lookup(name))
    }
}

impl fmt::Debug for ProviderEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.write_str("ProviderEnvironment")
    }
}
