//! Options of text formats, each in its direction: what is written with some is read back with those of its own.

use super::*;

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// All values as text, row by row, with `-` for null.
fn rows(batch: &RecordBatch) -> Vec<String> {
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).expect("text"))
        .collect();
    let value = |column: &ArrayRef, row: usize| {
        let text = column.as_string::<i32>();
        if text.is_null(row) { "-".to_owned() } else { text.value(row).to_owned() }
    };
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| value(column, row)).collect::<Vec<_>>().join(" "))
        .collect()
}

async fn read_file(entry: &str, bytes: &[u8]) -> Result<RecordBatch, DataError> {
    let project = Project::new();
    fs::write(project.path("a.csv"), bytes).expect("writes");
    read(&project, &*dataset(entry)).await
}

fn of_csv(options: &str) -> String {
    format!("{{type: csv, path: a.csv, load_args: {{{options}}}}}")
}

#[tokio::test]
async fn options_for_reading_are_obeyed() {
    for (options, bytes, columns, expected) in [
        ("", &b"a,b\n1,x\n"[..], "a b", "1 x"),
        ("sep: ';'", b"a;b\n1;x\n", "a b", "1 x"),
        ("delimiter: \"\\t\"", b"a\tb\n1\tx\n", "a b", "1 x"),
        ("header: false", b"1,x\n2,y\n", "column_1 column_2", "1 x|2 y"),
        ("header: null", b"1,x\n", "column_1 column_2", "1 x"),
        ("names: [p, q]", b"1,x\n2,y\n", "p q", "1 x|2 y"),
        ("names: [p, q], header: 0", b"a,b\n2,y\n", "p q", "2 y"),
        ("usecols: [b]", b"a,b,c\n1,x,5\n", "b", "x"),
        ("usecols: [2, 0]", b"a,b,c\n1,x,5\n", "a c", "1 5"),
        ("columns: [c]", b"a,b,c\n1,x,5\n", "c", "5"),
        ("skiprows: 2", b"made by\n\"us\na,b\n1,x\n", "a b", "1 x"),
        ("nrows: 1", b"a\n1\n2\n", "a", "1"),
        ("na_values: ['-9', NA]", b"a,b\n-9,NA\n3,x\n", "a b", "- -|3 x"),
        ("nullValue: nil", b"a,b\nnil,x\n3,\n", "a b", "- x|3 -"),
        ("", b"a,b\n1,NA\n", "a b", "1 NA"),
        ("keep_default_na: true", b"a,b\nNA,null\n1,x\n", "a b", "- -|1 x"),
        ("encoding: latin-1", b"n\xe9\n\xe9t\xe9\n", "né", "été"),
        ("encoding: utf-16", b"\xff\xfea\0\n\0\xe9\0\n\0", "a", "é"),
        ("encoding: cp1252", b"a\n\x80\n", "a", "€"),
        ("quotechar: \"'\"", b"a,b\n'1,2',x\n", "a b", "1,2 x"),
        ("quotechar: null", b"a,b\n\"1,x\n", "a b", "\"1 x"),
        ("escapechar: \"\\\\\"", b"a,b\n\"say \\\"hi\\\"\",x\n", "a b", "say \"hi\" x"),
        ("inferSchema: false", b"a\n01\n", "a", "01"),
    ] {
        let found = read_file(&of_csv(options), bytes).await.unwrap_or_else(|error| panic!("{options}: {error}"));
        assert_eq!(names(&found).join(" "), columns, "{options}");
        assert_eq!(rows(&found).join("|"), expected, "{options}");
    }
}

#[tokio::test]
async fn what_options_for_reading_do_not_fit_is_an_error() {
    for (options, bytes, expected) in [
        ("names: [p]", &b"1,x\n"[..], "`load_args` has 1 `names`, and a row has 2 values"),
        ("usecols: [z]", b"a,b\n1,x\n", "it has no column `z`, which `usecols` asks for; it has a, b"),
        ("usecols: [5]", b"a,b\n1,x\n", "it has no column `5`"),
        ("skiprows: 1", b"x\na,b\n1,2\n3\n", "line 4: expected 2 values, found 1"),
        ("encoding: ascii", b"a\n1\n\xe9\n", "line 3: it holds bytes that are not text in ascii"),
        ("encoding: utf-16", b"\xff\xfea\0\n\0\x00\xd8\n\0", "line 2: it holds bytes that are not text in utf-16"),
        ("", b"a\n\xe9\n", "line 2: column `a` is not text in UTF-8"),
        ("", b"\xff\xfea\0\n\0", "read it with `load_args: {encoding: utf-16}`"),
        ("", b"\x1f\x8b\x08\0", "read it with `load_args: {compression: gzip}`"),
        ("compression: gzip", b"a\n1\n", "it is truncated, or not compressed with gzip"),
        ("compression: zstd", b"a\n1\n", "it is truncated, or not compressed with zstd"),
        ("compression: bz2", b"a\n1\n", "it is truncated, or not compressed with bz2"),
    ] {
        let error = read_file(&of_csv(options), bytes).await.expect_err(options).to_string();
        assert!(error.contains(expected), "{options}: {error}");
    }
}

#[tokio::test]
async fn an_unclosed_quote_is_found_in_a_large_and_compressed_file() {
    let project = Project::new();
    let mut text = "a,b\n1,\"".to_owned();
    (0..40_000).for_each(|row| text.push_str(&format!("{row},x\n")));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).expect("memory");
    fs::write(project.path("a.csv.gz"), encoder.finish().expect("memory")).expect("writes");
    let error = read(&project, &*dataset("{type: csv, path: a.csv.gz}")).await.expect_err("an open quote").to_string();
    assert!(error.contains("line 2: a quote is opened and not closed"), "{error}");
}

#[tokio::test]
async fn options_for_writing_are_obeyed_and_do_not_change_reading() {
    for (options, expected) in [
        ("", "id,text,bucket\n0,text 0,5\n1,,5\n"),
        ("save_args: {sep: '|'}", "id|text|bucket\n0|text 0|5\n1||5\n"),
        ("load_args: {sep: ';', header: null}", "id,text,bucket\n0,text 0,5\n1,,5\n"),
        ("save_args: {header: false}", "0,text 0,5\n1,,5\n"),
        ("save_args: {na_rep: nil}", "id,text,bucket\n0,text 0,5\n1,nil,5\n"),
        ("save_args: {quoting: 1}", "\"id\",\"text\",\"bucket\"\n\"0\",\"text 0\",\"5\"\n\"1\",\"\",\"5\"\n"),
        ("save_args: {quotechar: \"'\", quoting: 1}", "'id','text','bucket'\n'0','text 0','5'\n'1','','5'\n"),
    ] {
        let project = Project::new();
        let options = if options.is_empty() { String::new() } else { format!(", {options}") };
        let dataset = dataset(&format!("{{type: csv, path: a.csv{options}}}"));
        write(&project, &*dataset, &[table(&[5, 5])], "w").await.expect("writes");
        assert_eq!(fs::read_to_string(project.path("a.csv")).expect("text"), expected, "{options}");
    }
    let saved_without_header = "{type: pandas.CSVDataset, filepath: a.csv, save_args: {header: false, sep: '|'}}";
    let found = read_file(saved_without_header, b"a,b\n1,x\n").await.expect("reads");
    assert_eq!((names(&found).join(" "), rows(&found).join("|")), ("a b".to_owned(), "1 x".to_owned()));
}

#[tokio::test]
async fn text_comes_back_in_every_encoding_and_compression() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("été; \"quoted\"\nline"), None, Some("ÿ")]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(-2), None]));
    let rows =
        RecordBatch::try_from_iter_with_nullable([("número", texts, true), ("n", numbers, true)]).expect("a table");
    for kind in ["csv", "json"] {
        for (encoding, start) in [
            ("utf-8", &b""[..]),
            ("utf-8-sig", b"\xef\xbb\xbf"),
            ("utf-16", b"\xff\xfe"),
            ("utf-16-be", b"\0"),
            ("latin-1", b""),
            ("cp1252", b""),
        ] {
            for (end, compression, magic) in [
                ("", "infer", &b""[..]),
                (".gz", "infer", b"\x1f\x8b"),
                (".zst", "infer", b"\x28\xb5\x2f\xfd"),
                (".bz2", "infer", b"BZh"),
                ("", "gzip", b"\x1f\x8b"),
                (".gz", "none", b""),
            ] {
                let options = format!("{{encoding: {encoding}, compression: {compression}}}");
                let path = format!("t.{kind}{end}");
                let entry = format!("{{type: {kind}, path: {path}, load_args: {options}, save_args: {options}}}");
                let (project, dataset) = (Project::new(), dataset(&entry));
                assert_eq!(dataset.differences(), Vec::<String>::new(), "{entry}");
                write(&project, &*dataset, std::slice::from_ref(&rows), "w").await.expect("writes");
                let bytes = fs::read(project.path(&path)).expect("bytes");
                let begins = if magic.is_empty() && end != ".gz" || compression == "none" { start } else { magic };
                assert!(bytes.starts_with(begins), "{entry}: {:?}", &bytes[..4]);
                let back = read(&project, &*dataset).await.unwrap_or_else(|error| panic!("{entry}: {error}"));
                assert_eq!(back.columns(), rows.columns(), "{entry}");
            }
        }
    }
}

#[tokio::test]
async fn what_an_encoding_cannot_hold_is_not_written() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a→b"]));
    let rows = RecordBatch::try_from_iter([("text", texts)]).expect("a table");
    let (project, dataset) = (Project::new(), dataset("{type: csv, path: a.csv, save_args: {encoding: latin-1}}"));
    let error = write(&project, &*dataset, &[rows], "w").await.expect_err("an arrow").to_string();
    assert!(error.contains("latin-1 has no character '→' (U+2192)"), "{error}");
    assert_eq!(project.files(), Vec::<String>::new());
}

#[test]
fn dialects_that_differ_are_named() {
    for (entry, expected) in [
        ("{type: csv, path: x}", &[][..]),
        ("{type: csv, path: x, save_args: {sep: ;}}", &["`sep` is `;` for writing and `,` for reading"]),
        (
            "{type: csv, path: x, save_args: {header: false}}",
            &["`header` is `false` for writing and `true` for reading"],
        ),
        ("{type: csv, path: x, save_args: {header: false}, load_args: {names: [a]}}", &[]),
        ("{type: csv, path: x, save_args: {na_rep: nil}, load_args: {na_values: [nil]}}", &[]),
        (
            "{type: csv, path: x, save_args: {na_rep: nil}}",
            &["`na_rep` is `nil`, which `na_values` for reading does not have"],
        ),
        (
            "{type: json, path: x, save_args: {encoding: utf-16}}",
            &["`encoding` is `utf-16` for writing and `utf-8` for reading"],
        ),
        ("{type: json, path: x.gz}", &[]),
        (
            "{type: json, path: x.gz, load_args: {compression: none}}",
            &["`compression` is `gzip` for writing and `none` for reading"],
        ),
        (
            "{type: partitioned, path: x, dataset: {type: csv, save_args: {sep: ;}}}",
            &["`sep` is `;` for writing and `,` for reading"],
        ),
    ] {
        assert_eq!(dataset(entry).differences(), expected, "{entry}");
    }
}
