//! What a dataset holds, in a form that a page shows: its first rows as text, its columns, its partitions.

use std::time::Duration;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use serde_json::{Value as Json, json};

use crate::{
    data::{self, Dataset, Stores},
    model::{SecretMask, Shape, visible_line},
};

/// The most rows and partitions of a preview.
const ROWS: usize = 100;
const PARTITIONS: usize = 1000;
/// Longer cells are truncated.
const CELL: usize = 300;
/// The longest text of a value.
const VALUE: usize = 20_000;
/// A preview that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The columns and the first rows of a dataset; for one that can be listed, its partitions. Texts that are cut are masked before,
/// since half of a secret is not known as one.
///
/// # Errors
/// When it cannot be read, with the reason.
pub(super) async fn preview(
    dataset: &dyn Dataset,
    stores: &Stores,
    session: &SessionContext,
    limit: usize,
    secrets: &SecretMask,
) -> Result<Json, String> {
    let read = async {
        let info = dataset.info();
        let mut preview = json!({
            "name": info.name, "location": info.location,
            "value": null, "columns": null, "rows": null, "partitions": null, "more_partitions": 0,
        });
        if info.shape == Shape::Value {
            let value = dataset.document().map_err(text)?.value(stores).await.map_err(text)?;
            let shown = serde_json::to_string_pretty(&value).map_err(text)?;
            preview["value"] = json!(clipped(&secrets.mask(&shown), VALUE));
            return Ok(preview);
        }
        // A table may be in partitions too.
        let partitions = match dataset.partition_source() {
            Ok(source) => source.partitions(stores).await,
            Err(error) => Err(error),
        };
        if info.shape == Shape::Partitions || partitions.is_ok() {
            let all = partitions.map_err(text)?;
            let list = all.iter().take(PARTITIONS).map(|partition| {
                let bytes: u64 = partition.files.iter().map(|file| file.size).sum();
                let rows = partition.receipt.and_then(|receipt| receipt.rows);
                json!({"partition": partition.key.to_string(), "bytes": bytes, "rows": rows})
            });
            preview["partitions"] = list.collect();
            preview["more_partitions"] = json!(all.len().saturating_sub(PARTITIONS));
        }
        let table = dataset.table_source().map_err(text)?.table(stores).await.map_err(text)?;
        let columns = table.schema();
        let of_field = |field: &arrow::datatypes::FieldRef| json!({"name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable()});
        preview["columns"] = columns.fields().iter().map(of_field).collect();
        let frame = session.read_table(table).and_then(|frame| frame.limit(0, Some(limit.clamp(1, ROWS))));
        let batches = match frame {
            Ok(frame) => frame.collect().await.map_err(|error| data::explain(&error))?,
            Err(error) => return Err(data::explain(&error)),
        };
        let options = FormatOptions::default().with_null("null");
        let mut rows = Vec::new();
        for batch in &batches {
            let cells = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
            let cells = cells.collect::<Result<Vec<_>, _>>().map_err(text)?;
            for row in 0..batch.num_rows() {
                let cell = |cell: &ArrayFormatter<'_>| {
                    clipped(&visible_line(&secrets.mask(&cell.value(row).to_string())), CELL)
                };
                rows.push(json!(cells.iter().map(cell).collect::<Vec<_>>()));
            }
        }
        preview["rows"] = json!(rows);
        Ok(preview)
    };
    match tokio::time::timeout(TIMEOUT, read).await {
        Ok(preview) => preview,
        Err(_) => Err(format!("it was not read within {} s", TIMEOUT.as_secs())),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::clipped;

    #[test]
    fn long_cells_are_clipped_by_characters() {
        assert_eq!((clipped("äöü", 3), clipped("äöüß", 3)), ("äöü".to_owned(), "äö…".to_owned()));
    }
}
