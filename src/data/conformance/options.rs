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
        ("escapechar: \"\\\\\"", b"a,b\nx\\,y,1\n\"p\"\"q\",2\n", "a b", "x,y 1|p\"q 2"),
        ("doublequote: false", b"a,b\n\"x\"\"y\",1\n", "a b", "x\"y\" 1"),
        ("comment: '#'", b"#c\na,b\n1,2#x\n\"3#\",4\n#z\n", "a b", "1 2|3# 4"),
        ("comment_prefix: '#'", b"#c\na,b\n1,2\n", "a b", "1 2"),
        ("skiprows: [0]", b"made by us\na,b\n1,2\n", "a b", "1 2"),
        ("skiprows: [1, 3]", b"a,b\n1,2\n3,4\n5,6\n", "a b", "3 4"),
        ("lineterminator: ';'", b"a,b;1,2;", "a b", "1 2"),
        ("lineterminator: \"\\r\\n\"", b"a,b\r\n1,2\r\n", "a b", "1 2"),
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
        ("skiprows: [1]", b"a,b\nx\n1,2\n3\n", "line 4: expected 2 values, found 1"),
        ("comment: '#'", b"#c\na,b\n1,2\n3#,4\n", "line 4: expected 2 values, found 1"),
        ("escapechar: \"\\\\\"", b"a,b\n1,\"x\\\"\n", "line 2: a quote is opened and not closed"),
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
async fn documents_of_pandas_are_read_and_written() {
    let rows = table(&[5, 5]);
    for (orient, text) in [
        ("columns", "{\"id\":{\"0\":0,\"1\":1},\"text\":{\"0\":\"text 0\",\"1\":null},\"bucket\":{\"0\":5,\"1\":5}}"),
        ("records", "[{\"id\":0,\"text\":\"text 0\",\"bucket\":5},{\"id\":1,\"text\":null,\"bucket\":5}]"),
        ("index", "{\"0\":{\"id\":0,\"text\":\"text 0\",\"bucket\":5},\"1\":{\"id\":1,\"text\":null,\"bucket\":5}}"),
        ("split", "{\"columns\":[\"id\",\"text\",\"bucket\"],\"index\":[0,1],\"data\":[[0,\"text 0\",5],[1,null,5]]}"),
        ("values", "[[0,\"text 0\",5],[1,null,5]]"),
    ] {
        let args = if orient == "columns" {
            String::new()
        } else {
            format!(", load_args: {{orient: {orient}}}, save_args: {{orient: {orient}}}")
        };
        let (project, dataset) =
            (Project::new(), dataset(&format!("{{type: pandas.JSONDataset, filepath: t.json{args}}}")));
        write(&project, &*dataset, std::slice::from_ref(&rows), "w").await.expect("writes");
        assert_eq!(fs::read_to_string(project.path("t.json")).expect("text"), text);
        let back = read(&project, &*dataset).await.unwrap_or_else(|error| panic!("{orient}: {error}"));
        assert_eq!(back.columns(), rows.columns(), "{orient}");
    }
    let (project, lines) = (Project::new(), dataset("{type: pandas.JSONDataset, filepath: t.json}"));
    fs::write(project.path("t.json"), "{\"a\":1}\n{\"a\":2}\n").expect("writes");
    let error = read(&project, &*lines).await.expect_err("lines").to_string();
    assert!(error.contains("expected a document with `orient: columns`"), "{error}");
    let lines = dataset("{type: pandas.JSONDataset, filepath: t.json, load_args: {lines: true}}");
    assert_eq!(column(&read(&project, &*lines).await.expect("reads"), "a"), [1, 2]);
}

#[tokio::test]
async fn a_csv_of_spark_is_read_by_sparks_rules_and_written_by_them() {
    // As Spark 4.0 writes these values.
    let text = b"i,v\n0,\"say \\\"hi\\\"\"\n1,back\\slash\n2,\"back\\\\slash, comma\"\n3,\"\\\\\\\"x\"\n4,\"\"\n5,\n6,\"line\nbreak\"\n";
    let entry = "{type: spark.SparkDataset, filepath: a.csv, file_format: csv, load_args: {header: true}}";
    let found = read_file(entry, text).await.expect("reads");
    let values = ["say \"hi\"", "back\\slash", "back\\slash, comma", "\\\"x", "-", "-", "line\nbreak"];
    let expected: Vec<String> = values.iter().enumerate().map(|(i, value)| format!("{i} {value}")).collect();
    assert_eq!(rows(&found), expected);
    let error = read_file(entry, b"i,v\n1,\"a\"\"b\"\n").await.expect_err("no CSV of Spark").to_string();
    assert!(error.contains("line 2: a value goes on behind its closing quote"), "{error}");
    let doubled = entry.replace("header: true", "header: true, escape: '\"'");
    let found = read_file(&doubled, b"i,v\n1,\"a\"\"b\"\n").await.expect("reads");
    assert_eq!(rows(&found), ["1 a\"b"]);
}

#[tokio::test]
async fn text_comes_back_in_every_dialect() {
    let values = [
        "plain",
        "a,b",
        "say \"hi\"",
        "\"",
        "\"\"",
        "back\\slash",
        "ends\\",
        "ends, \\",
        "\\\"x",
        "a\\nb",
        "line\nbreak",
        "cr\rlf\r\n",
        "# no comment",
        "x;y|z",
        "'single'",
        " space ",
        "é",
    ];
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(values));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let table = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("text", texts, true)]).expect("a table");
    let both = |options: &str| format!("load_args: {{{options}}}, save_args: {{{options}}}");
    let mut entries = vec!["{type: spark.SparkDataset, filepath: a, file_format: csv, load_args: {header: true, inferSchema: true}, save_args: {header: true}}".to_owned()];
    for options in [
        "sep: ';'",
        "quotechar: \"'\"",
        "escapechar: \"\\\\\"",
        "escapechar: \"\\\\\", doublequote: false",
        "escapechar: '!', doublequote: false, quotechar: \"'\", sep: '|'",
        "lineterminator: ';'",
        "lineterminator: \"\\r\\n\"",
        "lineterminator: \"\\n\"",
    ] {
        entries.push(format!("{{type: csv, path: a.csv, {}}}", both(options)));
        entries.push(format!("{{type: pandas.CSVDataset, filepath: a.csv, {}}}", both(options)));
    }
    for entry in entries {
        let (project, dataset) = (Project::new(), dataset(&entry));
        assert_eq!(dataset.differences(), Vec::<String>::new(), "{entry}");
        write(&project, &*dataset, std::slice::from_ref(&table), "w").await.expect("writes");
        let back = read(&project, &*dataset).await.unwrap_or_else(|error| panic!("{entry}: {error}"));
        assert_eq!(rows(&back), rows(&table), "{entry}");
    }
    let unquoted = dataset("{type: csv, path: a.csv, save_args: {quotechar: null}}");
    let error = write(&Project::new(), &*unquoted, &[table], "w").await.expect_err("a comma").to_string();
    assert!(error.contains("row 2: column `text` holds a separator"), "{error}");
}

#[tokio::test]
async fn a_column_name_with_a_separator_is_refused_where_no_quotes_are_written() {
    let table =
        RecordBatch::try_from_iter([("a,b", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).expect("one column");
    let unquoted = dataset("{type: csv, path: a.csv, save_args: {quotechar: null}}");
    let table = [table];
    let error = write(&Project::new(), &*unquoted, &table, "w").await.expect_err("a comma").to_string();
    assert!(error.contains("the name of column `a,b` holds a separator"), "{error}");
    let unnamed = dataset("{type: csv, path: a.csv, save_args: {quotechar: null, header: false}}");
    write(&Project::new(), &*unnamed, &table, "w").await.expect("no name is written");
}

#[tokio::test]
async fn declared_types_are_cast_or_refused_with_row_and_column() {
    for (kind, schema, text, expected) in [
        ("csv", "{zip: VARCHAR, n: DOUBLE}", "zip,n\n01234,1\n", Ok("01234 1.0")),
        ("csv", "{d: 'DECIMAL(6, 2)'}", "d\n1.5\n\n-20.25\n", Ok("1.50|-20.25")),
        (
            "csv",
            "{t: TIMESTAMP, d: DATE}",
            "t,d\n9999-01-02 03:04:05,2020-02-29\n",
            Ok("9999-01-02T03:04:05 2020-02-29"),
        ),
        (
            "csv",
            "{i: INTEGER}",
            "i,j\n1,x\n\n3000000000,y\n",
            Err("line 4: column `i` holds '3000000000', expected Int32"),
        ),
        (
            "csv",
            "{d: 'DECIMAL(6, 2)'}",
            "d\n1.255\n",
            Err("line 2: column `d` holds '1.255', expected Decimal128(6, 2)"),
        ),
        ("csv", "{b: BOOLEAN}", "b\ntrue\nyes\n", Err("line 3: column `b` holds 'yes', expected Boolean")),
        (
            "csv",
            "{c: BIGINT}",
            "a\n1\n",
            Err("a type is declared for column `c`, which the file does not have; it has a"),
        ),
        ("json", "{s: DOUBLE}", "{\"s\": 1}\n{\"s\": 2}\n", Ok("1.0|2.0")),
        ("json", "{s: VARCHAR, note: VARCHAR}", "{\"s\": 1.50}\n", Ok("1.50 -")),
        ("json", "{s: BIGINT}", "{\"s\": 1}\n{\"s\": 1.5}\n", Err("row 2: column `s` holds '1.5', expected Int64")),
        (
            "json",
            "{s: 'DECIMAL(3, 1)'}",
            "{\"s\": 1.5}\n{\"s\": 100}\n",
            Err("row 2: column `s` holds '100', expected Decimal128(3, 1)"),
        ),
        ("json", "{}", "{\"s\": 1}\n{\"s\": 1.5}\n", Ok("1.0|1.5")),
        ("json", "{}", "{\"s\": 1}\n{\"s\": \"x\"}\n{\"s\": 1.5}\n", Ok("1|x|1.5")),
        ("csv", "{}", "s\n1\n1.5\n", Ok("1.0|1.5")),
        ("csv", "{}", "s\n1\n1.5\nx\n", Ok("1|1.5|x")),
    ] {
        // As a table, and as a partition.
        let (project, table) = (Project::new(), dataset(&format!("{{type: {kind}, path: d/a, schema: {schema}}}")));
        let entry =
            format!("{{type: partitions.PartitionedDataset, path: d, dataset: {{type: {kind}, schema: {schema}}}}}");
        let parts = dataset(&entry);
        fs::create_dir(project.path("d")).expect("a folder");
        fs::write(project.path("d/a"), text).expect("writes");
        let source = parts.partition_source().expect("partitions");
        let listed = source.partitions(&project.stores).await.expect("lists");
        let part = async { collect(source.load_partition(&project.stores, &listed[0]).await?).await };
        for found in [read(&project, &*table).await, part.await] {
            match expected {
                Ok(expected) => {
                    let found = found.unwrap_or_else(|error| panic!("{kind} {schema}: {error}"));
                    assert_eq!(rows(&found).join("|"), expected, "{kind} {schema}");
                }
                Err(message) => {
                    let error = found.expect_err(message).to_string();
                    assert!(error.contains(message) && error.contains("d/a"), "{error}");
                }
            }
        }
    }
    let project = Project::new();
    let nested =
        dataset("{type: json, path: a.jsonl, schema: {v: 'REAL[2]', o: 'STRUCT<a BIGINT, b VARCHAR>', l: 'BIGINT[]'}}");
    fs::write(project.path("a.jsonl"), "{\"v\": [1, 2.5], \"o\": {\"a\": 1, \"b\": 2}}\n").expect("writes");
    let found = read(&project, &*nested).await.expect("reads");
    let types: Vec<String> = found.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["FixedSizeList(2 x Float32)", "Struct(\"a\": Int64, \"b\": Utf8)", "List(Int64)"]);
}

#[tokio::test]
async fn columns_of_parquet_are_selected() {
    for place in ["t.parquet", "memory://store/t.parquet"] {
        let (project, whole) = (Project::new(), dataset(&format!("{{type: parquet, path: '{place}'}}")));
        write(&project, &*whole, &[table(&[5, 6])], "w").await.expect("writes");
        let of =
            |columns: &str| dataset(&format!("{{type: parquet, path: '{place}', load_args: {{columns: {columns}}}}}"));
        let found = read(&project, &*of("[bucket, id]")).await.expect("reads");
        assert_eq!(
            (names(&found), rows(&found)),
            (vec!["bucket".into(), "id".into()], vec!["5 0".into(), "6 1".into()])
        );
        let counted = sql(&project, &*of("[id]"), "SELECT count(*) AS n FROM t").await;
        assert!(counted.contains("| 2 |"), "{counted}");
        let error = read(&project, &*of("[id, nope]")).await.expect_err("no such column").to_string();
        assert!(
            error.contains("it has no column `nope`, which `columns` asks for; it has id, text, bucket"),
            "{error}"
        );
    }
    // Hive columns are in no file, and every file of a folder has others than those that are read.
    let project = Project::new();
    write(&project, &*dataset_of_table("h", "bucket"), &[table(&[1, 1, 2])], "w").await.expect("writes");
    let of_table = dataset("{type: pandas.ParquetDataset, filepath: h, load_args: {columns: [text, bucket]}}");
    let found = read(&project, &*of_table).await.expect("reads");
    assert_eq!((names(&found), found.num_rows()), (vec!["text".into(), "bucket".into()], 3));
    let parts = dataset("{type: partitioned, path: h, dataset: {type: parquet, load_args: {columns: [id]}}}");
    let source = parts.partition_source().expect("partitions");
    let listed = source.partitions(&project.stores).await.expect("lists");
    let part = collect(source.load_partition(&project.stores, &listed[0]).await.expect("loads")).await.expect("rows");
    assert_eq!(names(&part), ["id", "bucket"]);
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
        (
            "{type: incremental, path: x, dataset: {type: csv, save_args: {sep: ;}}}",
            &["`sep` is `;` for writing and `,` for reading"],
        ),
        (
            "{type: csv, path: x, save_args: {escapechar: '!'}}",
            &["`escapechar` is `!` for writing and `null` for reading"],
        ),
        ("{type: csv, path: x, load_args: {comment: '#'}}", &["`comment: #` leaves out text that is written"]),
        ("{type: csv, path: x, load_args: {skiprows: [3]}}", &["`skiprows` leaves out rows that are written"]),
        ("{type: csv, path: x, save_args: {lineterminator: \"\\r\\n\"}}", &[]),
        (
            "{type: csv, path: x, save_args: {lineterminator: ';'}}",
            &["`lineterminator` is `;` for writing and `\\n` for reading"],
        ),
        (
            "{type: json, path: x, save_args: {orient: split}}",
            &["`lines` is `document, orient: split` for writing and `lines` for reading"],
        ),
    ] {
        assert_eq!(dataset(entry).differences(), expected, "{entry}");
    }
}
