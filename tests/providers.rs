//! Embedding providers with APIs of their own, through the binary, each against a server that speaks its wire shape and enforces
//! its limits.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use serde_json::{Value as Json, json};

use crate::support::{
    Project,
    rest_server::{Asked, Reply, RestServer},
    small::{Asks, asking},
};

const KEY: &str = "canary-key-0123456789abcdef";
const ROWS: usize = 230;

/// The vector of a text, before a provider's own rules.
fn numbers(text: &str) -> [f64; 4] {
    let sum: usize = text.bytes().map(usize::from).sum();
    [(sum % 101) as f64 + 1.0, (sum % 17) as f64, text.len() as f64, 3.0]
}

fn project(model: &str) -> Project {
    let asks = Asks { node: "embed", function: "compute_embeddings", port: "model", output: "vectors" };
    asking((0..ROWS).map(|row| format!("thing {row}")), 1000, &asks, model).env("PROVIDER_KEY", KEY)
}

/// The vectors by name, and the type of their numbers.
fn vectors(project: &Project) -> (BTreeMap<String, Vec<f64>>, DataType) {
    let (mut all, mut kind) = (BTreeMap::new(), DataType::Null);
    for batch in project.table("data/vectors").values() {
        let names = text(batch, "name");
        let column = batch.column_by_name("embedding").expect("vectors");
        for (row, name) in names.into_iter().enumerate() {
            let list: ArrayRef = match column.data_type() {
                DataType::List(_) => column.as_list::<i32>().value(row),
                _ => column.as_fixed_size_list().value(row),
            };
            kind = list.data_type().clone();
            let list = cast(&list, &DataType::Float64).expect("numbers");
            all.insert(name, list.as_primitive::<Float64Type>().values().to_vec());
        }
    }
    (all, kind)
}

fn text(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = cast(batch.column_by_name(name).expect("a column"), &DataType::Utf8).expect("text");
    column.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

fn texts(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().expect("a string").to_owned()).collect()
}

/// Runs a project twice; the second run sends nothing.
fn run_twice(server: &RestServer, model: &str, requests: u64) -> (BTreeMap<String, Vec<f64>>, DataType) {
    let project = project(model);
    project.flow("run").exits(0);
    let found = vectors(&project);
    assert_eq!(found.0.len(), ROWS);
    assert_eq!(server.requests(), requests);
    // Other buckets: all vectors are known.
    project.edit("parameters.yml", "size: 1000", "size: 100").flow("run --yes").exits(0);
    assert_eq!(server.requests(), requests);
    found
}

fn cohere(asked: &Asked) -> Reply {
    let texts = texts(&asked.body["texts"]);
    if texts.len() > 96 {
        return Reply::status(
            400,
            &json!({"message": "invalid request: total number of texts must be at most 96"}).to_string(),
        );
    }
    if asked.body["input_type"].is_null() {
        return Reply::status(
            400,
            &json!({"message": "valid input_type must be provided with the provided model"}).to_string(),
        );
    }
    let kind = asked.body["embedding_types"][0].as_str().expect("a type");
    let vector = |text: &String| match kind {
        "int8" => json!(numbers(text).map(|n| n as i64 - 60)),
        "ubinary" => json!([numbers(text)[0] as u64, 255]),
        _ => json!(numbers(text)),
    };
    let all: Vec<Json> = texts.iter().map(vector).collect();
    Reply::json(&json!({
        "id": "x", "embeddings": {kind: all}, "texts": texts,
        "meta": {"billed_units": {"input_tokens": 4 * texts.len()}},
    }))
}

#[test]
fn cohere_is_spoken_with_its_limits_and_its_types_of_numbers() {
    let server = RestServer::start(|asked| {
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/v2/embed"));
        assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
        assert_eq!((&asked.body["model"], &asked.body["truncate"]), (&json!("embed-v4.0"), &json!("END")));
        cohere(asked)
    });
    let model = |more: &str| {
        format!(
            "provider: cohere\nbase_url: {}\napi_key: '${{oc.env:PROVIDER_KEY}}'\ndimensions: {more}\nprice_per_million_tokens: 1",
            server.url("/v2")
        )
    };
    let (found, _) = run_twice(&server, &model("4"), 3);
    found.iter().for_each(|(name, vector)| assert_eq!(vector[..], numbers(name), "{name}"));
    assert_eq!(server.journal()[0].body["input_type"], "search_document");

    let (found, kind) = run_twice(&server, &model("4\ndtype: int8\ninput_type: classification"), 6);
    assert_eq!(kind, DataType::Int8);
    found.iter().for_each(|(name, vector)| assert_eq!(vector[..], numbers(name).map(|n| n - 60.0), "{name}"));
    assert_eq!(server.journal()[3].body["input_type"], "classification");

    // Sixteen dimensions in two bytes.
    let (found, kind) = run_twice(&server, &model("16\ndtype: binary"), 9);
    assert_eq!(kind, DataType::UInt8);
    found.iter().for_each(|(name, vector)| assert_eq!(vector[..], [numbers(name)[0], 255.0], "{name}"));
}

#[test]
fn gemini_is_spoken_with_its_limits_and_its_vectors_are_given_the_length_one() {
    let server = RestServer::start(|asked| {
        assert_eq!(asked.target, "/v1beta/models/gemini-embedding-001:batchEmbedContents");
        assert_eq!(asked.headers["x-goog-api-key"], KEY);
        let requests = asked.body["requests"].as_array().expect("requests");
        if requests.len() > 100 {
            let error = json!({"error": {"code": 400, "message": "at most 100 requests can be in one batch", "status": "INVALID_ARGUMENT"}});
            return Reply::status(400, &error.to_string());
        }
        let vector = |request: &Json| {
            assert_eq!(request["model"], "models/gemini-embedding-001");
            assert_eq!((&request["outputDimensionality"], &request["taskType"]), (&json!(4), &json!("CLUSTERING")));
            json!({"values": numbers(request["content"]["parts"][0]["text"].as_str().expect("a text"))})
        };
        Reply::json(&json!({"embeddings": requests.iter().map(vector).collect::<Vec<_>>()}))
    });
    let model = format!(
        "provider: gemini\nbase_url: {}\napi_key: '${{oc.env:PROVIDER_KEY}}'\ndimensions: 4\ninput_type: CLUSTERING",
        server.url("/v1beta")
    );
    let (found, _) = run_twice(&server, &model, 3);
    for (name, vector) in &found {
        let expected = numbers(name);
        let length = expected.iter().map(|n| n * n).sum::<f64>().sqrt();
        vector.iter().zip(expected).for_each(|(got, n)| assert!((got - n / length).abs() < 1e-6, "{name}: {vector:?}"));
    }
}

#[test]
fn bedrock_is_spoken_with_one_text_for_titan_and_many_for_cohere() {
    let server = RestServer::start(|asked| {
        assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
        if asked.target == "/model/us.cohere.embed-english-v3/invoke" {
            assert!(asked.body["model"].is_null());
            return cohere(asked);
        }
        assert_eq!(asked.target, "/model/amazon.titan-embed-text-v2%3A0/invoke");
        let text = asked.body["inputText"].as_str().expect("one text");
        assert_eq!(asked.body["dimensions"], json!(4));
        Reply::json(&json!({"embedding": numbers(text), "inputTextTokenCount": 4}))
    });
    let model = |more: &str| {
        format!("provider: bedrock\nbase_url: {}\napi_key: '${{oc.env:PROVIDER_KEY}}'\n{more}", server.url(""))
    };
    let (found, _) = run_twice(&server, &model("dimensions: 4"), ROWS as u64);
    found.iter().for_each(|(name, vector)| assert_eq!(vector[..], numbers(name), "{name}"));
    let (found, _) = run_twice(&server, &model("model: us.cohere.embed-english-v3"), ROWS as u64 + 3);
    found.iter().for_each(|(name, vector)| assert_eq!(vector[..], numbers(name), "{name}"));
}

#[test]
fn vectors_of_another_type_or_number_are_an_error_of_the_row_or_of_the_settings() {
    let server = RestServer::start(|asked| {
        let all: Vec<Json> = texts(&asked.body["texts"])
            .iter()
            .map(|text| if text == "thing 7" { json!([1, 2, 3, 400]) } else { json!([1, 2, 3, 4]) })
            .collect();
        Reply::json(&json!({"embeddings": {"int8": all}}))
    });
    let model = format!(
        "provider: cohere\nbase_url: {}\napi_key: '${{oc.env:PROVIDER_KEY}}'\ndimensions: 4\ndtype: int8\nerrors: {{max_row_error_rate: 0.5}}",
        server.url("/v2")
    );
    let right = project(&model);
    right.flow("run").exits(5);
    for batch in right.table("data/vectors").values() {
        let vectors = batch.column_by_name("embedding").expect("vectors");
        for ((row, name), why) in text(batch, "name").iter().enumerate().zip(text(batch, "embedding_error")) {
            assert_eq!(vectors.is_null(row), name == "thing 7", "{name}");
            assert_eq!(why.contains("not of the type that `dtype` names"), name == "thing 7", "{name}: {why}");
        }
    }
    for (model, expected) in [
        ("provider: cohere\ndtype: int8\nnormalize: true", "`normalize` needs numbers"),
        ("provider: openai\ndtype: int8\non_too_long: mean", "`on_too_long` needs numbers"),
        ("provider: gemini\ndtype: int8", "makes numbers only"),
        ("provider: bedrock\ndtype: binary", "makes numbers only"),
        ("provider: cohere\nprofile: azure", "unused key `profile`"),
    ] {
        let output = project(model).flow("check");
        assert!(output.stderr.contains(expected), "{model}: {}", output.stderr);
    }
}

#[test]
fn a_server_that_couples_the_texts_of_a_request_gets_one_at_a_time_and_nothing_is_kept() {
    let server = RestServer::start(|asked| {
        let texts = texts(&asked.body["input"]);
        assert_eq!((texts.len(), &asked.body["late_chunking"]), (1, &json!(true)));
        let vector = |(index, text): (usize, &String)| json!({"index": index, "embedding": numbers(text)});
        Reply::json(&json!({"data": texts.iter().enumerate().map(vector).collect::<Vec<_>>()}))
    });
    let model =
        format!("provider: openai\nmodel: jina\nbase_url: {}\nextra_body: {{late_chunking: true}}", server.url("/v1"));
    let project = project(&model);
    project.flow("run").exits(0);
    assert_eq!(server.requests(), ROWS as u64);
    project.edit("parameters.yml", "size: 1000", "size: 100").flow("run --yes").exits(0);
    assert_eq!(server.requests(), 2 * ROWS as u64);
}
