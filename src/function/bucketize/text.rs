//! The text of a row: its features concatenated, or a template over it; truncated by characters, not by bytes.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder},
    compute::{can_cast_types, cast},
    datatypes::{DataType, Field, Float64Type, Int64Type},
};
use minijinja::{Environment, UndefinedBehavior, Value};

use super::{FunctionError, strings::strings};

/// Builds the texts of batches.
pub(super) struct TextBuilder {
    limit: usize,
    source: Source,
}

enum Source {
    /// Positions of the features, in order; duplicates are allowed.
    Features(Vec<usize>),
    /// A template, and the columns it reads by position.
    Template(Box<Environment<'static>>, Vec<(String, usize)>),
}

const NAME: &str = "text_template";

/// Checks that a template can be parsed.
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

impl TextBuilder {
    /// Builds from `features`, in order, or from a template if there is one, and truncates to `limit` characters. `fields`
    /// are the columns of the batches.
    pub(super) fn new(
        fields: &[Arc<Field>],
        features: &[String],
        template: Option<&str>,
        limit: usize,
    ) -> Result<Self, FunctionError> {
        let position = |name: &str| fields.iter().position(|field| field.name() == name);
        let source = match template {
            Some(template) => {
                let mut environment = Environment::new();
                environment.set_undefined_behavior(UndefinedBehavior::Strict);
                // Null renders as "", as in plain concatenation.
                environment.set_formatter(|out, state, value| {
                    if value.is_none() { Ok(()) } else { minijinja::escape_formatter(out, state, value) }
                });
                let failed = |error: minijinja::Error| FunctionError::Failed(format!("`text_template`: {error}"));
                environment.add_template_owned(NAME, template.to_owned()).map_err(failed)?;
                let names = variables(template).into_iter();
                Source::Template(
                    Box::new(environment),
                    names.filter_map(|name| position(&name).map(|i| (name, i))).collect(),
                )
            }
            None => {
                let columns: Vec<usize> = features.iter().filter_map(|name| position(name)).collect();
                for field in columns.iter().map(|i| &fields[*i]) {
                    if !can_cast_types(field.data_type(), &DataType::Utf8) {
                        return Err(FunctionError::Failed(format!(
                            "column `{}` is {}, which has no string form; use `text_template`, or cast it in a `sql` node before",
                            field.name(),
                            field.data_type()
                        )));
                    }
                }
                Source::Features(columns)
            }
        };
        Ok(Self { limit, source })
    }

    /// The texts of a batch, without nulls.
    pub(super) fn build(&self, batch: &RecordBatch) -> datafusion::error::Result<ArrayRef> {
        let rows = batch.num_rows();
        let mut out = StringBuilder::with_capacity(rows, rows * 32);
        match &self.source {
            Source::Features(columns) => {
                let columns = columns.iter().map(|i| strings(batch.schema_ref().field(*i).name(), batch.column(*i)));
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                let texts: Vec<_> = columns.iter().map(|column| column.as_string::<i32>()).collect();
                let mut text = String::new();
                for row in 0..rows {
                    text.clear();
                    for column in texts.iter().filter(|column| column.is_valid(row)) {
                        text.push_str(column.value(row));
                    }
                    out.append_value(truncate(&text, self.limit));
                }
            }
            Source::Template(environment, columns) => {
                let failed = |error: minijinja::Error| {
                    datafusion::error::DataFusionError::Execution(format!("`text_template`: {error:#}"))
                };
                let template = environment.get_template(NAME).map_err(failed)?;
                for row in 0..rows {
                    let mut values = BTreeMap::new();
                    for (name, i) in columns {
                        values.insert(name.as_str(), value(name, batch.column(*i), row)?);
                    }
                    let text = template.render(values).map_err(failed)?;
                    out.append_value(truncate(&text, self.limit));
                }
            }
        }
        Ok(Arc::new(out.finish()))
    }
}

/// The first `limit` characters.
fn truncate(text: &str, limit: usize) -> &str {
    // A string has at most as many characters as bytes.
    if text.len() <= limit {
        return text;
    }
    text.char_indices().nth(limit).map_or(text, |(end, _)| &text[..end])
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
        kind if kind.is_floating() => {
            Value::from(cast(&one, &DataType::Float64)?.as_primitive::<Float64Type>().value(0))
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
    use super::*;

    #[test]
    fn texts_are_truncated_by_characters() {
        for (text, limit, truncated) in
            [("abc", 2, "ab"), ("é漢字", 2, "é漢"), ("ab", 2, "ab"), ("", 3, ""), ("e\u{301}x", 2, "e\u{301}")]
        {
            assert_eq!(truncate(text, limit), truncated, "{text}");
        }
    }

    #[test]
    fn a_template_names_the_columns_it_reads() {
        let template = "{% for c in categories %}{{ c }} {% endfor %}{{ name|upper }} {{ range(3) }}";
        assert_eq!(variables(template), ["categories", "name"]);
        assert!(check("{{ name").is_err());
    }
}
