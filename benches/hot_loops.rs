//! Micro-benchmarks of the hot loops: `cargo bench`.
//!
//! - `response`: the body of an API response with 500 vectors in base64 is decoded into one buffer.
//! - `partitions`: a table is split into partitions of 500 rows, which are encoded, named by their content and written.
//! - `interpolation`: a project of 1,000 parameters that refer to each other is loaded.
//! - `plan`: a project of 1,000 nodes is loaded, built and planned.

mod support;

use std::{fmt::Write as _, fs, hint::black_box, path::Path, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use flow::{
    config::{LoadOptions, load},
    data::{Stores, WriteRequest},
    diagnostic::Diagnostics,
    embed::openai::wire,
    graph::Selection,
    model::Fingerprint,
    run::{Registry, Workspace, plan},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 500;

fn response(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response");
    for dimensions in [100, 1536] {
        let vector: Vec<u8> = (0..dimensions).flat_map(|n| (n as f32 / 7.0).to_le_bytes()).collect();
        let vector = base64_simd::STANDARD.encode_to_string(&vector);
        let mut body = String::from("{\"object\":\"list\",\"data\":[");
        for row in 0..ROWS {
            let comma = if row > 0 { "," } else { "" };
            write!(body, "{comma}{{\"object\":\"embedding\",\"index\":{row},\"embedding\":\"{vector}\"}}")
                .expect("writing to a string");
        }
        body.push_str("],\"model\":\"m\",\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1}}");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("{ROWS} vectors of {dimensions}"), |bencher| {
            bencher
                .iter(|| wire::decode(black_box(body.as_bytes()), ROWS, Some(dimensions)).expect("a valid response"));
        });
    }
    group.finish();
}

fn partitions(criterion: &mut Criterion) {
    const PARTITIONS: usize = 100;
    let ids = StringArray::from_iter_values((0..PARTITIONS * ROWS).map(|row| format!("node:{row:010}")));
    let texts =
        StringArray::from_iter_values((0..PARTITIONS * ROWS).map(|row| format!("a name and a category {}", row * 7)));
    let buckets = Int64Array::from_iter_values((0..PARTITIONS * ROWS).map(|row| (row / ROWS) as i64));
    let columns: [(&str, ArrayRef); 3] =
        [("id", Arc::new(ids)), ("text", Arc::new(texts)), ("bucket", Arc::new(buckets))];
    let table = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stores = Stores::new(folder.path().to_path_buf(), Arc::new(|_| None));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("partitions");
    group.throughput(Throughput::Elements((PARTITIONS * ROWS) as u64)).sample_size(20);
    let mut turn = 0;
    group.bench_function(format!("{PARTITIONS} of {ROWS} rows"), |bencher| {
        // A new folder each time: what is there already would be left alone.
        let next = || {
            turn += 1;
            let entry = format!("{{type: parquet, path: t{turn}, save_args: {{partition_by: [bucket]}}}}");
            support::dataset(&entry).expect("a proper entry")
        };
        bencher.iter_batched(
            next,
            |output| {
                let rows = futures::stream::iter([Ok(table.clone())]);
                let table = Box::pin(RecordBatchStreamAdapter::new(table.schema(), rows));
                let request =
                    WriteRequest { table, receipt: Fingerprint::of("bench"), progress: &|_| (), computed: &|| None };
                runtime.block_on(output.table_sink().expect("a table").write_table(&stores, request)).expect("writes")
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn assemble(root: &Path) -> Workspace {
    let mut problems = Diagnostics::default();
    let options =
        LoadOptions { project: Some(root), env: None, params: &[], environment: &|_| None, ask: None, pipelines: &[] };
    let (_, project) = load(&options, &mut problems);
    let workspace =
        Workspace::assemble(project.expect("a project"), &Registry::builtin(), &flow::data::normalized, &mut problems);
    assert!(!problems.has_errors(), "{problems:?}");
    workspace.expect("a workspace")
}

fn project(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("pipelines")).expect("a folder");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("a file");
    }
    folder
}

fn interpolation(criterion: &mut Criterion) {
    let mut parameters = String::from("p0: start\n");
    for n in 1..1000 {
        writeln!(parameters, "p{n}: '${{p{}}}'\nq{n}: 'text ${{p{n}}} and ${{q0.a}}'", n / 2)
            .expect("writing to a string");
    }
    parameters.push_str("q0: {a: 1}\n");
    let files = [
        ("catalog.yml", "a: {type: memory}\n".to_owned()),
        ("parameters.yml", parameters),
        ("pipelines/p.yml", "nodes: []\n".to_owned()),
    ];
    let folder = project(&files);
    let mut group = criterion.benchmark_group("interpolation");
    group.throughput(Throughput::Elements(2000)).sample_size(20);
    group.bench_function("2,000 parameters", |bencher| bencher.iter(|| assemble(folder.path())));
    group.finish();
}

fn planning(criterion: &mut Criterion) {
    const NODES: usize = 1000;
    let mut nodes = String::from("nodes:\n");
    let mut catalog = String::from("d0: {type: csv, path: d0.csv}\n");
    for n in 1..=NODES {
        writeln!(catalog, "d{n}: {{type: parquet, path: d{n}.parquet}}").expect("writing to a string");
        writeln!(
            nodes,
            "  - {{name: n{n}, function: sql, inputs: {{t: d{}, query: params:query}}, outputs: d{n}}}",
            n - 1
        )
        .expect("writing to a string");
    }
    let files = [
        ("catalog.yml", catalog),
        ("parameters.yml", "query: SELECT * FROM t\n".to_owned()),
        ("pipelines/p.yml", nodes),
        ("d0.csv", "a\n1\n".to_owned()),
    ];
    let folder = project(&files);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(NODES as u64)).sample_size(20);
    group.bench_function(format!("{NODES} nodes"), |bencher| {
        bencher.iter(|| {
            let workspace = assemble(folder.path());
            let selected: Vec<_> =
                workspace.graph.select(&Selection::default()).expect("everything").into_iter().collect();
            let stores = Stores::new(folder.path().to_path_buf(), Arc::new(|_| None));
            let context = support::context(folder.path().to_path_buf(), 512 << 20).expect("a context");
            runtime.block_on(plan(&workspace, &stores, &context, &selected, Default::default())).expect("a plan")
        });
    });
    group.finish();
}

criterion_group!(benches, response, partitions, interpolation, planning);
criterion_main!(benches);
