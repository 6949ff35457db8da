//! Column types that users declare: `schema:` in the words of SQL, `load_args: {dtype: …}` in those of pandas and Polars.

use std::{collections::HashSet, sync::Arc};

use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef, TimeUnit};

use super::sql_types;
use crate::{
    config::{Field, Kind, Map, Node, Value},
    data::{args::FormatArgs, error::DataError},
    diagnostic::Diagnostics,
};

/// The option.
pub(super) const DTYPE: Field =
    Field::optional("dtype", Kind::Map(&Kind::Text), "", "types that are declared, not inferred, by column").or(&[
        "dtypes",
        "schema",
        "schema_overrides",
    ]);

/// Whether columns may hold lists and objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    None,
    Any,
}

/// Types that are declared, by column.
#[derive(Debug, Clone, Default)]
pub(super) struct DeclaredTypes(Vec<(String, DataType)>);

impl DeclaredTypes {
    /// Reads [`DTYPE`], and `schema:` of the dataset.
    pub(super) fn of(args: &FormatArgs<'_>, nesting: Nesting, problems: &mut Diagnostics) -> Self {
        let mut types: Vec<(String, DataType)> = Vec::new();
        for (column, entry) in args.schema.and_then(Node::as_map).into_iter().flat_map(Map::iter) {
            if column.starts_with("x-") || matches!(entry.node.value, Value::Unresolved) {
                continue;
            }
            match entry.node.as_text().and_then(sql_types::parse) {
                Some(data_type) if nesting == Nesting::None && data_type.is_nested() => {
                    let message =
                        format!("`schema`: column `{column}`: a value of this format is no list and no object");
                    problems.push(args.wrong(&entry.node, &message));
                }
                Some(data_type) => types.push((column.to_owned(), data_type)),
                None => problems.push(args.wrong(&entry.node, &sql_types::unknown(column))),
            }
        }
        for (column, entry) in args.load.record().map("dtype").into_iter().flat_map(|types| types.iter()) {
            if types.iter().any(|(known, _)| known == column) {
                let message = format!("column `{column}` has a type under `schema` and under `load_args`; give one");
                problems.push(args.wrong(&entry.node, &message));
                continue;
            }
            match entry.node.as_text().and_then(parse_type) {
                Some(data_type) => types.push((column.to_owned(), data_type)),
                None => {
                    let message = format!(
                        "the type of column `{column}` is not known; use str, int64, float64, bool, date or datetime"
                    );
                    problems.push(args.wrong(&entry.node, &message));
                }
            }
        }
        Self(types)
    }

    /// Inferred columns with the declared types in place.
    ///
    /// # Errors
    /// When a type is declared for a column that the file `shown` does not have.
    pub(super) fn apply(&self, schema: &Schema, shown: &str, format: &'static str) -> Result<SchemaRef, DataError> {
        let known: HashSet<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        if let Some((column, _)) = self.0.iter().find(|(column, _)| !known.contains(column.as_str())) {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!(
                "a type is declared for column `{column}`, which the file does not have; it has {}",
                names.join(", ")
            );
            return Err(DataError::corrupt(shown, format, message));
        }
        Ok(self.complete(schema))
    }

    /// Inferred columns with the declared types in place, and behind them the declared columns that were not seen.
    pub(super) fn complete(&self, schema: &Schema) -> SchemaRef {
        let fields = schema.fields().iter().map(|field| {
            let declared = self.0.iter().find(|(column, _)| column == field.name());
            let data_type = declared.map_or(field.data_type(), |(_, data_type)| data_type);
            Column::new(field.name(), data_type.clone(), true)
        });
        let unseen = self.0.iter().filter(|(column, _)| schema.field_with_name(column).is_err());
        let unseen = unseen.map(|(column, data_type)| Column::new(column, data_type.clone(), true));
        Arc::new(Schema::new(fields.chain(unseen).collect::<Vec<_>>()))
    }
}

/// The type behind a name; `None` for a name that is not known.
fn parse_type(name: &str) -> Option<DataType> {
    let name = name.trim().to_ascii_lowercase();
    Some(match name.as_str() {
        "str" | "string" | "object" | "utf8" | "text" | "varchar" | "category" | "categorical" => DataType::Utf8,
        "int" | "int64" | "integer" | "bigint" | "long" => DataType::Int64,
        "int32" => DataType::Int32,
        "int16" => DataType::Int16,
        "int8" => DataType::Int8,
        "uint64" => DataType::UInt64,
        "uint32" => DataType::UInt32,
        "uint16" => DataType::UInt16,
        "uint8" => DataType::UInt8,
        "float" | "float64" | "double" | "number" => DataType::Float64,
        "float32" => DataType::Float32,
        "bool" | "boolean" => DataType::Boolean,
        "date" | "date32" => DataType::Date32,
        "datetime" | "timestamp" | "datetime64" | "datetime64[ns]" => DataType::Timestamp(TimeUnit::Nanosecond, None),
        "datetime64[us]" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "datetime64[ms]" => DataType::Timestamp(TimeUnit::Millisecond, None),
        _ => return None,
    })
}
