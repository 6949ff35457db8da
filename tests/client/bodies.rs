//! Bodies: nothing is believed before it was checked.

use super::*;

fn edit(edit: fn(String) -> String) -> Fault {
    Fault::Edit(edit)
}

#[tokio::test]
async fn garbage_with_status_200_is_tried_again() {
    for fault in [
        Fault::Truncated(0.5),
        Fault::Cut(0.5),
        Fault::Cut(0.0),
        status(200, "<html><title>Just a moment…</title></html>"),
        status(200, ""),
        status(200, "null"),
        status(200, "[]"),
        status(200, "{}"),
        status(200, r#"{"object":"list","data":[]}"#),
        status(200, r#"{"object":"list","data":null}"#),
        status(200, r#"{"error":{"message":"overloaded","type":"server_error"}}"#),
        edit(|body| body.replace("\"data\"", "\"date\"")),
        edit(|body| body + "}"),
        edit(|body| body.replace("\"index\":3", "\"index\":4")),
        edit(|body| body.replace("\"index\":3", "\"index\":9")),
        edit(|body| body.replace("\"index\":3", "\"index\":-1")),
        edit(|body| body.replace("\"index\":3", "\"index\":\"3\"")),
        edit(|body| body.replace("\"index\":3", "\"index\":3.5")),
        edit(|body| body.replace("\"index\":3,", "")),
        edit(|body| format!("\u{1}{body}")),
        edit(|body| body.replace("\"data\":[", "\"data\":[{\"index\":9,\"embedding\":\"AAAA\"},")),
        edit(|_| "[".repeat(100_000)),
        edit(|_| format!("{{\"data\":{}", "{\"a\":".repeat(100_000))),
        edit(|body| body.encode_utf16().map(|unit| char::from(unit as u8).to_string() + "\0").collect()),
    ] {
        survives(&[(When::Nth(1), fault)], 2).await;
    }
}

#[tokio::test]
async fn one_vector_too_few_or_too_many_is_never_zipped_to_the_rows() {
    survives(&[(When::Nth(1), Fault::Vectors(|vectors| vectors.truncate(8)))], 2).await;
    survives(&[(When::Nth(1), Fault::Vectors(|vectors| vectors.push(vectors[0].clone())))], 2).await;
}

#[tokio::test]
async fn an_error_in_a_200_means_what_it_would_mean_with_its_status() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, status(200, r#"{"error":{"message":"no such key","code":"invalid_api_key"}}"#));
    let result = setup(&server).open().embed(&["a"]).await;
    assert!(matches!(result, Err(ServiceError::Refused(_))), "{result:?}");
    assert_eq!(server.requests(), 1);

    let server = ApiServer::start(Behaviour::default()).await;
    let limit = r#"{"base_resp":{"status_code":1002,"status_msg":"rate limit"},"vectors":null}"#;
    server.fault(When::First(2), status(200, limit));
    let client = setup(&server).open();
    assert_all_right(&client.embed(&["a"]).await.expect("it waits"), &["a"]);
    assert_eq!(client.usage().throttled, 2);
}

#[tokio::test]
async fn rows_are_placed_by_index() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(
        When::Nth(1),
        edit(|body| {
            let json: serde_json::Value = serde_json::from_str(&body).expect("the server's own JSON");
            let mut data = json["data"].as_array().expect("a list").clone();
            data.reverse();
            data.swap(1, 3);
            serde_json::json!({"data": data}).to_string()
        }),
    );
    let texts = texts(9);
    let embedded = setup(&server).open().embed(&refs(&texts)).await.expect("any order will do");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn harmless_oddities_are_accepted() {
    for fault in [
        edit(|body| body.replace("\"object\":\"list\",", "")),
        edit(|body| (0..9).fold(body, |body, n| body.replace(&format!("\"index\":{n},"), ""))),
        edit(|body| format!("\u{feff}{body}")),
        edit(|body| format!("\r\n\t {body}\n")),
        edit(|body| body.replace("\"usage\":{", "\"usage\":{\"cost\":{\"deep\":[1,2]},")),
        edit(|body| body.replace("\"model\":", "\"id\":null,\"model\":")),
        edit(|body| body.replace("\"data\"", "\"error\":null,\"data\"")),
        edit(|body| body.replace("\"embedding\":\"", "\"embedding\":\"  ")),
        edit(|body| body.replace("=\"", "\"")),
        edit(|body| body.replace("=\"", "\"").replace('+', "-").replace("/", "_")),
        Fault::OtherEncoding,
        Fault::Doubles,
        Fault::Headers(vec![("content-type".into(), "text/plain".into())]),
        Fault::Headers(vec![
            ("x-ratelimit-limit-tokens".into(), "many".into()),
            ("x-ratelimit-reset-tokens".into(), "soon".into()),
        ]),
        Fault::Headers(vec![
            ("x-ratelimit-limit-requests".into(), "60".into()),
            ("x-ratelimit-remaining-requests".into(), "-4".into()),
            ("x-ratelimit-reset-requests".into(), "1000000000000000000000000000000s".into()),
        ]),
    ] {
        survives(&[(When::Nth(1), fault)], 1).await;
    }
}

#[tokio::test]
async fn usage_that_is_missing_or_absurd_is_counted_here() {
    for fault in [
        edit(|body| body.split(",\"usage\"").next().expect("a part").to_owned() + "}"),
        edit(|body| body.replace("_tokens\":", "_tokens\":9999999999")),
        edit(|body| body.replace("_tokens\":", "_tokens\":\"x\",\"y\":")),
        edit(|body| body.replace("_tokens\":", "_tokens\":0,\"y\":")),
        edit(|body| body.replace("_tokens\":", "_tokens\":-1,\"y\":")),
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Always, fault);
        let client = setup(&server).open();
        assert_all_right(&client.embed(&["hello world", "hello"]).await.expect("fine"), &["hello world", "hello"]);
        assert_eq!(client.usage().tokens, 3, "as the model's own tokenizer counts");
    }
}

/// What can be wrong with one vector, and how its row says so. Of several vectors, the fourth is hit.
const ODD: [(&str, Fault); 6] = {
    fn hit(vectors: &mut [Vec<f32>]) -> &mut Vec<f32> {
        let fourth = 3.min(vectors.len() - 1);
        &mut vectors[fourth]
    }
    [
        ("not finite", Fault::Vectors(|vectors| hit(vectors)[2] = f32::NAN)),
        ("not finite", Fault::Vectors(|vectors| hit(vectors)[7] = f32::INFINITY)),
        ("zero", Fault::Vectors(|vectors| hit(vectors).fill(0.0))),
        ("zero", Fault::Vectors(|vectors| hit(vectors).fill(-0.0))),
        ("5", Fault::Vectors(|vectors| hit(vectors).truncate(5))),
        ("missing", Fault::Vectors(|vectors| hit(vectors).clear())),
    ]
};

#[tokio::test]
async fn a_faulty_vector_is_requested_again_alone() {
    for (_, fault) in ODD {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Nth(1), fault);
        let client = setup(&server).open();
        let texts = texts(9);
        assert_all_right(&client.embed(&refs(&texts)).await.expect("the second time it is right"), &refs(&texts));
        let journal = server.journal();
        assert_eq!((journal.len(), &journal[1].texts[..]), (2, &texts[3..4]));
        assert_eq!(client.usage().retries, 1);
    }
}

#[tokio::test]
async fn a_vector_that_is_faulty_twice_is_an_error_of_its_row_alone() {
    for (what, fault) in ODD {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Always, fault);
        let texts = texts(9);
        let embedded = setup(&server).open().embed(&refs(&texts)).await.expect("neighbours are unharmed");
        assert_right_but(&embedded, &refs(&texts), &[3]);
        let why = error(&embedded, 3).expect("a reason");
        assert!(why.starts_with("invalid_vector") && why.contains(what), "{why}");
        assert_eq!(server.requests(), 2);
        if what == "5" {
            // From a server that never made another length, that is a configuration error.
            continue;
        }
        // A text that was alone from the start has a second chance as well.
        let embedded = setup(&server).open().embed(&["alone"]).await.expect("a row error");
        assert_right_but(&embedded, &["alone"], &[0]);
        assert_eq!(server.requests(), 4);
    }
}

#[tokio::test]
async fn a_server_that_never_makes_a_vector_gets_no_request_for_each_text() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, Fault::Vectors(|vectors| vectors.iter_mut().for_each(|v| v[0] = f32::NAN)));
    let texts = texts(500);
    let embedded = setup(&server).open().embed(&refs(&texts)).await.expect("row errors");
    assert_right_but(&embedded, &refs(&texts), &(0..500).collect::<Vec<_>>());
    assert!(server.requests() <= 2, "{} requests", server.requests());
}

#[tokio::test]
async fn faulty_vectors_in_any_order_hit_their_own_rows() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(
        When::Always,
        edit(|body| {
            let json: serde_json::Value = serde_json::from_str(&body).expect("the server's own JSON");
            let mut data = json["data"].as_array().expect("a list").clone();
            let last = data.len() - 1;
            data[2.min(last)]["embedding"] = serde_json::Value::Null;
            data[5.min(last)]["embedding"] = "!!!!".into();
            data.reverse();
            serde_json::json!({"data": data}).to_string()
        }),
    );
    let texts = texts(9);
    let embedded = setup(&server).open().embed(&refs(&texts)).await.expect("neighbours are unharmed");
    assert_right_but(&embedded, &refs(&texts), &[2, 5]);
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn numbers_that_are_no_json_numbers_hit_their_own_row() {
    let server = ApiServer::start(Behaviour { base64: false, ..Behaviour::default() }).await;
    let second = |vectors: &mut Vec<Vec<f32>>| {
        let second = 1.min(vectors.len() - 1);
        vectors[second][0] = f32::NAN;
    };
    server.fault(When::Text("nan".into()), Fault::Vectors(second));
    let client = setup(&server).set(|s| s.profile = Profile::named("ollama")).open();
    let embedded = client.embed(&["NaN and Infinity", "nan", "c"]).await.expect("neighbours are unharmed");
    assert_right_but(&embedded, &["NaN and Infinity", "nan", "c"], &[1]);
}

#[tokio::test]
async fn numbers_in_any_notation_are_read() {
    let server = ApiServer::start(Behaviour::default()).await;
    let numbers = "[1e-400, 1E+2, 0.1234567890123456789012345678901234567890, -0.5, 1, 2e0, 3.0, 4]";
    server.fault(When::Always, status(200, &format!(r#"{{"data":[{{"index":0,"embedding":{numbers}}}]}}"#)));
    let embedded = setup(&server).open().embed(&["a"]).await.expect("numbers");
    assert_eq!(row(&embedded, 0), Some(vec![0.0, 100.0, 0.123_456_79, -0.5, 1.0, 2.0, 3.0, 4.0]));
}

#[tokio::test]
async fn vectors_of_another_length_everywhere_stop_the_run() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, Fault::Vectors(|vectors| vectors.iter_mut().for_each(|v| v.truncate(4))));
    let texts = texts(9);
    let Err(ServiceError::Refused(why)) = setup(&server).open().embed(&refs(&texts)).await else { panic!("refused") };
    assert!(why.contains("8 dimensions") && why.contains('4') && why.contains("dimensions"), "{why}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_local_model_under_the_name_of_a_known_one_has_its_own_length() {
    let server = ApiServer::start(Behaviour { dimensions: 5, ..Behaviour::default() }).await;
    for model in ["text-embedding-3-small", "openai/text-embedding-3-large"] {
        let client = setup(&server).set(|s| {
            s.dimensions = None;
            s.model = model.into();
        });
        let embedded = client.open().embed(&["a"]).await.expect("any length");
        assert_eq!(row(&embedded, 0), Some(vector("a", 5)), "{model}");
    }
}

#[tokio::test]
async fn the_length_is_learned_where_it_is_not_configured_and_then_enforced() {
    let server = ApiServer::start(Behaviour { dimensions: 5, ..Behaviour::default() }).await;
    let client = setup(&server).set(|s| {
        s.dimensions = None;
        s.model = "unknown-model".into();
    });
    let client = client.open();
    let embedded = client.embed(&["a"]).await.expect("any length");
    assert_eq!(row(&embedded, 0), Some(vector("a", 5)));
    assert_eq!(server.journal()[0].dimensions, None, "a length that is not configured is not sent");
    server.change(|behaviour| behaviour.dimensions = 6);
    let Err(ServiceError::Stopped(why)) = client.embed(&["b"]).await else { panic!("it contradicts what has worked") };
    assert!(why.contains("5 dimensions") && why.contains('6'), "{why}");
    assert!(server.requests() <= 1 + 6 + 2, "every attempt, and a harmless text: {}", server.requests());
}

/// All vectors of another length.
const ALL_ODD: Fault = Fault::Vectors(|vectors| vectors.iter_mut().for_each(|vector| vector.truncate(4)));

#[tokio::test]
async fn one_response_of_another_length_after_good_ones_is_retried() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(51), ALL_ODD);
    let client = setup(&server).set(|s| s.max_inputs = Some(2)).open();
    let texts = texts(200);
    assert_all_right(&client.embed(&refs(&texts)).await.expect("one response of a hundred"), &refs(&texts));
    assert_eq!((server.requests(), client.usage().retries), (101, 1));
}

#[tokio::test]
async fn texts_that_always_get_another_length_are_row_errors_once_others_have_worked() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("odd".into()), ALL_ODD);
    let client = setup(&server).open();
    assert_all_right(&client.embed(&["first"]).await.expect("it works"), &["first"]);
    let embedded = client.embed(&["a", "odd", "c"]).await.expect("a row error");
    assert_right_but(&embedded, &["a", "odd", "c"], &[1]);
}

#[tokio::test]
async fn a_first_vector_of_another_length_does_not_set_the_length() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(1), Fault::Vectors(|vectors| vectors[0].truncate(3)));
    let client = setup(&server).set(|s| {
        s.dimensions = None;
        s.model = "unknown-model".into();
    });
    let texts = texts(9);
    assert_all_right(&client.open().embed(&refs(&texts)).await.expect("requested again"), &refs(&texts));
}

#[tokio::test]
async fn always_no_vectors_ends_with_row_errors_when_the_endpoint_works() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("x".into()), status(200, r#"{"data":[]}"#));
    let client = setup(&server).open();
    let embedded = client.embed(&["x1", "x2", "fine"]).await.expect("row errors");
    assert_right_but(&embedded, &["x1", "x2", "fine"], &[0, 1]);
}

#[tokio::test]
async fn endless_and_exploding_bodies_are_cut() {
    for fault in [Fault::Endless, Fault::GzipBomb(1 << 30)] {
        survives(&[(When::Nth(1), fault.clone())], 2).await;
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Text("endless".into()), fault);
        let embedded = setup(&server).open().embed(&["endless", "fine"]).await.expect("a row error");
        assert_right_but(&embedded, &["endless", "fine"], &[0]);
        assert!(error(&embedded, 0).is_some_and(|why| why.contains("larger than")), "{:?}", error(&embedded, 0));
    }
}
