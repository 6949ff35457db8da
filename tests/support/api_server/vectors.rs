//! The vectors and the bodies of good responses.

/// The vector of a text: numbers from a hash, of unit length.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut bytes = vec![0; dimensions * 4];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    let mut values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|four| i32::from_le_bytes(four.try_into().expect("four bytes")) as f32 / 2_147_483_648.0)
        .collect();
    let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter_mut().for_each(|v| *v /= length);
    values
}

/// Tokens by the server's count: one for every four bytes, at least one.
pub fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4).max(1)
}

/// The body of a good response.
pub(super) fn render(vectors: &[Vec<f32>], base64: bool, doubles: bool, model: &str, tokens: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(vectors.len() * (64 + vectors.first().map_or(0, Vec::len) * 6));
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes());
        if base64 {
            let bytes: Vec<u8> = if doubles {
                vector.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect()
            } else {
                vector.iter().flat_map(|value| value.to_le_bytes()).collect()
            };
            out.push(b'"');
            out.extend_from_slice(base64_simd::STANDARD.encode_to_string(&bytes).as_bytes());
            out.push(b'"');
        } else {
            let numbers: Vec<String> =
                vector.iter().map(|value| if value.is_nan() { "NaN".into() } else { value.to_string() }).collect();
            out.extend_from_slice(format!("[{}]", numbers.join(",")).as_bytes());
        }
        out.push(b'}');
    }
    out.extend_from_slice(
        format!("],\"model\":{model:?},\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}")
            .as_bytes(),
    );
    out
}

/// A response without its last vector.
pub(super) fn one_too_few(body: String) -> String {
    edit_data(&body, |data| {
        data.pop();
    })
}

/// A response with its vectors in reverse order, each with its own index.
pub(super) fn reversed(body: String) -> String {
    edit_data(&body, |data| data.reverse())
}

fn edit_data(body: &str, edit: impl Fn(&mut Vec<serde_json::Value>)) -> String {
    let mut json: serde_json::Value = serde_json::from_str(body).expect("the server writes JSON");
    edit(json["data"].as_array_mut().expect("the server writes vectors"));
    json.to_string()
}
