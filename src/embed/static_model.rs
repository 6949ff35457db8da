//! Provider `static`: vectors from a local table of token vectors, without a key or a network.
//!
//! Owns the built-in model and models in model2vec layout: a text is split into tokens, each token has a vector, and the
//! text's vector is their weighted mean. Fast, and good at topics; it ignores word order, and nearly ignores negation. Must
//! not know the layout of a model's files ([`super::model_files`]).

use std::{path::PathBuf, sync::Arc, sync::OnceLock};

use arrow::array::{Array, StringArray, StringBuilder};
use async_trait::async_trait;
use model2vec_rs::model::StaticModel;

use super::{
    EMPTY_TEXT, Embedded, INVALID_VECTOR, OnTooLong, Provider, ProviderSpec, ProviderType,
    model_files::{BUILT_IN, BUILT_IN_DIMENSIONS, ModelFiles},
    rows::columns,
};
use crate::{
    config::{Field, Kind, Record},
    diagnostic::{Diagnostic, Diagnostics},
    embed::local_estimate::estimate_free,
    model::{Estimate, Fingerprint, RowTally, ServiceError, is_blank},
    net::{CpuPermits, ServiceContext, client::TOO_LONG},
};

/// `embedding_error` of a text without any token of the model.
const NO_KNOWN_WORDS: &str = "no_known_words";

static FIELDS: &[Field] = &[
    Field::optional("model", Kind::Text, "", "A folder in model2vec layout; left out for the built-in model."),
    Field::optional(
        "dimensions",
        Kind::Integer(1, 65_536),
        "",
        "Keep only the first so many numbers of each vector, scaled to unit length. The numbers are ordered by importance.",
    ),
    Field::optional(
        "max_chars",
        Kind::Integer(1, i64::MAX),
        "",
        "Texts with more characters are too long. The model itself has no limit.",
    ),
    OnTooLong::FIELD,
];

/// The provider type `static`.
pub(super) struct Static;

impl ProviderType for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn doc(&self) -> &'static str {
        "Vectors from a small built-in model, or from one in model2vec layout: no key, no network"
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn decode(&self, model: &Record<'_>, problems: &mut Diagnostics) -> Option<Arc<dyn ProviderSpec>> {
        let integer = |name| model.integer(name).and_then(|n| usize::try_from(n).ok());
        let spec = StaticSpec {
            folder: model.text("model").map(PathBuf::from),
            digest: OnceLock::new(),
            dimensions: integer("dimensions"),
            max_chars: integer("max_chars"),
            on_too_long: OnTooLong::read(model),
        };
        if let (None, Some(wanted)) = (&spec.folder, spec.dimensions.filter(|wanted| *wanted > BUILT_IN_DIMENSIONS)) {
            problems.push(
                Diagnostic::error(
                    "embed::dimensions",
                    format!("`dimensions` is {wanted}, but the built-in model has {BUILT_IN_DIMENSIONS}"),
                )
                .at(model.span("dimensions"), "")
                .help(format!("set `dimensions` to {BUILT_IN_DIMENSIONS} or less, or leave it out")),
            );
            return None;
        }
        Some(Arc::new(spec))
    }
}

#[derive(Debug, Clone, Default)]
struct StaticSpec {
    folder: Option<PathBuf>,
    /// The digest of the folder, once it was read.
    digest: OnceLock<Result<Fingerprint, ServiceError>>,
    dimensions: Option<usize>,
    max_chars: Option<usize>,
    on_too_long: OnTooLong,
}

impl StaticSpec {
    /// The digest of the model's content, read once.
    fn digest(&self, context: &ServiceContext) -> Result<Fingerprint, ServiceError> {
        let Some(folder) = &self.folder else { return Ok(built_in_fingerprint()) };
        let read = || Ok(ModelFiles::load(&context.root.join(folder)).map_err(ServiceError::Refused)?.digest());
        self.digest.get_or_init(read).clone()
    }
}

impl ProviderSpec for StaticSpec {
    fn identity(&self, context: &ServiceContext) -> Result<Fingerprint, ServiceError> {
        let number = |n: Option<usize>| n.map_or(0, |n| n as u64);
        Ok(Fingerprint::builder("static provider 1")
            .fingerprint(self.digest(context)?)
            .number(number(self.dimensions))
            .number(number(self.max_chars))
            .text(self.max_chars.map_or("", |_| self.on_too_long.as_str()))
            .finish())
    }

    fn open(&self, context: &ServiceContext) -> Result<Arc<dyn Provider>, ServiceError> {
        let model = match &self.folder {
            Some(folder) => {
                let files = ModelFiles::read(&context.root.join(folder)).map_err(ServiceError::Refused)?;
                if files.digest() != self.digest(context)? {
                    let message = format!("the model in {} changed during the run; run again", folder.display());
                    return Err(ServiceError::Refused(message));
                }
                load(&files)?
            }
            None => built_in()?,
        };
        let dimensions = self.dimensions.unwrap_or(model.dim());
        if dimensions > model.dim() {
            let message = format!("`dimensions` is {dimensions}, but the model has {}", model.dim());
            return Err(ServiceError::Refused(message));
        }
        let worker = Worker { model, dimensions, max_chars: self.max_chars, on_too_long: self.on_too_long };
        Ok(Arc::new(StaticProvider { worker: Arc::new(worker), permits: CpuPermits::default() }))
    }
}

fn built_in_fingerprint() -> Fingerprint {
    static DIGEST: OnceLock<Fingerprint> = OnceLock::new();
    *DIGEST.get_or_init(|| BUILT_IN.digest())
}

/// The built-in model, loaded once.
fn built_in() -> Result<StaticModel, ServiceError> {
    static MODEL: OnceLock<Result<StaticModel, ServiceError>> = OnceLock::new();
    MODEL.get_or_init(|| load(&BUILT_IN)).clone()
}

fn load(files: &ModelFiles) -> Result<StaticModel, ServiceError> {
    // Partitions run in parallel already; the library's own threads would be too many.
    tokenizers::parallelism::set_parallelism(false);
    StaticModel::from_bytes(&files.tokenizer, &files.tensors, &files.config, None)
        .map_err(|error| ServiceError::Refused(format!("the model cannot be used: {error:#}")))
}

#[derive(Debug)]
struct StaticProvider {
    worker: Arc<Worker>,
    permits: CpuPermits,
}

#[async_trait]
impl Provider for StaticProvider {
    async fn embed(&self, texts: &StringArray) -> Result<Embedded, ServiceError> {
        let (texts, worker) = (texts.clone(), Arc::clone(&self.worker));
        self.permits.run(move || worker.embed(&texts)).await
    }

    fn dimensions(&self) -> Option<usize> {
        Some(self.worker.dimensions)
    }

    fn estimate(&self, texts: &StringArray, estimate: &mut Estimate) -> Result<(), ServiceError> {
        estimate_free(texts, estimate);
        Ok(())
    }
}

#[derive(Debug)]
struct Worker {
    model: StaticModel,
    dimensions: usize,
    max_chars: Option<usize>,
    on_too_long: OnTooLong,
}

impl Worker {
    fn embed(&self, texts: &StringArray) -> Result<Embedded, ServiceError> {
        // The model needs copies of the texts: a chunk at a time, so that a large partition is not held twice.
        const CHUNK: usize = 1024;
        let (full, dimensions) = (self.model.dim(), self.dimensions);
        let mut values: Vec<f32> = Vec::with_capacity(texts.len() * dimensions);
        let mut errors = StringBuilder::with_capacity(texts.len(), 0);
        let mut tally = RowTally::default();
        let mut copies: Vec<String> = Vec::new();
        for start in (0..texts.len()).step_by(CHUNK) {
            let rows = start..texts.len().min(start + CHUNK);
            let text = |row| if texts.is_valid(row) { texts.value(row) } else { "" };
            let prepared: Vec<_> = rows.map(|row| self.prepare(text(row))).collect();
            copies.clear();
            copies.extend(prepared.iter().filter_map(|text| text.as_ref().ok()).map(|text| (*text).to_owned()));
            let vectors = self.model.encode_flat_with_args(&copies, None);
            let mut vectors = vectors.chunks_exact(full);
            for text in &prepared {
                let vector = text.and_then(|_| self.shorten(vectors.next().unwrap_or_default(), &mut values));
                match vector {
                    Ok(()) => {
                        tally.ok += 1;
                        errors.append_null();
                    }
                    Err(reason) => {
                        values.resize(values.len() + dimensions, 0.0);
                        *(if reason == EMPTY_TEXT { &mut tally.empty } else { &mut tally.error }) += 1;
                        errors.append_value(reason);
                    }
                }
            }
        }
        columns(values, dimensions, errors.finish(), tally)
    }

    /// The text to embed, or why there is none.
    fn prepare<'a>(&self, text: &'a str) -> Result<&'a str, &'static str> {
        if is_blank(text) {
            return Err(EMPTY_TEXT);
        }
        let end = self.max_chars.and_then(|limit| text.char_indices().nth(limit)).map(|(end, _)| end);
        match (end, self.on_too_long) {
            (Some(_), OnTooLong::Error) => Err(TOO_LONG),
            (Some(end), OnTooLong::Truncate) => Ok(&text[..end]),
            // A vector is a mean over tokens: that of the whole text is the mean of its pieces'.
            _ => Ok(text),
        }
    }

    /// Appends the first numbers of a vector, scaled to unit length if some were left out.
    fn shorten(&self, vector: &[f32], values: &mut Vec<f32>) -> Result<(), &'static str> {
        let kept = vector.get(..self.dimensions).ok_or(INVALID_VECTOR)?;
        let square: f32 = kept.iter().map(|number| number * number).sum();
        if square == 0.0 {
            return Err(NO_KNOWN_WORDS);
        }
        if !square.is_finite() {
            return Err(INVALID_VECTOR);
        }
        if kept.len() == vector.len() {
            values.extend_from_slice(kept);
        } else {
            let scale = 1.0 / square.sqrt();
            values.extend(kept.iter().map(|number| number * scale));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use arrow::{array::AsArray, datatypes::Float32Type};
    use serde_json::{Value as Json, json};

    use super::{super::testing, *};

    async fn embed(model: Json, texts: &[Option<&str>]) -> Embedded {
        let root = tempfile::tempdir().expect("a folder");
        let provider = testing::open(root.path(), &model).expect("a usable model");
        provider.embed(&StringArray::from(texts.to_vec())).await.expect("nothing to fail")
    }

    fn vector(embedded: &Embedded, row: usize) -> Vec<f32> {
        embedded.vectors.value(row).as_primitive::<Float32Type>().values().to_vec()
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// Of three texts the first two must be closer to each other than the first to the third.
    const CLOSER: &[[&str; 3]] = &[
        ["cat", "kitten", "tractor"],
        ["heart attack", "myocardial infarction", "broken leg"],
        ["protein kinase", "phosphorylation enzyme", "music festival"],
        ["aspirin", "ibuprofen", "mountain"],
        ["lung cancer", "pulmonary carcinoma", "car insurance"],
        ["doctor", "physician", "carpenter"],
        ["gene expression", "transcription of dna", "soccer match"],
        ["mouse model of obesity", "overweight mice", "computer keyboard"],
        ["type 2 diabetes", "insulin resistance", "bone fracture"],
        ["bacteria", "microbes", "skyscraper"],
        ["king", "queen", "bicycle"],
        ["ontology of diseases", "classification of disorders", "recipe for soup"],
        ["brain tumor", "glioma", "kidney stone"],
        ["plant species", "flora", "steel production"],
        ["database of chemical compounds", "molecule registry", "football club"],
    ];

    #[tokio::test]
    async fn similar_texts_have_similar_vectors() {
        let texts: Vec<_> = CLOSER.iter().flatten().map(|text| Some(*text)).collect();
        let embedded = embed(json!({}), &texts).await;
        assert_eq!(embedded.tally.ok, texts.len() as u64);
        for (at, [one, near, far]) in CLOSER.iter().enumerate() {
            let [a, b, c] = [0, 1, 2].map(|i| vector(&embedded, at * 3 + i));
            assert!(dot(&a, &b) > dot(&a, &c), "{one}: {near} {}, {far} {}", dot(&a, &b), dot(&a, &c));
        }
    }

    #[tokio::test]
    async fn digits_distinguish_texts() {
        let embedded = embed(json!({}), &[Some("type 1 diabetes"), Some("type 2 diabetes")]).await;
        let similarity = dot(&vector(&embedded, 0), &vector(&embedded, 1));
        assert!((0.8..0.98).contains(&similarity), "{similarity}");
    }

    #[tokio::test]
    async fn every_row_gets_a_vector_or_a_reason() {
        let word = "x".repeat(200);
        let texts = [Some("gene"), None, Some(""), Some(" \n"), Some("\u{4e2d}"), Some(&*word), Some("gene")];
        let embedded = embed(json!({}), &texts).await;
        let errors: Vec<_> = embedded.errors.iter().collect();
        let (empty, unknown) = (Some(EMPTY_TEXT), Some(NO_KNOWN_WORDS));
        assert_eq!(errors, [None, empty, empty, empty, unknown, unknown, None]);
        assert_eq!(embedded.tally, RowTally { ok: 2, cached: 0, empty: 3, error: 2 });
        assert_eq!(embedded.vectors.null_count(), 5);
        assert_eq!(vector(&embedded, 0), vector(&embedded, 6));
        assert!((dot(&vector(&embedded, 0), &vector(&embedded, 0)) - 1.0).abs() < 1e-4);
    }

    #[tokio::test]
    async fn rows_keep_their_order_over_many_chunks() {
        let texts: Vec<_> = (0..2500).map(|n| (n % 7 != 0).then(|| format!("gene {n}"))).collect();
        let all = embed(json!({}), &texts.iter().map(Option::as_deref).collect::<Vec<_>>()).await;
        for row in [1, 1023, 1024, 1025, 2047, 2048, 2499] {
            let alone = embed(json!({}), &[texts[row].as_deref()]).await;
            assert_eq!(all.vectors.is_null(row), row % 7 == 0);
            if row % 7 != 0 {
                assert_eq!(vector(&all, row), vector(&alone, 0), "row {row}");
            }
        }
    }

    #[tokio::test]
    async fn fewer_dimensions_are_the_first_ones_scaled_to_unit_length() {
        let full = vector(&embed(json!({}), &[Some("cell nucleus")]).await, 0);
        let cut = vector(&embed(json!({"dimensions": 32}), &[Some("cell nucleus")]).await, 0);
        assert_eq!((full.len(), cut.len()), (BUILT_IN_DIMENSIONS, 32));
        assert!((dot(&cut, &cut) - 1.0).abs() < 1e-4);
        assert!((dot(&cut, &full[..32]) / dot(&full[..32], &full[..32]).sqrt() - 1.0).abs() < 1e-4);
    }

    #[tokio::test]
    async fn long_texts_follow_on_too_long() {
        let long = "a gene é of interest";
        for (rule, same_as) in [("truncate", Some("a gene é")), ("error", None), ("mean", Some(long))] {
            let embedded = embed(json!({"max_chars": 8, "on_too_long": rule}), &[Some(long), Some("gene")]).await;
            assert!(embedded.vectors.is_valid(1));
            match same_as {
                Some(text) => {
                    assert_eq!(vector(&embedded, 0), vector(&embed(json!({}), &[Some(text)]).await, 0), "{rule}")
                }
                None => assert_eq!(embedded.errors.value(0), TOO_LONG),
            }
        }
    }

    #[tokio::test]
    async fn a_folder_with_the_same_files_gives_the_same_vectors() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("mine");
        fs::create_dir(&folder).expect("a writable folder");
        fs::write(folder.join("tokenizer.json"), &BUILT_IN.tokenizer).expect("free space");
        fs::write(folder.join("model.safetensors"), &BUILT_IN.tensors).expect("free space");
        let missing = testing::open(root.path(), &json!({"model": "mine"})).expect_err("a file is missing");
        assert!(missing.to_string().contains("config.json"), "{missing}");
        fs::write(folder.join("config.json"), &BUILT_IN.config).expect("free space");
        let provider = testing::open(root.path(), &json!({"model": "mine"})).expect("a usable model");
        let mine = provider.embed(&StringArray::from(vec!["enzyme"])).await.expect("nothing to fail");
        assert_eq!(vector(&mine, 0), vector(&embed(json!({}), &[Some("enzyme")]).await, 0));

        let error = testing::open(root.path(), &json!({"model": "mine", "dimensions": 500})).expect_err("too many");
        assert!(matches!(&error, ServiceError::Refused(text) if text.contains("the model has 128")), "{error}");
        let error = testing::open(root.path(), &json!({"model": "not-there"})).expect_err("no folder");
        assert!(matches!(&error, ServiceError::Refused(text) if text.contains("does not exist")), "{error}");
    }

    #[test]
    fn identities_differ_where_vectors_may() {
        let context = testing::context(Path::new(""));
        let spec = |dimensions, max_chars, on_too_long| {
            let spec = StaticSpec { dimensions, max_chars, on_too_long, ..StaticSpec::default() };
            spec.identity(&context).expect("the built-in model")
        };
        let plain = spec(None, None, OnTooLong::Truncate);
        assert_eq!(plain, spec(None, None, OnTooLong::Error), "without a limit nothing is too long");
        let others = [
            spec(Some(64), None, OnTooLong::Truncate),
            spec(None, Some(64), OnTooLong::Truncate),
            spec(None, Some(64), OnTooLong::Mean),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != plain && !others[..at].contains(other));
        }
    }

    #[test]
    fn another_model_in_the_same_folder_is_another_model() {
        let root = tempfile::tempdir().expect("a folder");
        let context = testing::context(root.path());
        let spec = || StaticSpec { folder: Some("mine".into()), ..StaticSpec::default() };
        assert!(matches!(spec().identity(&context), Err(ServiceError::Refused(_))), "there is none");
        let folder = root.path().join("mine");
        fs::create_dir(&folder).expect("a writable folder");
        fs::write(folder.join("tokenizer.json"), &BUILT_IN.tokenizer).expect("free space");
        fs::write(folder.join("model.safetensors"), &BUILT_IN.tensors).expect("free space");
        fs::write(folder.join("config.json"), &BUILT_IN.config).expect("free space");
        let before = spec();
        let built_in = StaticSpec::default().identity(&context).expect("the built-in model");
        assert_eq!(before.identity(&context).expect("a model"), built_in, "at any path");
        fs::write(folder.join("config.json"), [&BUILT_IN.config[..], b" "].concat()).expect("free space");
        assert_ne!(spec().identity(&context).expect("another model"), built_in);
        let changed = before.open(&context).expect_err("the model changed");
        assert!(changed.to_string().contains("changed during the run"), "{changed}");
    }

    #[test]
    fn more_dimensions_than_the_built_in_model_has_are_refused_before_anything_runs() {
        let mut problems = Diagnostics::default();
        let node = testing::node(&json!({"dimensions": 129}));
        assert!(super::super::decode(&node, super::super::PROVIDERS, &mut problems).is_none());
        assert_eq!(problems.as_slice()[0].message, "`dimensions` is 129, but the built-in model has 128");
    }
}
