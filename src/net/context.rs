//! What the process provides to clients of services: folders, usage counters, caps, environment variables, shared clients.

use std::{fmt, path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{client::Clients, notices::Notices};
use crate::model::Usage;

/// What the process provides to clients of services.
#[derive(Debug, Clone)]
pub struct ServiceContext {
    /// The project's folder; relative paths (models, cache) start here.
    pub root: PathBuf,
    /// Where to count requests, tokens and money.
    pub usage: Arc<Usage>,
    /// Hard cap on money, in billionths of a US dollar.
    pub max_cost_nano_usd: Option<u64>,
    /// Hard cap on requests.
    pub max_requests: Option<u64>,
    /// The process's environment, for addresses and keys that a mapping leaves out.
    pub environment: ServiceEnvironment,
    /// Where clients report waits, adapted settings and warnings.
    pub notices: Notices,
    /// Cancelled when the run is to end: then clients do not wait for what cannot come soon.
    pub stopping: CancellationToken,
    /// The endpoints shared by nodes that send the same requests.
    pub clients: Clients,
}

/// A way to look up environment variables; empty by default.
#[derive(Clone, Default)]
pub struct ServiceEnvironment(Option<Arc<Lookup>>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl ServiceEnvironment {
    /// Looks variables up with a function.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(lookup)))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.as_ref().and_then(|lookup| lookup(name))
    }
}

impl fmt::Debug for ServiceEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.write_str("ServiceEnvironment")
    }
}
