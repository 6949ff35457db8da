//! The one integration binary: each further one would link the table engine again.
//!
//! - `architecture`: modules use only the layers below them, no files use each other in a cycle, retired terms
//! - `main_job`: the shipped project, end to end
//! - `resume`: crashes, changed inputs, changed parameters, two runs at once
//! - `file_partitions`: partitions that are files, as Kedro's
//! - `kill`: killed at every step of writing, locally and on S3
//! - `durability`: truncated files, and a power cut
//! - `foreign`: what `flow` did not write is never replaced or removed unless the catalog says so
//! - `foreign_fuzz`: the same, with random files, links, runs and kills
//! - `options`: `load_args` and `save_args`, each in its direction
//! - `inputs`: missing and emptied inputs, and the confirmation before most of a dataset is removed
//! - `kedro_viz`: what Kedro-Viz reads of an export
//! - `telemetry`: lineage, traces and metrics, and that no receiver changes a run
//! - `together`: runs at the same time, leases, a shared cache
//! - `object_stores`: the same results on S3 and Azure Blob, and how many requests
//! - `trouble`: full disks, read-only folders, vanished folders, too few file handles
//! - `hostile`: few resources, endless and deep inputs, and what a run leaves behind
//! - `odd_data`: what real data holds
//! - `up_to_date`: what is computed again, and what is not
//! - `places`: credentials that are not defined, and paths as people write them
//! - `plan`: what a plan says is what the run sends
//! - `web`: inputs from web servers
//! - `signals`: requests to stop
//! - `messages`: what messages and the log contain, and that neither secrets nor data are in them
//! - `readers`: other tools read what was written
//! - `real_servers`: the shipped settings against real embedding servers
//! - `api`: the shipped kind of pipeline against a scripted server
//! - `call_api`: any HTTP API, against scripted services
//! - `generate`: language models, against a scripted server with the faults of real ones
//! - `client`: the `openai` provider alone, against every fault of server and network
//! - `page`: reports of runs, their bundle, and the page in a browser
//! - `checks`: what `flow check` finds before anything runs, and where it says so
//! - `command_nodes`: programs of the machine as nodes
//! - `commands`: every command's output, exit codes and JSON
//! - `endings`: exit codes, statuses and messages fit what happened
//! - `docs`: the commands of the documentation, its links, and the pages that are made from tables of the code
//! - `compile`: tasks for SLURM, Argo Workflows and Kubernetes
//! - `config`: wrong projects, Kedro's projects, documents and schemas made from tables
//! - `providers`: embedding providers with APIs of their own, against scripted servers
//! - `python`: functions in Python as nodes
//! - `seed`: the YAML of the blog post
//! - `serve`: the live page, its server, and who may ask it
//! - `shards`: runs that are divided among processes, killed at random, locally and on S3
//! - `spark`: tables computed by a real Spark

#![expect(clippy::print_stderr, reason = "a test prints what it skipped or counted")]

mod api;
mod architecture;
mod call_api;
mod checks;
mod client;
mod command_nodes;
mod commands;
mod compile;
mod config;
mod docs;
mod durability;
mod endings;
mod file_partitions;
mod foreign;
mod foreign_fuzz;
mod generate;
mod hostile;
mod inputs;
mod kedro_viz;
mod kill;
mod main_job;
mod messages;
mod needs;
mod object_stores;
mod odd_data;
mod options;
mod page;
mod places;
mod plan;
mod providers;
mod python;
mod readers;
mod readme;
mod real_servers;
mod resume;
mod seed;
mod serve;
mod shards;
mod signals;
mod spark;
mod support;
mod tables;
mod telemetry;
mod together;
mod trouble;
mod up_to_date;
mod values;
mod web;
mod wheel;
