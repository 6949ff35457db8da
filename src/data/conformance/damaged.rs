//! Parquet files with damaged bytes, and values at the edge of what parquet and Arrow hold.

use ::parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    data_type::{ByteArrayType, Int96, Int96Type},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use arrow::{
    array::{Float64Array, TimestampSecondArray},
    datatypes::{DataType, TimeUnit},
};

use super::*;

/// A small file with numbers and strings, in the plain encoding and with a dictionary.
fn whole() -> Vec<u8> {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..40).map(|n| n * n * 1000)));
    let floats: ArrayRef = Arc::new(Float64Array::from_iter((0..40).map(|n| (n % 3 != 0).then(|| f64::from(n) / 7.0))));
    let strings: ArrayRef =
        Arc::new(StringArray::from_iter((0..40).map(|n| (n % 5 != 0).then(|| format!("s{}", n % 7)))));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("f", floats), ("s", strings)]).expect("three columns");
    let properties = WriterProperties::builder().set_column_dictionary_enabled("n".into(), false).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a schema");
    writer.write(&batch).expect("written");
    writer.into_inner().expect("a file")
}

#[tokio::test]
async fn a_damaged_parquet_file_is_an_error_with_its_name_and_never_a_panic() {
    let project = Project::new();
    fs::create_dir(project.path("p")).expect("a folder");
    let (table, whole) = (dataset("{type: parquet, path: p}"), whole());
    fs::write(project.path("p/a.parquet"), &whole).expect("written");
    assert_eq!(read(&project, &*table).await.expect("whole").num_rows(), 40);
    let mut refused = 0;
    // Every byte of the footer, and every third of the pages.
    let positions = (0..whole.len()).filter(|at| at % 3 == 0 || *at > whole.len() / 2);
    for (at, flip) in positions.flat_map(|at| [(at, 0xff), (at, 0x01)]) {
        let mut damaged = whole.clone();
        damaged[at] ^= flip;
        fs::write(project.path("p/a.parquet"), &damaged).expect("written");
        if let Err(error) = read(&project, &*table).await {
            refused += 1;
            assert!(error.to_string().contains("p/a.parquet"), "byte {at} ^ {flip:#x}: {error}");
        }
    }
    assert!(refused > 100, "only {refused} files were refused");
}

/// A file of one column `t` of times of 96 bits: nanoseconds of a Julian day.
fn int96(times: &[(u64, u32)]) -> Vec<u8> {
    let schema = parse_message_type("message m { required int96 t; }").expect("a schema");
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default()).expect("a file");
    for times in times.chunks(2) {
        let mut group = file.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("one");
        let time = |(nanoseconds, day): &(u64, u32)| {
            let mut value = Int96::new();
            value.set_data(*nanoseconds as u32, (nanoseconds >> 32) as u32, *day);
            value
        };
        let times: Vec<Int96> = times.iter().map(time).collect();
        column.typed::<Int96Type>().write_batch(&times, None, None).expect("written");
        column.close().expect("a column");
        group.close().expect("a row group");
    }
    file.into_inner().expect("a file")
}

/// The same file as a table and as a partition.
async fn read_both(project: &Project, file: &[u8]) -> [Result<RecordBatch, DataError>; 2] {
    fs::create_dir_all(project.path("p/b=1")).expect("folders");
    fs::write(project.path("t.parquet"), file).expect("written");
    fs::write(project.path("p/b=1/t.parquet"), file).expect("written");
    let table = read(project, &*dataset("{type: parquet, path: t.parquet}")).await;
    let partitioned = dataset("{type: partitioned, path: p, dataset: parquet}");
    let source = partitioned.partition_source().expect("partitions");
    let partitions = source.partitions(&project.stores).await.expect("listed");
    let rows = match source.load_partition(&project.stores, &partitions[0]).await {
        Ok(rows) => collect(rows).await,
        Err(error) => Err(error),
    };
    [table, rows]
}

#[tokio::test]
async fn times_of_96_bits_reach_the_year_9999() {
    let project = Project::new();
    // Julian days of 2020-01-01 and 9999-12-31, with 1.5 seconds.
    for rows in read_both(&project, &int96(&[(1_500_000_000, 2_458_850), (1_500_000_000, 5_373_484)])).await {
        let rows = rows.expect("read");
        let formatter =
            arrow::util::display::ArrayFormatter::try_new(rows.column(0), &Default::default()).expect("times");
        let values = [formatter.value(0).to_string(), formatter.value(1).to_string()];
        assert_eq!(values, ["2020-01-01T00:00:01.500", "9999-12-31T00:00:01.500"]);
    }
}

#[tokio::test]
async fn a_time_of_96_bits_with_digits_below_microseconds_is_an_error_with_its_row() {
    let project = Project::new();
    let exact = (1_500_000_000, 2_458_850);
    for (inexact, part) in
        [((1_500_000_001, 2_458_850), "1500000001 nanoseconds after day 18262"), ((0, 400_000_000), "day 397559412")]
    {
        for rows in read_both(&project, &int96(&[exact, exact, exact, inexact, exact])).await {
            let error = rows.expect_err("refused").to_string();
            for part in ["t.parquet cannot be read as parquet", "row 4: column `t` holds a time", part] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_decimal_of_no_bytes_is_an_error_with_its_row_and_no_zero() {
    let project = Project::new();
    let schema = parse_message_type("message m { optional binary v (DECIMAL(4, 2)); }").expect("a schema");
    for (values, wrong) in
        [([&[0, 100][..], &[255]], None), ([&[0, 100], &[]], Some("row 3: column `v` holds a decimal of no bytes"))]
    {
        let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema.clone()), Arc::default()).expect("a file");
        let mut group = file.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("one");
        let values = values.map(|bytes: &[u8]| bytes.to_vec().into());
        column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 0, 1]), None).expect("written");
        column.close().expect("a column");
        group.close().expect("a row group");
        for rows in read_both(&project, &file.into_inner().expect("a file")).await {
            match wrong {
                None => assert_eq!(rows.expect("read").num_rows(), 3),
                Some(wrong) => assert!(rows.expect_err("refused").to_string().contains(wrong)),
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_claims_gigabytes_is_refused_before_they_are_reserved() {
    let project = Project::new();
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7; 5000]));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
    for compression in [Compression::SNAPPY, Compression::LZ4_RAW] {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a schema");
        writer.write(&batch).expect("written");
        let mut file = writer.into_inner().expect("a file");
        for rows in read_both(&project, &file).await {
            assert_eq!(rows.expect("whole").num_rows(), 5000);
        }
        // The first page's header: its type, then 40,000 bytes in a number of three bytes, whose largest is a megabyte.
        assert_eq!(file[4..10], [0x15, 0x00, 0x15, 0x80, 0xf1, 0x04]);
        file[7..10].copy_from_slice(&[0xfe, 0xff, 0x7f]);
        for rows in read_both(&project, &file).await {
            let error = rows.expect_err("refused").to_string();
            assert!(
                error.contains("t.parquet cannot be read as parquet") && error.contains("claims to hold"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn seconds_are_no_plain_integers_in_parquet() {
    let project = Project::new();
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(1_577_934_245), None]));
    let batch = RecordBatch::try_from_iter([("t", seconds)]).expect("one column");
    let table = dataset("{type: parquet, path: t.parquet}");
    write(&project, &*table, &[batch], "w").await.expect("written");
    let rows = read(&project, &*table).await.expect("read");
    assert_eq!(rows.schema().field(0).data_type(), &DataType::Timestamp(TimeUnit::Millisecond, None));
    assert_eq!(rows.column(0).null_count(), 1);
}
