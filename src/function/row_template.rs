//! Templates over a row: the names of columns in minijinja are the values of the row.
//!
//! A name that is no column is an error; null is written as nothing, as in plain concatenation.

use std::{collections::BTreeMap, fmt};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type, Int64Type, Schema},
};
use minijinja::{Environment, UndefinedBehavior, Value};

use super::strings::strings;

/// A template over the columns of some batches.
pub(super) struct RowTemplate {
    /// The key under which it is written, for messages.
    key: &'static str,
    environment: Environment<'static>,
    /// The columns that it reads, by position.
    columns: Vec<(String, usize)>,
}

impl fmt::Debug for RowTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowTemplate").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// Checks that a template can be parsed.
///
/// # Errors
/// With the place of the mistake.
pub(super) fn check(template: &str) -> Result<(), String> {
    Environment::new().template_from_str(template).map(|_| ()).map_err(|error| error.to_string())
}

/// The columns that a template reads, sorted.
pub(super) fn variables(template: &str) -> Vec<String> {
    let environment = Environment::new();
    let Ok(template) = environment.template_from_str(template) else { return Vec::new() };
    let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    // Globals of the template engine are not columns.
    names.retain(|name| !environment.globals().any(|(global, _)| global == name));
    names.sort();
    names
}

impl RowTemplate {
    /// Compiles a template, which is written under `key`, for batches with these columns.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub(super) fn new(key: &'static str, template: &str, schema: &Schema) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_formatter(|out, state, value| {
            if value.is_none() { Ok(()) } else { minijinja::escape_formatter(out, state, value) }
        });
        environment.add_template_owned(key, template.to_owned()).map_err(|error| format!("`{key}`: {error}"))?;
        let names = variables(template).into_iter();
        let columns = names.filter_map(|name| Some((name.clone(), schema.index_of(&name).ok()?))).collect();
        Ok(Self { key, environment, columns })
    }

    /// The text of each row.
    ///
    /// # Errors
    /// With the first row that has none.
    pub(super) fn render(&self, batch: &RecordBatch, mut each: impl FnMut(String)) -> datafusion::error::Result<()> {
        let failed = |error: minijinja::Error| {
            datafusion::error::DataFusionError::Execution(format!("`{}`: {error:#}", self.key))
        };
        let template = self.environment.get_template(self.key).map_err(failed)?;
        for row in 0..batch.num_rows() {
            let mut values = BTreeMap::new();
            for (name, at) in &self.columns {
                values.insert(name.as_str(), value(name, batch.column(*at), row)?);
            }
            each(template.render(values).map_err(failed)?);
        }
        Ok(())
    }
}

/// A value of a row, for a template.
fn value(name: &str, column: &ArrayRef, row: usize) -> datafusion::error::Result<Value> {
    if column.is_null(row) {
        return Ok(Value::from(()));
    }
    let one = column.slice(row, 1);
    Ok(match column.data_type() {
        DataType::Boolean => Value::from(one.as_boolean().value(0)),
        kind if kind.is_integer() && *kind != DataType::UInt64 => {
            Value::from(cast(&one, &DataType::Int64)?.as_primitive::<Int64Type>().value(0))
        }
        DataType::Float64 => Value::from(one.as_primitive::<Float64Type>().value(0)),
        kind if kind.is_floating() => {
            // By its shortest digits: 0.1 of 32 bits is 0.1, and not 0.10000000149011612.
            let narrow = cast(&one, &DataType::Float32)?.as_primitive::<Float32Type>().value(0);
            Value::from(narrow.to_string().parse().unwrap_or(f64::from(narrow)))
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
            let items = match column.data_type() {
                DataType::List(_) => one.as_list::<i32>().value(0),
                DataType::LargeList(_) => one.as_list::<i64>().value(0),
                _ => one.as_fixed_size_list().value(0),
            };
            Value::from(
                (0..items.len()).map(|i| value(name, &items, i)).collect::<datafusion::error::Result<Vec<_>>>()?,
            )
        }
        DataType::Struct(fields) => {
            let one = one.as_struct();
            let entries = fields
                .iter()
                .zip(one.columns())
                .map(|(field, column)| Ok((field.name().clone(), value(name, column, 0)?)));
            Value::from(entries.collect::<datafusion::error::Result<BTreeMap<String, Value>>>()?)
        }
        _ => Value::from(strings(name, &one)?.as_string::<i32>().value(0)),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_template_names_the_columns_it_reads() {
        let template = "{% for c in categories %}{{ c }} {% endfor %}{{ name|upper }} {{ range(3) }}";
        assert_eq!(variables(template), ["categories", "name"]);
        assert!(check("{{ name").is_err());
    }

    #[test]
    fn values_are_inserted_as_they_are_and_what_is_no_column_is_an_error() {
        let name: ArrayRef = Arc::new(StringArray::from(vec![Some("{{ x }} & <b>"), None]));
        let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("name", name), ("n", n)]).expect("two columns");
        let render = |template: &str| {
            let mut all = Vec::new();
            let compiled = RowTemplate::new("prompt", template, batch.schema_ref()).expect("a template");
            compiled.render(&batch, |text| all.push(text)).map(|()| all).map_err(|error| error.to_string())
        };
        assert_eq!(render("{{ n }}: {{ name }}.").expect("rows"), ["1: {{ x }} & <b>.", "2: ."]);
        let error = render("{{ nam }}").expect_err("no column");
        assert!(error.contains("`prompt`") && error.contains("undefined"), "{error}");
    }

    #[test]
    fn a_float_of_32_bits_has_no_digits_that_it_does_not_hold() {
        let (narrow, wide) = (Float32Array::from(vec![0.1, 1e10, 2.0]), Float64Array::from(vec![0.1, 1e10, 2.0]));
        let columns: [(&str, ArrayRef); 2] = [("narrow", Arc::new(narrow)), ("wide", Arc::new(wide))];
        let batch = RecordBatch::try_from_iter(columns).expect("two columns");
        let template = "{{ narrow }} {{ wide }}";
        let compiled = RowTemplate::new("prompt", template, batch.schema_ref()).expect("a template");
        let mut all = Vec::new();
        compiled.render(&batch, |text| all.push(text)).expect("rows");
        assert_eq!(all, ["0.1 0.1", "10000000000.0 10000000000.0", "2.0 2.0"]);
    }
}
