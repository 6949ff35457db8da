//! The text of a row: its features concatenated, or a template over it; truncated by characters, not by bytes.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder},
    compute::can_cast_types,
    datatypes::{DataType, Field, Schema},
};

use crate::function::{FunctionError, row_template::RowTemplate, strings::strings};

/// Builds the texts of batches.
pub(super) struct TextBuilder {
    limit: usize,
    source: Source,
}

enum Source {
    /// Positions of the features, in order; duplicates are allowed.
    Features(Vec<usize>),
    /// A template over the row.
    Template(Box<RowTemplate>),
}

const NAME: &str = "text_template";

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
                let template = RowTemplate::new(NAME, template, &Schema::new(fields.to_vec()));
                Source::Template(Box::new(template.map_err(FunctionError::Failed)?))
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
            Source::Template(template) => {
                template.render(batch, |text| out.append_value(truncate(&text, self.limit)))?;
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
}
