//! The three files of a static model, read and validated.
//!
//! Owns the model2vec layout and its invariants, so that an invalid model fails when it is opened, with the name of the
//! file, and not at some row. Must not know how texts are embedded.

use std::{borrow::Cow, fs, path::Path};

use serde_json::Value as Json;

use crate::model::Fingerprint;

/// The bytes of a model.
#[derive(Debug, Clone)]
pub(super) struct ModelFiles {
    pub(super) tokenizer: Cow<'static, [u8]>,
    pub(super) tensors: Cow<'static, [u8]>,
    pub(super) config: Cow<'static, [u8]>,
}

/// The built-in model. `assets/model/README.md` describes it and how it was built.
pub(super) static BUILT_IN: ModelFiles = ModelFiles {
    tokenizer: Cow::Borrowed(include_bytes!("../../assets/model/tokenizer.json")),
    tensors: Cow::Borrowed(include_bytes!("../../assets/model/model.safetensors")),
    config: Cow::Borrowed(include_bytes!("../../assets/model/config.json")),
};

/// The dimensions of [`BUILT_IN`].
pub(super) const BUILT_IN_DIMENSIONS: usize = 128;

impl ModelFiles {
    /// Reads a folder and validates it.
    ///
    /// # Errors
    /// A message that names the file and what is wrong with it.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let files = Self::load(folder)?;
        files.check().map_err(|problem| format!("the model in {} cannot be used: {problem}", folder.display()))?;
        Ok(files)
    }

    /// A digest of the files' content: a model is identified by its content, not by its path.
    pub(super) fn digest(&self) -> Fingerprint {
        Fingerprint::builder("built-in model").bytes(&self.tokenizer).bytes(&self.tensors).bytes(&self.config).finish()
    }

    /// Reads a folder without validating it.
    ///
    /// # Errors
    /// A message that names the file that cannot be read.
    pub(super) fn load(folder: &Path) -> Result<Self, String> {
        if !folder.is_dir() {
            return Err(format!(
                "the folder {} does not exist; `model` is a folder in model2vec layout, or left out for the built-in model",
                folder.display()
            ));
        }
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map(Cow::Owned).map_err(|error| {
                format!(
                    "{}: {error}; a model2vec folder holds tokenizer.json, model.safetensors and config.json",
                    path.display()
                )
            })
        };
        Ok(Self {
            tokenizer: read("tokenizer.json")?,
            tensors: read("model.safetensors")?,
            config: read("config.json")?,
        })
    }

    /// Validates the files.
    ///
    /// # Errors
    /// What is wrong, naming the file.
    pub(super) fn check(&self) -> Result<(), String> {
        let config: Json = serde_json::from_slice(&self.config).map_err(|e| format!("config.json: {e}"))?;
        if !config.is_object() {
            return Err("config.json is not a mapping".into());
        }
        let tokens = Tokens::read(&self.tokenizer)?;
        let tensors = Tensors::read(&self.tensors)?;
        let embeddings = ["embeddings", "0", "embedding.weight"].iter().find_map(|name| tensors.get(name));
        let embeddings = embeddings.ok_or("model.safetensors has no tensor `embeddings`")?;
        let [rows, columns] = embeddings.shape[..] else {
            return Err("model.safetensors: `embeddings` does not have two dimensions".into());
        };
        if rows == 0 || columns == 0 {
            return Err(format!("model.safetensors: `embeddings` is empty ({rows} rows of {columns} numbers)"));
        }
        let mapping = tensors.get("mapping").map(|mapping| mapping.integers()).transpose()?;
        let is_row = |row: i64| usize::try_from(row).is_ok_and(|row| row < rows);
        if let Some(row) = mapping.iter().flatten().find(|row| !is_row(**row)) {
            return Err(format!("model.safetensors: `mapping` points to row {row}, but there are {rows}"));
        }
        let known = mapping.as_ref().map_or(rows, Vec::len);
        if tokens.largest_id >= known as u64 {
            return Err(format!(
                "tokenizer.json has a token with id {}, but model.safetensors has vectors for {known} tokens",
                tokens.largest_id
            ));
        }
        match tensors.get("weights") {
            Some(weights) if weights.shape != [known] => {
                Err(format!("model.safetensors: `weights` has shape {:?}, but there are {known} tokens", weights.shape))
            }
            _ => Ok(()),
        }
    }
}

/// What is needed of a vocabulary.
struct Tokens {
    largest_id: u64,
}

impl Tokens {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let json: Json = serde_json::from_slice(bytes).map_err(|e| format!("tokenizer.json: {e}"))?;
        let model = &json["model"];
        let kind = model["type"].as_str().unwrap_or("without a type");
        let mut largest_id = match &model["vocab"] {
            Json::Object(vocab) => {
                let ids = vocab.iter().map(|(token, id)| {
                    id.as_u64()
                        .ok_or_else(|| format!("tokenizer.json: the id of `{token}` is {id}, expected an integer"))
                });
                ids.collect::<Result<Vec<_>, _>>()?.into_iter().max()
            }
            Json::Array(vocab) => (vocab.len() as u64).checked_sub(1),
            _ => return Err("tokenizer.json has no `model.vocab`".into()),
        }
        .ok_or("tokenizer.json: `model.vocab` is empty")?;
        if let ("WordPiece" | "WordLevel", Json::Object(vocab)) = (kind, &model["vocab"]) {
            let unknown = model["unk_token"].as_str().unwrap_or("[UNK]");
            if !vocab.contains_key(unknown) {
                return Err(format!(
                    "tokenizer.json: the token for unknown words, `{unknown}`, is not in the vocabulary"
                ));
            }
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let id =
                token["id"].as_u64().ok_or_else(|| format!("tokenizer.json: the added token {token} has no id"))?;
            largest_id = largest_id.max(id);
        }
        Ok(Self { largest_id })
    }
}

/// The tensors of a safetensors file: a length, a JSON header with the offsets of each, and their bytes.
struct Tensors<'a> {
    header: serde_json::Map<String, Json>,
    data: &'a [u8],
}

struct Tensor<'a> {
    kind: String,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl<'a> Tensors<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let cut = || "model.safetensors is truncated, or not a safetensors file".to_owned();
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| cut())?;
        let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
        let header: Json = serde_json::from_slice(header).map_err(|e| format!("model.safetensors: its header: {e}"))?;
        let Json::Object(header) = header else { return Err(cut()) };
        let tensors = Self { header, data };
        for name in tensors.header.keys().filter(|name| *name != "__metadata__") {
            tensors.get(name).ok_or_else(|| format!("model.safetensors: tensor `{name}` is outside the file"))?;
        }
        Ok(tensors)
    }

    /// `None` if it is missing, or not within the file.
    fn get(&self, name: &str) -> Option<Tensor<'a>> {
        let entry = self.header.get(name)?;
        let number = |json: &Json| json.as_u64().and_then(|n| usize::try_from(n).ok());
        let shape: Vec<usize> = entry["shape"].as_array()?.iter().map(number).collect::<Option<_>>()?;
        let data = self.data.get(number(&entry["data_offsets"][0])?..number(&entry["data_offsets"][1])?)?;
        Some(Tensor { kind: entry["dtype"].as_str()?.to_owned(), shape, data })
    }
}

impl Tensor<'_> {
    fn integers(&self) -> Result<Vec<i64>, String> {
        match &*self.kind {
            "I64" => Ok(self.data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            "I32" => Ok(self.data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()),
            kind => Err(format!("model.safetensors: `mapping` has type {kind}, expected I32 or I64")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tensors(header: &Json, data: &[u8]) -> Vec<u8> {
        let header = header.to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    /// Two tokens, two rows of two numbers.
    fn small() -> (Json, Json, Vec<u8>) {
        let tokenizer = json!({
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "cat": 1}},
            "added_tokens": [{"id": 0, "content": "[UNK]"}],
        });
        let header = json!({"embeddings": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}});
        (tokenizer, header, vec![0; 16])
    }

    fn check(tokenizer: &Json, header: &Json, data: &[u8]) -> Result<(), String> {
        let files = ModelFiles {
            tokenizer: tokenizer.to_string().into_bytes().into(),
            tensors: tensors(header, data).into(),
            config: b"{}".as_slice().into(),
        };
        files.check()
    }

    #[test]
    fn the_built_in_model_is_sound() {
        assert_eq!(BUILT_IN.check(), Ok(()));
        let embeddings = Tensors::read(&BUILT_IN.tensors).expect("a sound file").get("embeddings").expect("the table");
        assert_eq!(embeddings.shape[1], BUILT_IN_DIMENSIONS);
    }

    #[test]
    fn inconsistent_files_are_refused_by_name() {
        let (tokenizer, header, data) = small();
        assert_eq!(check(&tokenizer, &header, &data), Ok(()));
        let with = |mut json: Json, path: &str, value: Json| {
            *json.pointer_mut(path).expect("a pointer into the document") = value;
            json
        };
        let added = json!([{"id": 7, "content": "[NEW]"}]);
        for (tokenizer, header, wanted) in [
            (with(tokenizer.clone(), "/added_tokens", added), header.clone(), "a token with id 7"),
            (with(tokenizer.clone(), "/model/vocab", json!({"cat": 0})), header.clone(), "unknown words, `[UNK]`"),
            (with(tokenizer.clone(), "/model/vocab", json!({"[UNK]": "x"})), header.clone(), "the id of `[UNK]`"),
            (with(tokenizer.clone(), "/model/vocab", json!({})), header.clone(), "`model.vocab` is empty"),
            (json!({}), header.clone(), "no `model.vocab`"),
            (tokenizer.clone(), json!({}), "no tensor `embeddings`"),
            (tokenizer.clone(), with(header.clone(), "/embeddings/shape", json!([4])), "two dimensions"),
            (tokenizer.clone(), with(header.clone(), "/embeddings/shape", json!([0, 2])), "is empty"),
            (tokenizer.clone(), with(header.clone(), "/embeddings/shape", json!([1, 4])), "vectors for 1 tokens"),
            (tokenizer.clone(), with(header.clone(), "/embeddings/data_offsets", json!([0, 99])), "outside the file"),
        ] {
            let problem = check(&tokenizer, &header, &data).expect_err(wanted);
            assert!(problem.contains(wanted), "{problem}");
        }
    }

    #[test]
    fn a_mapping_and_weights_are_validated_against_the_table() {
        let (tokenizer, mut header, mut data) = small();
        data.extend([1_i32, 0].iter().flat_map(|n| n.to_le_bytes()));
        header["mapping"] = json!({"dtype": "I32", "shape": [2], "data_offsets": [16, 24]});
        assert_eq!(check(&tokenizer, &header, &data), Ok(()));
        for row in [2_i32, -1] {
            data.splice(20..24, row.to_le_bytes());
            let problem = check(&tokenizer, &header, &data).expect_err("a row that does not exist");
            assert!(problem.contains(&format!("row {row}")), "{problem}");
        }
        header["weights"] = json!({"dtype": "F32", "shape": [3], "data_offsets": [0, 12]});
        data.splice(20..24, [0; 4]);
        assert!(check(&tokenizer, &header, &data).is_err_and(|problem| problem.contains("`weights`")));
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let (tokenizer, header, data) = small();
        let whole = tensors(&header, &data);
        for length in 0..whole.len() {
            let files = ModelFiles {
                tokenizer: tokenizer.to_string().into_bytes().into(),
                tensors: whole[..length].to_vec().into(),
                config: b"{}".as_slice().into(),
            };
            assert!(files.check().is_err(), "{length}");
        }
    }
}
