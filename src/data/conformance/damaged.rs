//! Parquet files with damaged bytes, and values at the edge of what parquet and Arrow hold.

use ::parquet::{
    arrow::ArrowWriter,
    data_type::{Int96, Int96Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
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

#[tokio::test]
async fn times_of_96_bits_reach_the_year_9999() {
    let project = Project::new();
    let schema = parse_message_type("message m { required int96 t; }").expect("a schema");
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default()).expect("a file");
    let mut group = file.next_row_group().expect("a row group");
    let mut column = group.next_column().expect("a column").expect("one");
    // Julian days of 2020-01-01 and 9999-12-31, with 1.5 seconds in nanoseconds.
    let time = |day: u32| {
        let mut value = Int96::new();
        value.set_data(1_500_000_000, 0, day);
        value
    };
    column.typed::<Int96Type>().write_batch(&[time(2_458_850), time(5_373_484)], None, None).expect("written");
    column.close().expect("a column");
    group.close().expect("a row group");
    fs::write(project.path("t.parquet"), file.into_inner().expect("a file")).expect("written");
    let rows = read(&project, &*dataset("{type: parquet, path: t.parquet}")).await.expect("read");
    let formatter = arrow::util::display::ArrayFormatter::try_new(rows.column(0), &Default::default()).expect("times");
    let values = [formatter.value(0).to_string(), formatter.value(1).to_string()];
    assert_eq!(values, ["2020-01-01T00:00:01.500", "9999-12-31T00:00:01.500"]);
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
