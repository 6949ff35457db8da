//! Round trips of responses of every kind, and damaged ones.

use base64_simd::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::net::client::ErrorBody;

fn response(vectors: &[Vec<f32>], order: &[usize], base64: bool, indices: bool) -> String {
    let items: Vec<String> = order
        .iter()
        .map(|row| {
            let embedding = if base64 {
                let bytes: Vec<u8> = vectors[*row].iter().flat_map(|value| value.to_le_bytes()).collect();
                format!("\"{}\"", STANDARD.encode_to_string(bytes))
            } else {
                format!("{:?}", vectors[*row])
            };
            let index = if indices { format!("\"index\": {row}, ") } else { String::new() };
            format!("{{{index}\"embedding\": {embedding}}}")
        })
        .collect();
    format!("{{\"data\": [{}], \"usage\": {{\"total_tokens\": 7}}}}", items.join(", "))
}

fn vectors() -> impl Strategy<Value = Vec<Vec<f32>>> {
    (1usize..9, 1usize..12).prop_flat_map(|(dimensions, rows)| {
        prop::collection::vec(prop::collection::vec(0.001f32..1.0, dimensions), rows)
    })
}

proptest! {
    #[test]
    fn any_order_in_any_encoding_gives_every_row_its_vector(
        (vectors, order) in vectors().prop_flat_map(|v| {
            let order: Vec<usize> = (0..v.len()).collect();
            (Just(v), Just(order).prop_shuffle())
        }),
        base64: bool,
        known: bool,
    ) {
        let dimensions = known.then_some(vectors[0].len());
        let read = decode(response(&vectors, &order, base64, true).as_bytes(), vectors.len(), dimensions).expect("sound");
        for (row, vector) in vectors.iter().enumerate() {
            prop_assert_eq!(read.row(row), Ok(&vector[..]));
        }
        prop_assert_eq!((read.tokens, read.is_sound()), (Some(7), true));
    }

    #[test]
    fn a_missing_or_changed_byte_never_gives_a_row_the_vector_of_another(
        vectors in vectors(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        remove: bool,
    ) {
        let order: Vec<usize> = (0..vectors.len()).collect();
        let mut body = response(&vectors, &order, true, true).into_bytes();
        let at = at.index(body.len());
        if remove {
            body.remove(at);
        } else {
            body[at] = byte;
        }
        if let Ok(read) = decode(&body, vectors.len(), Some(vectors[0].len())) {
            let wrong = (0..vectors.len()).filter(|row| read.row(*row) != Ok(&vectors[*row][..])).count();
            prop_assert!(wrong <= 1, "one byte changes at most one vector");
        }
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), rows in 0usize..5) {
        let _ = decode(&body, rows, Some(4));
        let _ = ErrorBody::read(&body);
    }

    #[test]
    fn every_text_is_encoded_faithfully(texts in prop::collection::vec("\\PC*", 0..6), control in "[\\x00-\\x1f\"\\\\]{0,6}") {
        let all: Vec<&str> = texts.iter().map(String::as_str).chain([control.as_str()]).collect();
        let request = RequestBody { model: "m\"", dimensions: Some(3), base64: true, dtype: None, fields: &RequestFields::default() };
        let body = encode(&request, all.iter().copied(), 10);
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let input: Vec<&str> = json["input"].as_array().expect("a list").iter().filter_map(|text| text.as_str()).collect();
        prop_assert_eq!(input, all);
        prop_assert_eq!(&json["model"], "m\"");
        prop_assert_eq!(&json["dimensions"], 3);
    }
}

#[test]
fn vectors_without_indices_are_in_order_and_partial_indices_are_invalid() {
    let vectors = [vec![1.0f32, 2.0], vec![3.0, 4.0]];
    let read = decode(response(&vectors, &[0, 1], true, false).as_bytes(), 2, None).expect("in order");
    assert_eq!(read.row(1), Ok(&vectors[1][..]));
    for mixed in [
        r#"{"data":[{"index":0,"embedding":[1]},{"embedding":[2]}]}"#,
        r#"{"data":[{"index":2,"embedding":[1]},{"embedding":[2]},{"embedding":[3]}]}"#,
    ] {
        let rows = mixed.matches("embedding").count();
        assert!(matches!(decode(mixed.as_bytes(), rows, None), Err(Malformed::Indices { .. })), "{mixed}");
    }
}

#[test]
fn a_single_missing_index_is_zero_wherever_it_is() {
    for body in [
        r#"{"data":[{"embedding":[1]},{"index":1,"embedding":[2]},{"index":2,"embedding":[3]}]}"#,
        r#"{"data":[{"index":2,"embedding":[3]},{"embedding":[1]},{"index":1,"embedding":[2]}]}"#,
    ] {
        let read = decode(body.as_bytes(), 3, None).expect("each index once");
        let rows: Vec<_> = (0..3).map(|row| read.row(row).map(|vector| vector[0])).collect();
        assert_eq!(rows, [Ok(1.0), Ok(2.0), Ok(3.0)], "{body}");
    }
}

#[test]
fn fields_are_added_renamed_and_left_out() {
    let fields = RequestFields {
        extra_body: serde_json::json!({"truncate": "END", "encoding_format": "ubinary"})
            .as_object()
            .cloned()
            .expect("a map"),
        input_type: Some("passage".into()),
        rename: [("dimensions".to_owned(), Some("output_dimension".to_owned())), ("model".to_owned(), None)].into(),
        ..RequestFields::default()
    };
    let request = RequestBody { model: "m", dimensions: Some(3), base64: true, dtype: None, fields: &fields };
    let body = encode(&request, ["a"].into_iter(), 10);
    let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let expected = serde_json::json!({
        "output_dimension": 3, "input_type": "passage", "truncate": "END", "encoding_format": "ubinary", "input": ["a"],
    });
    assert_eq!(json, expected);
}

#[test]
fn vectors_that_all_have_index_zero_are_never_in_order() {
    let body = r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[2]}]}"#;
    assert_eq!(decode(body.as_bytes(), 2, None).err(), Some(Malformed::OneIndex { rows: 2 }));
}

#[test]
fn a_first_row_without_a_vector_does_not_shift_the_rest() {
    let body = r#"{"data":[{"index":0,"embedding":null},{"index":1,"embedding":[1,2]},{"index":2}]}"#;
    let read = decode(body.as_bytes(), 3, None).expect("two faults");
    assert_eq!((read.row(0), read.row(2)), (Err(Fault::Missing), Err(Fault::Missing)));
    assert_eq!(read.row(1), Ok(&[1.0f32, 2.0][..]));
}
