//! Runs that are divided among processes: `--shard`, `--rate-share`, `--plan-digest`.

mod ledgers;
mod overlap;
mod rules;
mod slurm;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour},
    small,
};

/// Partitions that a process computes at the same time: what it loses when it is killed. Each is committed before the next one begins, so
/// what was on its way does not depend on how fast the machine is.
const WORKERS: usize = 2;

/// A scripted server on a runtime of its own.
struct Api {
    server: ApiServer,
    /// What its clock counts from.
    started: SystemTime,
    _runtime: tokio::runtime::Runtime,
}

impl Api {
    fn start(latency: (u64, u64)) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let latency = (Duration::from_millis(latency.0), Duration::from_millis(latency.1));
        let started = SystemTime::now();
        let server = runtime.block_on(ApiServer::start(Behaviour { latency, ..Behaviour::default() }));
        Self { server, started, _runtime: runtime }
    }

    /// A project under `base` that sends its texts here, ten to a partition, [`WORKERS`] partitions at a time.
    fn project(&self, base: &str, options: &str, rows: usize) -> Project {
        let model = format!(
            "{{provider: openai, model: m, base_url: '{}', api_key: test, dimensions: 8, timeout: 300, cache: {{path: .flow/cache}}}}",
            self.server.base_url()
        );
        small::project(base, options)
            .edit("catalog.yml", "overwrite: true", &format!("overwrite: true, save_args: {{max_workers: {WORKERS}}}"))
            .edit("parameters.yml", "{provider: hash, dimensions: 8}", &model)
            .file("data/nodes.csv", &small::csv(0..rows, "any", 2))
    }

    /// How often each text was answered.
    fn asked(&self) -> BTreeMap<String, usize> {
        self.server.embedded()
    }
}
