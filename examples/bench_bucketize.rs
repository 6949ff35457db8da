//! Times the table half of the main job: a parquet table in, hive partitions of 500 rows out.
//!
//! ```text
//! cargo run --release --example bench_bucketize -- make 1000000 /tmp/nodes.parquet
//! cargo run --release --example bench_bucketize -- run /tmp/nodes.parquet /tmp/buckets
//! ```

#[path = "../benches/support/mod.rs"]
mod support;

use std::{
    error::Error,
    fs::File,
    io::{self, Write as _},
    sync::Arc,
    time::Instant,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringBuilder},
    datatypes::{DataType, Field, Schema},
};
use flow::{
    config::parse_yaml,
    data::{Stores, WriteRequest},
    diagnostic::{Diagnostics, SourceId, Span},
    function::{Arguments, FUNCTIONS, Job, Tables},
    model::Fingerprint,
};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

use support::{Outcome, dataset};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["make", rows, path] => make(rows.parse()?, path),
        ["run", from, to] => run(from, to, "512", "zstd"),
        ["run", from, to, mebibytes] => run(from, to, mebibytes, "zstd"),
        ["run", from, to, mebibytes, compression] => run(from, to, mebibytes, compression),
        _ => Err("make ROWS FILE | run FILE FOLDER [MEBIBYTES [COMPRESSION]]".into()),
    }
}

/// Writes `rows` rows in random order: an id, a category of few values, a name.
fn make(rows: u64, path: &str) -> Outcome<()> {
    const CATEGORIES: &[&str] = &["biolink:Drug", "biolink:Disease", "biolink:Gene", "biolink:PhenotypicFeature"];
    const WORDS: &[&str] =
        &["acid", "alpha", "beta", "cell", "factor", "growth", "kinase", "protein", "receptor", "type"];
    let field = |name: &str| Field::new(name, DataType::Utf8, true);
    let schema = Arc::new(Schema::new(vec![field("id"), field("category"), field("name"), field("description")]));
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, Arc::clone(&schema), Some(properties))?;
    let mut random = 42_u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let mut done = 0;
    while done < rows {
        let size = (rows - done).min(1 << 16);
        let mut columns: [StringBuilder; 4] = std::array::from_fn(|_| StringBuilder::new());
        for row in done..done + size {
            // A permutation of the row numbers, so that ids are unique and in no order.
            let id = row.wrapping_mul(2_654_435_761) % 4_294_967_296;
            columns[0].append_value(format!("MONDO:{id:010}"));
            columns[1].append_value(CATEGORIES[(next() % 4) as usize]);
            let words: Vec<&str> = (0..2 + next() % 4).map(|_| WORDS[(next() % 10) as usize]).collect();
            columns[2].append_value(format!("{} {}", words.join(" "), next() % 1000));
            columns[3].append_value(format!("{} of {}", words.join("-"), next()));
        }
        let arrays = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
        done += size;
    }
    writer.close()?;
    Ok(())
}

fn run(from: &str, to: &str, mebibytes: &str, compression: &str) -> Outcome<()> {
    let started = Instant::now();
    let (input, output) = (
        dataset(&format!("{{type: parquet, path: '{from}'}}"))?,
        dataset(&format!(
            "{{type: parquet, path: '{to}', save_args: {{partition_by: [bucket], compression: {compression}}}}}"
        ))?,
    );
    let root = std::env::current_dir()?;
    let stores = Stores::new(root.clone(), Arc::new(|_| None));
    let mut problems = Diagnostics::default();
    let values = "{input_features: [category, name], bucket_size: 500, max_input_len: 100}";
    let values = parse_yaml(SourceId(0), values, &mut problems).ok_or("no YAML")?;
    let arguments = Arguments {
        node: "bench",
        span: Span { source: SourceId(0), start: 0, end: 0 },
        function: ("bucketize", Span { source: SourceId(0), start: 0, end: 0 }),
        inputs: Vec::new(),
        outputs: Vec::new(),
        options: indexmap::IndexMap::new(),
        values: values.as_map().into_iter().flat_map(|map| map.iter()).map(|(k, e)| (k.to_owned(), &e.node)).collect(),
        tables: vec!["df".to_owned()],
        unknown: Vec::new(),
        providers: &[],
        root: root.clone(),
        engine: Default::default(),
    };
    let function = FUNCTIONS.iter().find(|function| function.name() == "bucketize").ok_or("no bucketize")?;
    let Some(Job::Table(job)) = function.prepare(&arguments, &mut problems) else {
        return Err(format!("{problems:?}").into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let written = runtime.block_on(async {
        let context = support::context(root, mebibytes.parse::<u64>()? << 20)?;
        let tables = Tables::from([("df".to_owned(), input.table_source()?.table(&stores).await?)]);
        let table = job.run(tables, &context).await?;
        let request = WriteRequest { table, receipt: Fingerprint::of("bench"), progress: &|_| (), computed: &|| None };
        Ok::<_, Box<dyn Error>>(output.table_sink()?.write_table(&stores, request).await?)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    writeln!(io::stdout(), "{seconds:.2} s, {written:?}, {peak}")?;
    Ok(())
}
