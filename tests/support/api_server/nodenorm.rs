//! A service shaped like NodeNorm: identifiers in, what they are normalized to out; for `call_api`.

use serde_json::{Map, Value as Json, json};

/// The paths that it serves.
pub fn serves(line: &str) -> bool {
    line.starts_with("POST /1.5/get_normalized_nodes") || line.starts_with("GET /openapi.json")
}

/// The status and the body of a response.
pub fn respond(line: &str, body: &[u8]) -> (u16, String) {
    if line.starts_with("GET") {
        return (200, json!({"openapi": "3.1.0", "info": {"title": "mock", "version": "1.0.0"}}).to_string());
    }
    let body: Json = serde_json::from_slice(body).unwrap_or_default();
    let Some(ids) = body["curies"].as_array().filter(|ids| ids.iter().all(Json::is_string)) else {
        return (422, json!({"detail": [{"loc": ["body", "curies"], "msg": "a list of strings"}]}).to_string());
    };
    let all = ids.iter().filter_map(Json::as_str).map(|id| (id.to_owned(), node(id)));
    (200, Json::Object(all.collect::<Map<_, _>>()).to_string())
}

/// Names with a dot are unknown.
fn node(id: &str) -> Json {
    if id.contains('.') {
        return Json::Null;
    }
    json!({
        "id": {"identifier": format!("REGISTRY:{}", id.to_uppercase()), "label": id},
        "type": ["biolink:InformationResource", "biolink:NamedThing"],
        "information_content": id.len(),
    })
}
