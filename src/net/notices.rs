//! What a client reports while it works: waits and their ends, what it adapted to, warnings.
//!
//! Must not know who shows it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// One report of a client. Its texts hold no keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A problem that fails nothing.
    Warning(String),
    /// Nothing succeeds at an endpoint for now. Repeated while that lasts.
    Waiting {
        /// The address of the requests.
        endpoint: String,
        /// The last failure, in full.
        error: String,
        /// What is waited for, and until when.
        waiting_for: String,
        /// How long nothing has succeeded.
        waited: Duration,
        /// When the wait ends at the latest, from now.
        until: Duration,
    },
    /// An endpoint that was waited for responds again.
    Responding {
        /// The address of the requests.
        endpoint: String,
        /// How long nothing had succeeded.
        waited: Duration,
    },
    /// What the client had to learn about an endpoint, as the settings with which it would begin with that.
    Adapted {
        /// The address of the requests.
        endpoint: String,
        /// Keys of its mapping, as YAML.
        settings: String,
    },
}

/// Where a client reports; clones share the listener. Reports without a listener are dropped.
#[derive(Clone, Default)]
pub struct Notices(Arc<OnceLock<Box<Listener>>>);

type Listener = dyn Fn(Notice) + Send + Sync;

impl Notices {
    /// Sets the listener, once.
    pub fn listen(&self, listener: impl Fn(Notice) + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(listener));
    }

    /// Reports.
    pub fn send(&self, notice: Notice) {
        if let Some(listener) = self.0.get() {
            listener(notice);
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
