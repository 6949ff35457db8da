//! A project of two nodes that runs in milliseconds: rows in buckets of ten, embedded with the `hash` provider.

use std::{fmt::Write as _, ops::Range};

use super::Project;

/// Rows `rows`, each with a name that contains `word` where the row's number is a multiple of `every`.
pub fn csv(rows: Range<usize>, word: &str, every: usize) -> String {
    let mut csv = "id,name\n".to_owned();
    for row in rows {
        let name = if row.is_multiple_of(every) { word } else { "plain" };
        writeln!(csv, "{row:06},the {name} name of row {row}").expect("a string takes all");
    }
    csv
}

/// A project whose tables `buckets` and `vectors` are under `base`. `options` go into both entries, as
/// `credentials: name`.
pub fn project(base: &str, options: &str) -> Project {
    let options = if options.is_empty() { String::new() } else { format!(", {options}") };
    let parts = format!("dataset: {{type: parquet}}, filename_suffix: .parquet{options}");
    Project::empty()
        .file(
            "catalog.yml",
            &format!(
                "
                nodes: {{type: csv, path: data/nodes.csv}}
                buckets@table: {{type: parquet, path: '{base}/buckets', save_args: {{partition_by: [bucket]}}{options}}}
                buckets@partitioned: {{type: partitioned, path: '{base}/buckets', {parts}}}
                vectors@partitioned: {{type: partitioned, path: '{base}/vectors', {parts}, overwrite: true}}
                "
            ),
        )
        .file("parameters.yml", "size: 10\nlength: 60\nfeatures: [name]\nmodel: {provider: hash, dimensions: 8}\n")
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - name: cut
                function: bucketize
                inputs: {df: nodes, input_features: params:features, bucket_size: params:size, max_input_len: params:length}
                outputs: buckets@table
              - name: embed
                function: compute_embeddings
                inputs: {dfs: buckets@partitioned, model: params:model}
                outputs: vectors@partitioned
            ",
        )
}

/// A node that asks a service about each row, in [`asking`].
pub struct Asks<'a> {
    pub node: &'a str,
    pub function: &'a str,
    /// The port of its settings, and the parameter that holds them.
    pub port: &'a str,
    /// The dataset that it writes, and its folder under `data/`.
    pub output: &'a str,
}

/// A project that cuts rows with these names into buckets and asks a service about each; `settings` are the keys of its mapping.
/// Nothing writes the dataset `others`.
pub fn asking(names: impl Iterator<Item = String>, bucket_size: usize, asks: &Asks<'_>, settings: &str) -> Project {
    let Asks { node, function, port, output } = asks;
    let mut csv = "id,name\n".to_owned();
    for (row, name) in names.enumerate() {
        writeln!(csv, "{row:07},{name}").expect("a string takes all");
    }
    let parts = "dataset: {type: parquet}, filename_suffix: .parquet";
    Project::empty()
        .file(
            "catalog.yml",
            &format!(
                "
                nodes: {{type: csv, path: data/nodes.csv}}
                buckets@table: {{type: parquet, path: data/buckets, save_args: {{partition_by: [bucket]}}}}
                buckets@partitioned: {{type: partitioned, path: data/buckets, {parts}}}
                {output}@partitioned: {{type: partitioned, path: data/{output}, {parts}, overwrite: true}}
                others@partitioned: {{type: partitioned, path: data/others, {parts}, overwrite: true}}
                "
            ),
        )
        .file(
            "parameters.yml",
            &format!("size: {bucket_size}\nlength: 60\nfeatures: [name]\n{port}:\n{}", indented(settings)),
        )
        .file(
            "pipelines/main.yml",
            &format!(
                "
            nodes:
              - name: cut
                function: bucketize
                inputs: {{df: nodes, input_features: params:features, bucket_size: params:size, max_input_len: params:length}}
                outputs: buckets@table
              - name: {node}
                function: {function}
                inputs: {{dfs: buckets@partitioned, {port}: params:{port}}}
                outputs: {output}@partitioned
            "
            ),
        )
        .file("data/nodes.csv", &csv)
}

/// Lines as the value of a key.
fn indented(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let margin = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().map(|line| format!("  {}\n", &line[margin..])).collect()
}
