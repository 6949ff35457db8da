//! Whole JSON documents as pandas writes them (`orient`), to JSON lines and back.
//!
//! A document has to be in memory, so its size has a limit. Values are passed on as they are written.

use std::{collections::HashMap, fmt, fmt::Write as _, io::Read};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A document may have this many bytes of text.
pub(super) const LIMIT: usize = 32 << 20;
/// And as lines, each of which names its columns, this many.
const LINES_LIMIT: usize = 8 * LIMIT;
/// The column of an index that is not just the numbers of the rows.
const INDEX: &str = "index";

/// Where the rows of a document are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orient {
    /// `{column: {index: value}}`; a list of objects is read, too.
    Columns,
    /// `[{column: value}]`.
    Records,
    /// `{index: {column: value}}`.
    Index,
    /// `{"columns": [column], "index": [index], "data": [[value]]}`.
    Split,
    /// `[[value]]`.
    Values,
}

impl Orient {
    /// pandas' words.
    pub(super) const WORDS: &[&str] = &["columns", "records", "index", "split", "values"];

    pub(super) fn of(word: &str) -> Self {
        match word {
            "records" => Self::Records,
            "index" => Self::Index,
            "split" => Self::Split,
            "values" => Self::Values,
            _ => Self::Columns,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Columns => "columns",
            Self::Records => "records",
            Self::Index => "index",
            Self::Split => "split",
            Self::Values => "values",
        }
    }
}

pub(super) fn too_large() -> String {
    format!(
        "it is larger than {} MiB as one JSON document, which has to be in memory; use JSON lines (`lines: true`)",
        LIMIT >> 20
    )
}

/// An object in the order written.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[derive(Deserialize)]
struct Split<'a> {
    #[serde(borrow)]
    columns: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    index: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    data: Vec<Vec<&'a RawValue>>,
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str, orient: Orient) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let orient = orient.name();
        format!(
            "{error}; expected a document with `orient: {orient}`; lines of JSON are read with `load_args: {{lines: true}}`"
        )
    })
}

/// The rows of a document as JSON lines.
pub(super) fn lines(source: impl Read, orient: Orient) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    source.take(LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > LIMIT {
        return Err(too_large());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not text in UTF-8".to_owned())?;
    let is_list = text.trim_start().starts_with('[');
    let mut out = String::with_capacity(text.len());
    match orient {
        Orient::Records | Orient::Columns if is_list => {
            for row in parsed::<Vec<&RawValue>>(&text, Orient::Records)? {
                out.push_str(row.get());
                out.push('\n');
            }
        }
        Orient::Columns => columns(&parsed::<Object<'_>>(&text, orient)?, &mut out)?,
        Orient::Index => {
            let Object(rows) = parsed(&text, orient)?;
            let index: Vec<String> = rows.iter().map(|(key, _)| quoted(key)).collect();
            let index = kept(&index);
            for (i, (_, row)) in rows.iter().enumerate() {
                let Object(cells) = parsed(row.get(), orient)?;
                line(
                    &mut out,
                    index.map(|index| index[i].as_str()),
                    cells.iter().map(|(name, cell)| (name.as_str(), cell.get())),
                )?;
            }
        }
        Orient::Split => {
            let Split { columns, index, data } = parsed(&text, orient)?;
            let names: Vec<String> = columns.iter().map(|name| unquoted(name.get())).collect();
            let index: Vec<String> = index.unwrap_or_default().iter().map(|key| key.get().to_owned()).collect();
            rows(&data, &names, kept(&index).filter(|index| index.len() == data.len()), &mut out)?;
        }
        Orient::Values => {
            let data: Vec<Vec<&RawValue>> = parsed(&text, orient)?;
            let names: Vec<String> = (0..data.first().map_or(0, Vec::len)).map(|column| column.to_string()).collect();
            rows(&data, &names, None, &mut out)?;
        }
        Orient::Records => return Err("it is not a list; expected a document with `orient: records`".to_owned()),
    }
    Ok(out.into_bytes())
}

fn rows(data: &[Vec<&RawValue>], names: &[String], index: Option<&[String]>, out: &mut String) -> Result<(), String> {
    for (i, row) in data.iter().enumerate() {
        if row.len() != names.len() {
            return Err(format!("row {}: expected {} values, found {}", i + 1, names.len(), row.len()));
        }
        let cells = names.iter().zip(row).map(|(name, cell)| (name.as_str(), cell.get()));
        line(out, index.map(|index| index[i].as_str()), cells)?;
    }
    Ok(())
}

fn columns(document: &Object<'_>, out: &mut String) -> Result<(), String> {
    let mut columns = Vec::with_capacity(document.0.len());
    let mut keys: Vec<String> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut held = 0;
    for (name, column) in &document.0 {
        let Object(cells) = parsed(column.get(), Orient::Columns)?;
        let mut values: Vec<Option<&RawValue>> = vec![None; keys.len()];
        for (i, (key, cell)) in cells.into_iter().enumerate() {
            let place = if keys.get(i) == Some(&key) {
                i
            } else {
                *places.entry(key).or_insert_with_key(|key| {
                    keys.push(key.clone());
                    keys.len() - 1
                })
            };
            if place >= values.len() {
                values.resize(place + 1, None);
            }
            values[place] = Some(cell);
        }
        held += values.len();
        if held > LIMIT {
            return Err("its columns have too many different indices".to_owned());
        }
        columns.push((name, values));
    }
    let index: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
    let index = kept(&index);
    for i in 0..keys.len() {
        let cells = columns
            .iter()
            .map(|(name, values)| (name.as_str(), values.get(i).copied().flatten().map_or("null", RawValue::get)));
        line(out, index.map(|index| index[i].as_str()), cells)?;
    }
    Ok(())
}

/// An index that says more than the numbers of the rows.
fn kept(index: &[String]) -> Option<&[String]> {
    let numbers = index.iter().enumerate().all(|(i, key)| key.trim_matches('"') == i.to_string());
    (!numbers).then_some(index)
}

fn line<'a>(
    out: &mut String,
    index: Option<&str>,
    cells: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), String> {
    out.push('{');
    if let Some(index) = index {
        let _ = write!(out, "\"{INDEX}\":{index}");
    }
    for (i, (name, cell)) in cells.enumerate() {
        let comma = if i > 0 || index.is_some() { "," } else { "" };
        let _ = write!(out, "{comma}{}:{cell}", quoted(name));
        if out.len() > LINES_LIMIT {
            return Err(too_large());
        }
    }
    out.push_str("}\n");
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The name that a JSON value is: a string's text, a number's digits.
fn unquoted(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

/// A document of JSON lines that all have the columns `names`.
pub(super) fn document(lines: &str, names: &[String], orient: Orient) -> Result<String, String> {
    let mut rows = Vec::new();
    for line in lines.lines() {
        let Object(cells) = serde_json::from_str(line).map_err(|error| error.to_string())?;
        rows.push((line, cells));
    }
    let list = |items: Vec<String>| items.join(",");
    let values = |cells: &[(String, &RawValue)]| list(cells.iter().map(|(_, cell)| cell.get().to_owned()).collect());
    let whole = |rows: &[(&str, Vec<(String, &RawValue)>)]| {
        list(rows.iter().map(|(_, cells)| format!("[{}]", values(cells))).collect())
    };
    Ok(match orient {
        Orient::Records => format!("[{}]", list(rows.iter().map(|(line, _)| (*line).to_owned()).collect())),
        Orient::Values => format!("[{}]", whole(&rows)),
        Orient::Index => {
            let rows = rows.iter().enumerate().map(|(i, (line, _))| format!("\"{i}\":{line}"));
            format!("{{{}}}", list(rows.collect()))
        }
        Orient::Split => {
            let columns = list(names.iter().map(|name| quoted(name)).collect());
            let index = list((0..rows.len()).map(|i| i.to_string()).collect());
            format!("{{\"columns\":[{columns}],\"index\":[{index}],\"data\":[{}]}}", whole(&rows))
        }
        Orient::Columns => {
            let column = |(i, name): (usize, &String)| {
                let cells = rows.iter().enumerate().map(|(row, (_, cells))| {
                    format!("\"{row}\":{}", cells.get(i).map_or("null", |(_, cell)| cell.get()))
                });
                format!("{}:{{{}}}", quoted(name), list(cells.collect()))
            };
            format!("{{{}}}", list(names.iter().enumerate().map(column).collect()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, orient: &str) -> Result<String, String> {
        lines(text.as_bytes(), Orient::of(orient)).map(|lines| String::from_utf8(lines).expect("UTF-8"))
    }

    #[test]
    fn every_orient_is_read_as_pandas_reads_it() {
        for (orient, text, expected) in [
            (
                "columns",
                r#"{"a":{"0":1,"1":2},"b":{"0":"x","1":null}}"#,
                "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":null}\n",
            ),
            ("columns", r#"[{"a":1},{"b":2}]"#, "{\"a\":1}\n{\"b\":2}\n"),
            ("columns", r#"{"a":{"0":1},"b":{"1":2}}"#, "{\"a\":1,\"b\":null}\n{\"a\":null,\"b\":2}\n"),
            ("columns", r#"{"a":{"x":1}}"#, "{\"index\":\"x\",\"a\":1}\n"),
            ("records", r#" [{"a":1.50}]"#, "{\"a\":1.50}\n"),
            ("index", r#"{"0":{"a":1},"1":{"a":2}}"#, "{\"a\":1}\n{\"a\":2}\n"),
            ("index", r#"{"p":{"a":1}}"#, "{\"index\":\"p\",\"a\":1}\n"),
            ("split", r#"{"columns":["a",5],"index":[0],"data":[[1,"x"]]}"#, "{\"a\":1,\"5\":\"x\"}\n"),
            ("split", r#"{"columns":["a"],"index":[7],"data":[[1]]}"#, "{\"index\":7,\"a\":1}\n"),
            (
                "split",
                r#"{"columns":["a"],"data":[[123456789012345678901234567890]]}"#,
                "{\"a\":123456789012345678901234567890}\n",
            ),
            ("values", r#"[[1,"x"],[2,"y"]]"#, "{\"0\":1,\"1\":\"x\"}\n{\"0\":2,\"1\":\"y\"}\n"),
        ] {
            assert_eq!(read(text, orient).as_deref(), Ok(expected), "{orient} {text}");
        }
    }

    #[test]
    fn a_document_of_another_orient_is_an_error() {
        for (orient, text, message) in [
            ("records", r#"{"a":{"0":1}}"#, "it is not a list"),
            ("columns", "{\"a\":1}\n{\"a\":2}\n", "trailing characters"),
            ("split", r#"[1]"#, "expected a document with `orient: split`"),
            ("values", r#"[[1],[1,2]]"#, "row 2: expected 1 values, found 2"),
            ("columns", r#"{"a":{"0":1}"#, "EOF"),
        ] {
            let error = read(text, orient).expect_err(text);
            assert!(error.contains(message), "{error}");
        }
        let large = vec![b' '; LIMIT + 1];
        assert_eq!(lines(&large[..], Orient::Columns), Err(too_large()));
    }

    #[test]
    fn a_document_is_read_back_as_it_was_written() {
        let rows = "{\"a\":1,\"b\":\"x\\\"\"}\n{\"a\":null,\"b\":[1,2]}\n";
        let names = ["a".to_owned(), "b".to_owned()];
        for word in Orient::WORDS {
            let orient = Orient::of(word);
            assert_eq!(orient.name(), *word);
            let text = document(rows, &names, orient).expect("rows");
            let expected = if orient == Orient::Values {
                rows.replace("\"a\"", "\"0\"").replace("\"b\"", "\"1\"")
            } else {
                rows.to_owned()
            };
            assert_eq!(read(&text, word), Ok(expected), "{text}");
        }
    }
}
