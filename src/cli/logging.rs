//! `-v`, `-vv` and `FLOW_LOG`: a log of the limiter, retries, leases, the cache and the stores, on stderr.
//!
//! Modules log with `tracing`, inside spans for the run, the node, the partition and the request. This sets the filter and masks
//! secrets. The spans are also those of a trace, if one is wanted.

use std::io::{self, Write};

use tracing_subscriber::{
    EnvFilter, Layer as _, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    model::{SecretMask, visible},
    telemetry::Spans,
};

/// Starts logging: nothing by default; retries, waits, leases and the cache with `-v`; every request too with `-vv`. A
/// filter in `FLOW_LOG` overrides both. `spans` gets the spans.
pub(super) fn start(verbose: u8, filter: Option<String>, color: bool, secrets: SecretMask, spans: Option<&Spans>) {
    let filter = filter.unwrap_or_else(|| {
        match verbose {
            0 => "off",
            1 => "flow=debug,object_store=info",
            _ => "flow=trace,object_store=debug",
        }
        .to_owned()
    });
    // A second subscriber in one process (tests) is not an error.
    let log = tracing_subscriber::fmt::layer()
        .with_writer(MaskedStderr { secrets, color })
        .with_ansi(color)
        // Errors of the log would go to the same closed stream and panic.
        .log_internal_errors(false)
        .with_filter(EnvFilter::new(filter));
    let _ = tracing_subscriber::registry().with(log).with(spans.map(Spans::layer)).try_init();
}

/// Writes to stderr with known secrets masked and control characters written out.
struct MaskedStderr {
    secrets: SecretMask,
    color: bool,
}

impl<'a> MakeWriter<'a> for MaskedStderr {
    type Writer = Masked<'a>;

    fn make_writer(&'a self) -> Masked<'a> {
        Masked(self)
    }
}

struct Masked<'a>(&'a MaskedStderr);

impl Write for Masked<'_> {
    /// One whole line at a time, as the subscriber hands it over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = self.0.secrets.mask(&text);
        // A coloured line holds the subscriber's own sequences; it has escaped those of others by itself.
        let text = if self.0.color { text } else { visible(&text).into_owned().into() };
        io::stderr().lock().write_all(text.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
