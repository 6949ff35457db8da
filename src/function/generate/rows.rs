//! From answers to the columns of some rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use serde_json::Value as Json;

use super::{
    answer::Answer,
    settings::{Extra, GenerateSettings},
};
use crate::{
    function::{FunctionError, PartitionChunk, answer_client::Answered, chunks::joined},
    model::RowTally,
    net::client::AnswerSource,
};

/// What became of a row before anything was sent.
#[derive(Debug, Clone)]
pub enum Row {
    /// Its prompt is this one, and the repetitions after it.
    Asked(u32),
    /// It has nothing to ask.
    Empty(&'static str),
    /// It cannot be asked.
    Failed(Arc<str>),
}

/// The values of a row, and why it has none.
#[derive(Debug, Clone, Default)]
struct Values {
    /// One for each column; empty where there are none.
    values: Vec<Json>,
    reason: Option<Arc<str>>,
}

/// The rows of a batch with the columns of their answers.
///
/// # Errors
/// When the columns do not fit the schema.
pub fn assemble(
    settings: &GenerateSettings,
    schema: &SchemaRef,
    batch: &RecordBatch,
    rows: &[Row],
    answers: &[Answered<Arc<Answer>>],
) -> Result<PartitionChunk, FunctionError> {
    let repeat = settings.repeat as usize;
    let columns = settings.columns();
    // Of each prompt once.
    let prompts: Vec<Values> = answers.chunks(repeat).map(|repetitions| values(settings, repetitions)).collect();
    let mut tally = RowTally::default();
    let mut counted = vec![false; prompts.len()];
    let mut last_error = None;
    let none = Values::default();
    let mut all: Vec<&Values> = Vec::with_capacity(rows.len());
    let mut reasons: Vec<Option<&str>> = Vec::with_capacity(rows.len());
    for row in rows {
        let (values, reason) = match row {
            Row::Asked(first) => {
                let at = *first as usize / repeat;
                let values = &prompts[at];
                let sources = &answers[at * repeat..(at + 1) * repeat];
                let paid = sources.iter().any(|(_, source)| *source == AnswerSource::Request);
                let first = !std::mem::replace(&mut counted[at], true);
                match &values.reason {
                    Some(reason) => {
                        tally.error += 1;
                        last_error = Some(Arc::clone(reason));
                    }
                    None if first && paid => tally.ok += 1,
                    None => tally.cached += 1,
                }
                (Some(values), values.reason.as_deref())
            }
            Row::Empty(reason) => {
                tally.empty += 1;
                (None, Some(*reason))
            }
            Row::Failed(reason) => {
                tally.error += 1;
                last_error = Some(Arc::clone(reason));
                (None, Some(&**reason))
            }
        };
        all.push(values.unwrap_or(&none));
        reasons.push(reason);
    }
    let array = |at: usize| {
        let values: Vec<Option<&Json>> =
            all.iter().map(|row| row.values.get(at).filter(|value| !value.is_null())).collect();
        columns[at].1.array(&values)
    };
    let mut computed: Vec<(&str, ArrayRef)> =
        columns.iter().enumerate().map(|(at, (name, _))| (name.as_str(), array(at))).collect();
    computed.push((&settings.error_column, Arc::new(reasons.into_iter().collect::<StringArray>())));
    let batch = joined(schema, batch, &computed)?;
    Ok(PartitionChunk { batch, tally, last_error })
}

/// The values of a prompt in all its repetitions.
fn values(settings: &GenerateSettings, repetitions: &[Answered<Arc<Answer>>]) -> Values {
    let each: Vec<Values> = repetitions.iter().map(|(answer, _)| one(settings, answer.as_ref())).collect();
    let [only] = &each[..] else {
        let columns = settings.columns().len();
        let list = |at: usize| Json::Array(each.iter().map(|one| one.values[at].clone()).collect());
        let failed: Vec<&Arc<str>> = each.iter().filter_map(|one| one.reason.as_ref()).collect();
        let reason = failed.first().map(|first| format!("{} of {}: {first}", failed.len(), each.len()).into());
        return Values { values: (0..columns).map(list).collect(), reason };
    };
    only.clone()
}

/// The values of one answer.
fn one(settings: &GenerateSettings, answer: Result<&Arc<Answer>, &Arc<str>>) -> Values {
    let answer_columns = settings.format.columns().len();
    let (mut values, reason) = match answer.map(|answer| answer.values.as_ref()) {
        Ok(Ok(values)) => (values.clone(), None),
        Ok(Err(why)) | Err(why) => (vec![Json::Null; answer_columns], Some(Arc::clone(why))),
    };
    let generated = answer.ok().map(|answer| &answer.generated);
    for (_, extra) in &settings.extra {
        let input = generated.and_then(|generated| generated.input_tokens);
        let output = generated.and_then(|generated| generated.output_tokens);
        values.push(match extra {
            Extra::Raw => generated.map_or(Json::Null, |generated| Json::from(generated.text.as_str())),
            Extra::Tokens => Json::from(input.zip(output).map(|(input, output)| input.saturating_add(output))),
            Extra::InputTokens => Json::from(input),
            Extra::OutputTokens => Json::from(output),
        });
    }
    Values { values, reason }
}
