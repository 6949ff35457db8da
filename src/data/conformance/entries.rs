//! Entries of the catalog: what is understood, and what is reported.

use super::*;

#[test]
fn names_are_unique_and_documented() {
    let mut seen = std::collections::HashSet::new();
    for kind in DATASETS {
        assert!(!kind.doc().is_empty() && !kind.fields().is_empty(), "{}", kind.name());
        for name in std::iter::once(kind.name()).chain(kind.aliases().iter().copied()) {
            assert!(seen.insert(name), "{name} names two types");
        }
    }
}

#[test]
fn entries_of_kedro_are_understood() {
    for (entry, kind, shape, supported) in [
        (
            "{type: spark.SparkDataset, filepath: x, save_args: {mode: overwrite, partitionBy: [bucket]}}",
            "parquet",
            Shape::Table,
            true,
        ),
        (
            "{type: spark.SparkDataset, filepath: x, file_format: csv, load_args: {header: true, inferSchema: true}}",
            "csv",
            Shape::Table,
            true,
        ),
        ("{type: kedro_datasets.pandas.ParquetDataset, filepath: x}", "parquet", Shape::Table, true),
        ("{type: pandas.CSVDataSet, filepath: x}", "csv", Shape::Table, true),
        (
            "{type: matrix_gcp_datasets.gcpPartitionedAsyncParallelDataset, path: x, dataset: {type: pandas.ParquetDataset}, max_workers: '20', timeout: 90, overwrite: True}",
            "partitioned",
            Shape::Partitions,
            true,
        ),
        (
            "{type: partitions.PartitionedDataset, path: x, dataset: pickle.PickleDataset}",
            "partitions.PartitionedDataset of pickle.PickleDataset",
            Shape::Partitions,
            false,
        ),
        (
            "{type: partitioned, path: x, dataset: {type: my_project.datasets.SpecialDataset, a: 1}}",
            "partitioned of my_project.datasets.SpecialDataset",
            Shape::Partitions,
            false,
        ),
        (
            "{type: partitioned, path: x, dataset: {type: matplotlib.MatplotlibWriter}}",
            "partitioned of matplotlib.MatplotlibWriter",
            Shape::Partitions,
            false,
        ),
        (
            "{type: partitions.IncrementalDataset, path: x, dataset: pandas.CSVDataset}",
            "incremental",
            Shape::Partitions,
            true,
        ),
        (
            "{type: partitions.IncrementalDataset, path: x, dataset: csv, checkpoint: {comparison_func: my.module.after}}",
            "partitions.IncrementalDataset with comparison_func my.module.after",
            Shape::Partitions,
            false,
        ),
        ("{type: pandas.CSVDataset, filepath: 'dbfs:/mnt/x.csv'}", "pandas.CSVDataset", Shape::Table, false),
        ("{type: partitioned, path: 'hdfs://host/x', dataset: csv}", "partitioned", Shape::Partitions, false),
        ("{type: yaml, path: 'sftp://host/x.yml'}", "yaml", Shape::Value, false),
        ("{type: pandas.ParquetDataset, filepath: x, save_args: {compression: GZIP}}", "parquet", Shape::Table, true),
        (
            "{type: pandas.CSVDataset, filepath: x, versioned: true}",
            "pandas.CSVDataset (versioned)",
            Shape::Table,
            false,
        ),
        ("{type: csv, path: x, versioned: false}", "csv", Shape::Table, true),
        ("{type: MemoryDataset}", "memory", Shape::Table, true),
        ("{type: kedro.io.MemoryDataset}", "memory", Shape::Table, true),
        ("{type: pickle.PickleDataset, filepath: x}", "pickle.PickleDataset", Shape::Value, false),
        ("{type: pandas.ExcelDataset, filepath: x}", "pandas.ExcelDataset", Shape::Table, false),
        ("{type: my_project.datasets.SpecialDataset, a: 1}", "my_project.datasets.SpecialDataset", Shape::Value, false),
    ] {
        let (dataset, problems) = try_dataset(entry);
        let dataset = dataset.unwrap_or_else(|| panic!("{entry}: {problems:?}"));
        let info = dataset.info();
        assert_eq!((info.type_name.as_str(), info.shape, info.supported), (kind, shape, supported), "{entry}");
    }
    let (dataset, _) = try_dataset(
        "{type: matrix_gcp_datasets.gcpPartitionedAsyncParallelDataset, path: x, dataset: {type: pandas.ParquetDataset}, max_workers: '20', timeout: 90, overwrite: True}",
    );
    let options = dataset.expect("decodes").partition_sink().expect("partitions").write_options();
    assert_eq!((options.max_workers, options.timeout.as_secs(), options.overwrite), (20, 90, true));
}

#[test]
fn mistakes_in_entries_are_reported() {
    for (entry, code) in [
        ("{type: parket, path: x}", "data::unknown-type"),
        ("{type: pandas.ParqetDataset, path: x}", "data::unknown-type"),
        ("{type: parquet, path: 'hfds://x/y'}", "data::bad-location"),
        ("{type: parquet, path: ~other/x}", "data::bad-location"),
        ("{type: parquet, path: x, save_args: {partition_by: [.k]}}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: parket}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: pickle.PickelDataset}", "data::bad-option"),
        ("{type: parquet, path: 's3://b/x', credentials: {sercet: x}}", "data::bad-location"),
        ("{type: parquet}", "config::missing-key"),
        ("{type: parquet, path: x, overwirte: true}", "config::unknown-key"),
        ("{type: parquet, path: x, save_args: {compression: best}}", "config::unknown-word"),
        ("{type: parquet, path: x, save_args: {row_group_size: 0}}", "config::out-of-range"),
        ("{type: parquet, path: x, file_format: orc}", "data::bad-option"),
        ("{type: parquet, path: x, save_args: {timeout: 0}}", "data::bad-option"),
        ("{type: parquet, path: x, timeout: 0}", "data::bad-option"),
        ("{type: json, path: x, load_args: {lines: true, orient: split}}", "data::bad-option"),
        ("{type: json, path: x, save_args: {orient: table}}", "config::unknown-word"),
        ("{type: csv, path: x, load_args: {sep: xx}}", "data::bad-option"),
        ("{type: csv, path: x, load_args: {sep: \"\\n\"}}", "data::bad-option"),
        ("{type: csv, path: x, load_args: {sep: ';', delimiter: ','}}", "config::duplicate-alias"),
        ("{type: csv, path: x, load_args: {infer_schema_length: many}}", "config::wrong-type"),
        ("{type: parquet, path: x, save_args: {mode: append}}", "data::bad-option"),
        ("{type: parquet, path: x, save_args: {partition_by: [a, a]}}", "data::bad-option"),
        ("{type: csv, path: x, load_args: {dtype: {a: strng}}}", "data::bad-option"),
        ("{type: csv, path: x, load_args: {skiprows: some}}", "data::bad-option"),
        ("{type: csv, path: x, save_args: {doublequote: false}}", "data::bad-option"),
        ("{type: csv, path: x, schema: {a: strng}}", "data::bad-option"),
        ("{type: csv, path: x, schema: {a: 'BIGINT[]'}}", "data::bad-option"),
        ("{type: csv, path: x, schema: [a]}", "config::wrong-type"),
        ("{type: csv, path: x, schema: {a: BIGINT}, load_args: {dtype: {a: str}}}", "data::bad-option"),
        ("{type: parquet, path: x, schema: {a: strng}}", "data::bad-option"),
        ("{type: parquet, path: x, load_args: {columns: []}}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: {type: csv, schema: {a: strng}}}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: {type: csv, schema: a}}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: {type: csv, overwrite: true}}", "config::unknown-key"),
        ("{type: partitioned, path: x, dataset: csv, load_args: {maxdepth: 1}}", "config::unknown-key"),
        ("{type: yaml, path: x, save_args: {indent: 4}}", "config::unknown-key"),
        ("{type: partitioned, path: x}", "config::missing-key"),
        ("{type: partitioned, path: x, dataset: parquet, save_args: {on_error: ignore}}", "config::unknown-word"),
        ("{type: partitioned, path: x, dataset: memory}", "data::bad-option"),
        ("{type: partitioned, path: x, dataset: {type: csv, load_args: {quotechar: long}}}", "data::bad-option"),
    ] {
        let (_, problems) = try_dataset(entry);
        assert!(problems.has_errors(), "{entry}");
        assert!(problems.as_slice().iter().any(|problem| problem.code == code), "{entry}: {problems:?}");
    }
    for (entry, help) in [
        ("{type: csv, path: x, load_args: {seperator: ;}}", "did you mean `separator`?"),
        ("{type: csv, path: x, load_args: {na_rep: ''}}", "`na_rep` is an option of `save_args`"),
        ("{type: parquet, path: x, load_args: {row_group_size: 5}}", "`row_group_size` is an option of `save_args`"),
        ("{type: arrow, path: x, load_args: {engine: x}}", "remove it: there are no options here"),
        ("{type: partitioned, path: x, dataset: {type: json, lod_args: {}}}", "did you mean `load_args`?"),
        ("{type: partitioned, path: x, dataset: {type: json, load_args: {line: true}}}", "did you mean `lines`?"),
    ] {
        let (_, problems) = try_dataset(entry);
        let found: Vec<_> = problems.as_slice().iter().map(|problem| (problem.code, problem.help.clone())).collect();
        assert_eq!(found, [("config::unknown-key", vec![help.to_owned()])], "{entry}");
    }
}

#[test]
fn options_of_foreign_types_that_are_not_read_are_said_unless_they_change_nothing() {
    for (entry, unread) in [
        ("{type: pandas.CSVDataset, filepath: x, load_args: {index_col: 0, engine: c}}", Some("index_col")),
        ("{type: pandas.CSVDataset, filepath: x, load_args: {index_col: false}}", None),
        ("{type: pandas.CSVDataset, filepath: x, load_args: {index_col: null}}", None),
        ("{type: pandas.CSVDataset, filepath: x, load_args: {parse_dates: [a]}}", Some("parse_dates")),
        ("{type: pandas.CSVDataset, filepath: x, save_args: {index: false}}", None),
        ("{type: pandas.CSVDataset, filepath: x, save_args: {index: true}}", Some("index")),
        ("{type: pandas.ParquetDataset, filepath: x, load_args: {columns: [id]}}", None),
        ("{type: pandas.ParquetDataset, filepath: x, load_args: {filters: [[a, '>', 1]]}}", Some("filters")),
        ("{type: pandas.JSONDataset, filepath: x, save_args: {double_precision: 2}}", Some("double_precision")),
        ("{type: partitioned, path: x, dataset: {type: pandas.CSVDataset, fs_args: {a: 1}}}", Some("fs_args")),
        ("{type: partitioned, path: x, dataset: {type: pandas.CSVDataset, metadata: {a: 1}}}", None),
        ("{type: pandas.ParquetDataset, filepath: x, load_args: {engine: pyarrow}}", None),
        ("{type: partitioned, path: x, dataset: {type: pandas.CSVDataset, save_args: {index: true}}}", Some("index")),
    ] {
        let (dataset, problems) = try_dataset(entry);
        assert!(dataset.is_some(), "{entry}: {problems:?}");
        let found: Vec<_> =
            problems.as_slice().iter().map(|problem| (problem.code, problem.message.as_str())).collect();
        match unread {
            None => assert!(found.is_empty(), "{entry}: {found:?}"),
            Some(name) => {
                let message = format!("`{name}` is not read, so the result may differ from that of pandas");
                assert!(
                    matches!(found.as_slice(), [("data::ignored-option", text)] if text.ends_with(&message)),
                    "{entry}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn every_type_decodes_without_opening_anything() {
    for shape in [Shape::Table, Shape::Partitions, Shape::Value] {
        for entry in entries(shape) {
            let dataset = dataset(&entry);
            assert_eq!(dataset.info().name, "d");
            assert_eq!(dataset.info().location.is_some(), dataset.location().is_some(), "{entry}");
        }
    }
}
