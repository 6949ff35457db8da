//! Files with bytes that nobody expects: rows or an error that names the file, the same each time, in bounded memory.

use super::*;
use crate::model::fuzz::fuzz;

const CSV: &[&str] = &[
    "id,name,score\n1,\"a, b\",0.5\n2,\"line\nbreak \"\"quoted\"\"\",1e3\n3,,\n",
    "id;text\r\n0001;é\r\n0002;☃\r\n",
    "a\n9223372036854775807\n-1\n0.1\n",
];
const JSON: &[&str] = &[
    "{\"id\": 1, \"name\": \"a\", \"list\": [1, 2], \"sub\": {\"x\": null}}\n{\"id\": 2, \"name\": \"\\u00e9\\n\"}\n",
    "{\"n\": 9007199254740993}\n{\"n\": 0.1}\n{\"n\": -0}\n",
    "[{\"a\": true}, {\"a\": false, \"b\": \"x\"}]",
];
const CSV_WORDS: &[&str] =
    &[",", ";", "\"", "\"\"", "\n", "\r", "\r\n", "\t", "\u{feff}", "\0", "NaN", "-inf", "null", "true", "1e999", "🙂"];
const JSON_WORDS: &[&str] = &[
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "null", "true", "NaN", "1e999", "{\"a\":", "\n",
    "\u{feff}", "\0",
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads")
}

/// Reads a file twice: the same rows, or an error that names it.
async fn judge(project: &Project, dataset: &dyn Dataset, name: &str) -> Option<RecordBatch> {
    let first = read(project, dataset).await;
    let second = read(project, dataset).await;
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second, "the same bytes, other rows");
            Some(first)
        }
        (Err(error), Err(_)) => {
            let error = error.to_string();
            assert!(error.contains(name), "an error without its file: {error}");
            assert!(error.len() < 16 << 10, "{} bytes of error", error.len());
            None
        }
        (first, second) => panic!("once it is read and once it is not: {first:?} {second:?}"),
    }
}

/// Written again, what was read reads as the same text.
async fn round_trip(project: &Project, kind: &str, rows: &RecordBatch) {
    let copy = dataset(&format!("{{type: {kind}, path: copy.{kind}, overwrite: true}}"));
    let Ok(_) = write(project, &*copy, std::slice::from_ref(rows), "fuzz").await else { return };
    if let Ok(again) = read(project, &*copy).await {
        assert_eq!(again.num_rows(), rows.num_rows(), "{kind}: rows are lost or added");
    }
}

fn text_format(kind: &str, count: u64, corpus: &[&str], words: &[&str]) {
    let (runtime, project) = (runtime(), Project::new());
    let name = format!("in.{kind}");
    let input = dataset(&format!("{{type: {kind}, path: {name}}}"));
    let corpus: Vec<&[u8]> = corpus.iter().map(|text| text.as_bytes()).collect();
    fuzz(kind, count, |random| {
        fs::write(project.path(&name), random.mutated(&corpus, words)).expect("writes");
        runtime.block_on(async {
            if let Some(rows) = judge(&project, &*input, &name).await
                && rows.num_columns() > 1
            {
                round_trip(&project, kind, &rows).await;
            }
        });
    });
}

#[test]
fn csv_gives_rows_or_an_error_that_names_the_file() {
    text_format("csv", 720, CSV, CSV_WORDS);
}

#[test]
fn json_gives_rows_or_an_error_that_names_the_file() {
    text_format("json", 720, JSON, JSON_WORDS);
}

#[test]
fn a_damaged_parquet_file_gives_rows_or_an_error_that_names_the_file() {
    let (runtime, project) = (runtime(), Project::new());
    let whole = dataset("{type: parquet, path: whole.parquet}");
    let rows = table(&(0..200).map(|n| n * n % 17).collect::<Vec<_>>());
    runtime.block_on(write(&project, &*whole, std::slice::from_ref(&rows), "w")).expect("writes");
    let bytes = fs::read(project.path("whole.parquet")).expect("a file");
    let damaged = dataset("{type: parquet, path: in.parquet}");
    fuzz("parquet", 900, |random| {
        let mut changed = random.mutated(&[&bytes], &["PAR1", "\0\0\0\0", "\u{7f}\u{7f}\u{7f}\u{7f}"]);
        // The footer is small and says most: it is damaged as often as all the rest.
        if random.below(2) == 0 && changed.len() > 400 {
            let at = changed.len() - 1 - random.below(400);
            changed[at] = random.next() as u8;
        }
        fs::write(project.path("in.parquet"), &changed).expect("writes");
        let read = runtime.block_on(judge(&project, &*damaged, "in.parquet"));
        assert!(read.is_none_or(|rows| rows.num_rows() < 1 << 20), "rows out of nothing");
    });
}

#[test]
fn a_damaged_receipt_never_makes_a_table_up_to_date() {
    let (runtime, project) = (runtime(), Project::new());
    let written = dataset("{type: parquet, path: out, save_args: {partition_by: [bucket]}}");
    let rows = table(&[1, 2, 2, 3]);
    runtime.block_on(write(&project, &*written, std::slice::from_ref(&rows), "w")).expect("writes");
    let path = project.path(".out.flow");
    let receipt = fs::read(&path).expect("a receipt");
    let file =
        fs::read_dir(project.path("out/bucket=2")).expect("a folder").next().expect("a file").expect("a file").path();
    let bytes = fs::read(&file).expect("a file");
    let (ours, other) = (Fingerprint::of("w"), Fingerprint::of("other").to_string());
    let words = ["\"receipt\":", "\"digest\":", "\"version\":1", other.as_str(), "\"", ",", "null"];
    fuzz("receipts", 2400, |random| {
        let changed = random.mutated(&[&receipt], &words);
        fs::write(&path, &changed).expect("writes");
        let state = |project: &Project| {
            runtime.block_on(async { written.state(&project.stores).await }).map(|state| (state.receipt, state.digest))
        };
        let intact = state(&project).expect("a listing");
        assert!(intact.1.is_some(), "the data is there");
        // The data is another one now: whatever the receipt says, its work does not count.
        let gone = random.below(2) == 0;
        if gone {
            fs::remove_file(&file).expect("removes");
        } else {
            fs::write(&file, &bytes[..bytes.len() - 1]).expect("writes");
        }
        let damaged = state(&project);
        fs::write(&file, &bytes).expect("writes");
        if let Ok((receipt, _)) = damaged {
            assert_ne!(receipt, Some(ours), "gone: {gone}; {}", String::from_utf8_lossy(&changed));
        }
    });
}
