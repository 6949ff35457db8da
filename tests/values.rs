//! Values of files without types: each is read exactly, or refused with file, row and column.

use std::{collections::HashMap, fs::File, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray as _, FixedSizeBinaryArray, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use parquet::{
    arrow::ArrowWriter,
    basic::LogicalType,
    file::reader::{FileReader as _, SerializedFileReader},
};

use crate::support::{Project, read_parquet};

/// A project that copies `catalog`'s table `t` into JSON lines.
fn copying(t: &str, o: &str) -> Project {
    let project = Project::empty();
    project.write("catalog.yml", &format!("t: {t}\no: {o}\n"));
    project.write("parameters.yml", "query: SELECT * FROM t\n");
    project.write(
        "pipelines/main.yml",
        "nodes:\n  - {name: copy, function: sql, inputs: {t: t, query: \"params:query\"}, outputs: o}\n",
    );
    project
}

/// Runs `line`, which exits with `code` and reports `message`.
fn refused(project: &Project, line: &str, code: i32, message: &str) {
    let output = project.flow(line).exits(code);
    assert!(output.stderr.contains(message), "{}", output.stderr);
}

const JSON_OUT: &str = "{type: json, path: out.jsonl}";

#[test]
fn a_fraction_after_integers_in_another_file_is_not_truncated() {
    let project = copying("{type: json, path: in}", JSON_OUT);
    project.write("in/a.jsonl", "{\"id\":1,\"score\":1}\n{\"id\":2,\"score\":2}\n");
    project.write("in/b.jsonl", "{\"id\":3,\"score\":1.5}\n{\"id\":4,\"score\":-0.7}\n");
    project.flow("run").exits(0);
    let expected =
        "{\"id\":1,\"score\":1.0}\n{\"id\":2,\"score\":2.0}\n{\"id\":3,\"score\":1.5}\n{\"id\":4,\"score\":-0.7}\n";
    assert_eq!(project.read("out.jsonl"), expected);
}

#[test]
fn a_fraction_after_the_sample_is_an_error_with_file_row_and_column() {
    let project = copying("{type: json, path: in.jsonl}", JSON_OUT);
    let lines: String = (0..10_000).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    project.write("in.jsonl", &(lines + "{\"id\":0.5}\n"));
    let message = "in.jsonl cannot be read as json: row 10001: column `id` holds '0.5', expected Int64; declare a type that holds \
                   it: `load_args: {dtype: {id: float64}}`";
    refused(&project, "run", 1, message);
    let project = project.edit("catalog.yml", "in.jsonl}", "in.jsonl, load_args: {dtype: {id: float64}}}");
    project.flow("run").exits(0);
    assert!(project.read("out.jsonl").ends_with("{\"id\":9999.0}\n{\"id\":0.5}\n"));
}

#[test]
fn large_integers_in_json_keep_their_digits() {
    let project = copying("{type: json, path: in.jsonl}", JSON_OUT);
    let lines = "{\"a\":18446744073709551615,\"b\":9007199254740993,\"c\":1}\n{\"a\":1,\"b\":0.5,\"c\":\"x\"}\n";
    project.write("in.jsonl", lines);
    project.flow("run").exits(0);
    let expected =
        "{\"a\":18446744073709551615,\"b\":\"9007199254740993\",\"c\":\"1\"}\n{\"a\":1,\"b\":\"0.5\",\"c\":\"x\"}\n";
    assert_eq!(project.read("out.jsonl"), expected);
}

#[test]
fn rows_of_json_without_columns_are_shown() {
    let project = copying("{type: json, path: in.jsonl}", JSON_OUT);
    project.write("in.jsonl", "\u{feff}{}\n{}\n");
    project.flow("show t").exits(0);
}

#[test]
fn an_unclosed_quote_is_an_error_with_its_line_and_swallows_no_rows() {
    let project = copying("{type: csv, path: in.csv}", JSON_OUT);
    project.write("in.csv", "id,name\n1,\"two\nlines\"\n2,\"b\n3,c\n4,d\n");
    let message = "in.csv cannot be read as csv: line 4: a quote is opened and not closed before the end of the file";
    refused(&project, "run", 1, message);
    project.write("in.csv", "id,name\n1,\"two\nlines\"\n2,\"b\"\"\"\n3,c\"\n4,\"d\"");
    project.flow("run").exits(0);
    let expected = "{\"id\":1,\"name\":\"two\\nlines\"}\n{\"id\":2,\"name\":\"b\\\"\"}\n{\"id\":3,\"name\":\"c\\\"\"}\n{\"id\":4,\"name\":\"d\"}\n";
    assert_eq!(project.read("out.jsonl"), expected);
}

#[test]
fn a_row_of_another_width_is_an_error_with_its_line_in_the_file() {
    let project = copying("{type: csv, path: in.csv}", JSON_OUT);
    for (csv, line) in [
        ("id,name\n1,\"two\nlines\"\n\n2,b,c\n", "line 5: expected 2 values, found 3"),
        ("id,name\r\n1,a\r\n2,b,c\r\n3,d\r\n", "line 3: expected 2 values, found 3"),
        ("id,name\n1,a\n\n\n2,b,c", "line 5: expected 2 values, found 3"),
        ("id,name\n1,a\n2\n", "line 3: expected 2 values, found 1"),
    ] {
        project.write("in.csv", csv);
        let message = format!("in.csv cannot be read as csv: {line}");
        refused(&project, "run", 1, &message);
    }
}

#[test]
fn a_value_that_its_column_does_not_hold_is_an_error_with_line_and_column() {
    let project = copying("{type: csv, path: in.csv, load_args: {infer_schema_length: 1}}", JSON_OUT);
    project.write("in.csv", "name,n\n\"two\nlines\",1\nb,1.5\n");
    refused(&project, "run", 1, "line 4: column `n` holds '1.5', expected Int64");
}

#[test]
fn two_columns_of_one_name_are_an_error() {
    let project = copying("{type: csv, path: in.csv}", JSON_OUT);
    project.write("in.csv", "a,b,a\n1,2,3\n");
    refused(&project, "show t", 3, "in.csv cannot be read as csv: two columns have the name `a`");
}

#[test]
fn times_in_csv_keep_their_digits_and_their_offsets() {
    let project = copying("{type: csv, path: in.csv}", JSON_OUT);
    let csv = "second,nano,instant,mixed\n\
               2020-01-02T03:04:05,2020-01-02 03:04:05.123456789,2020-01-02T03:04:05+02:00,2020-01-02T03:04:05Z\n\
               9999-12-31 00:00:00,,2020-01-02T03:04:05Z,2020-01-02T03:04:05\n";
    project.write("in.csv", csv);
    project.flow("run").exits(0);
    let expected = "{\"second\":\"2020-01-02T03:04:05\",\"nano\":\"2020-01-02T03:04:05.123456789\",\"instant\":\"2020-01-02T01:04:05Z\",\"mixed\":\"2020-01-02T03:04:05Z\"}\n\
                    {\"second\":\"9999-12-31T00:00:00\",\"nano\":null,\"instant\":\"2020-01-02T03:04:05Z\",\"mixed\":\"2020-01-02T03:04:05\"}\n";
    assert_eq!(project.read("out.jsonl"), expected);
}

#[test]
fn a_column_of_uuids_is_no_column_of_bytes_afterwards() {
    let project = copying("{type: parquet, path: in.parquet}", "{type: parquet, path: out.parquet}");
    let of_uuids = HashMap::from([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())]);
    let field = Field::new("u", DataType::FixedSizeBinary(16), true).with_metadata(of_uuids);
    let values = [Some(*b"0123456789abcdef"), None].into_iter();
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16).expect("sixteen bytes");
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(uuids) as ArrayRef]).expect("a column");
    let file = File::create(project.path("in.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, schema, None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let is_uuid = |name: &str| {
        let reader = SerializedFileReader::new(File::open(project.path(name)).expect("a file")).expect("parquet");
        let column = reader.metadata().file_metadata().schema_descr().column(0);
        matches!(column.logical_type_ref(), Some(LogicalType::Uuid))
    };
    assert!(is_uuid("in.parquet"), "the test wrote one");
    project.flow("run").exits(0);
    assert!(is_uuid("out.parquet"));
    let copied = read_parquet(&project.path("out.parquet"));
    let copied = copied.column(0).as_fixed_size_binary();
    assert_eq!(copied.iter().collect::<Vec<_>>(), [Some(&b"0123456789abcdef"[..]), None]);
}
