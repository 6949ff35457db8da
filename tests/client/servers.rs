//! Habits of real servers and gateways, each as it was met.

use super::*;

/// A text that a server with a limit of 512 tokens refuses; its end is cut off with what makes it too long.
fn long_text() -> String {
    format!("{} TOO LONG", "word ".repeat(600).trim_end())
}

fn every_index_zero(body: String) -> String {
    (1..1000).fold(body, |body, n| body.replace(&format!("\"index\":{n},"), "\"index\":0,"))
}

#[tokio::test]
async fn an_index_that_is_absent_because_it_is_zero_costs_no_request() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, Fault::Edit(|body| body.replace("\"index\":0,", "")));
    let client = setup(&server).set(|s| s.max_inputs = Some(100)).open();
    let texts = texts(400);
    let embedded = client.embed(&refs(&texts)).await.expect("protobuf leaves out zeros");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(server.requests(), 4);
}

#[tokio::test]
async fn a_413_about_one_text_is_about_that_text() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"message":"Input validation error: `inputs` must have less than 512 tokens. Given: 602","code":413,"type":"Validation"}"#;
    server.fault(When::Text("TOO LONG".into()), status(413, body));
    let client = setup(&server).set(|s| s.max_inputs = Some(32)).open();
    let mut texts = texts(320);
    texts[100] = long_text();
    let embedded = client.embed(&refs(&texts)).await.expect("the text is cut");
    assert_eq!(embedded.tally.error, 0, "{:?}", error(&embedded, 100));
    assert!(row(&embedded, 100).is_some(), "its beginning has a vector");
    // Ten full requests, the rest of the refused one, and the long text, twice.
    assert!(server.requests() <= 13, "{}", server.requests());
    assert!(server.journal().iter().filter(|seen| seen.status == 200).all(|seen| seen.rows > 20 || seen.rows == 1));
}

#[tokio::test]
async fn every_wording_of_too_long_cuts_the_text_or_is_its_rows_error() {
    // Ollama names no limit: what it says is the error of the row.
    for (code, body, is_cut) in [
        (
            400,
            r#"{"error":{"message":"the input length exceeds the context length","type":"invalid_request_error","param":null,"code":null}}"#,
            false,
        ),
        (
            400,
            r#"{"error":{"message":"You passed 602 input tokens and requested 0 output tokens. However, the model's context length is only 512 tokens, resulting in a maximum input length of 512 tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=602)","type":"BadRequestError","param":"input_tokens","code":400}}"#,
            true,
        ),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 512 tokens. However, you requested 602 tokens in the input for embedding generation. Please reduce the length of the input. None","type":"BadRequestError","param":null,"code":400}}"#,
            true,
        ),
        (
            400,
            r#"{"error":{"message":"Invalid 'input[7]': maximum context length is 512 tokens.","type":"invalid_request_error","param":null,"code":null}}"#,
            true,
        ),
        (
            500,
            r#"{"error":{"code":500,"message":"input (602 tokens) is too large to process. increase the physical batch size (current batch size: 512)","type":"server_error"}}"#,
            true,
        ),
        (
            400,
            r#"{"error":{"message":"litellm.BadRequestError: OpenAIException - Error code: 400 - {'error': {'message': \"This model's maximum context length is 512 tokens. However, you requested 602 tokens in the input\"}}","type":null,"param":null,"code":"400"}}"#,
            true,
        ),
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Text("TOO LONG".into()), status(code, body));
        let client = setup(&server).open();
        let mut texts = texts(20);
        texts[7] = long_text();
        let embedded = client.embed(&refs(&texts)).await.expect("the others are fine");
        assert_eq!(embedded.tally.error, u64::from(!is_cut), "{body}: {:?}", error(&embedded, 7));
        assert_eq!(row(&embedded, 7).is_some(), is_cut, "{body}");
        if !is_cut {
            assert!(error(&embedded, 7).is_some_and(|why| why.contains("the input length exceeds")), "{body}");
        }
        // All of them, the others, the long text; cut, once or several times.
        assert!(server.requests() <= 6, "{body}: {}", server.requests());
    }
}

#[tokio::test]
async fn a_limit_in_a_list_shaped_error_is_learned_once() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"[{"error":{"code":400,"message":"* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n","status":"INVALID_ARGUMENT"}}]"#;
    server.fault(When::MoreThan(100), status(400, body));
    let client = setup(&server).open();
    for _ in 0..3 {
        let texts = texts(1000);
        let embedded = client.embed(&refs(&texts)).await.expect("a hundred at a time");
        assert_all_right(&embedded, &refs(&texts));
    }
    let refused = server.journal().iter().filter(|seen| seen.status == 400).count();
    assert_eq!((refused, server.requests()), (1, 31));
}

#[tokio::test]
async fn a_limit_on_tokens_is_learned_from_its_two_numbers() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"detail":"Request to model 'm' failed. The max allowed tokens per submitted batch is 1200. Your batch has 4800 tokens after truncation. Please lower the number of tokens in the batch."}"#;
    server.fault(When::MoreThan(100), status(400, body));
    let client = setup(&server).open();
    for _ in 0..2 {
        let texts = texts(400);
        let embedded = client.embed(&refs(&texts)).await.expect("a quarter fits");
        assert_all_right(&embedded, &refs(&texts));
    }
    let refused = server.journal().iter().filter(|seen| seen.status == 400).count();
    assert_eq!(refused, 1, "{} requests", server.requests());
    assert!(server.requests() <= 20, "{} requests", server.requests());
}

#[tokio::test]
async fn vectors_that_all_have_index_zero_are_requested_one_by_one() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, Fault::Edit(every_index_zero));
    let client = setup(&server).open();
    for _ in 0..2 {
        let texts = texts(60);
        let embedded = client.embed(&refs(&texts)).await.expect("one text a request works");
        assert_all_right(&embedded, &refs(&texts));
    }
    assert_eq!(server.requests(), 2 + 2 * 60, "twice together, then one by one for good");
}

#[tokio::test]
async fn one_vector_for_a_whole_batch_is_nobodys_vector() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::MoreThan(1), Fault::Vectors(|vectors| vectors.truncate(1)));
    let client = setup(&server).open();
    let texts = texts(60);
    let embedded = client.embed(&refs(&texts)).await.expect("one text a request works");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(server.requests(), 2 + 60);
}

#[tokio::test]
async fn base64_that_is_answered_with_nothing_is_given_up_after_the_first_such_answer() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(
        When::Always,
        Fault::Edit(
            |body| {
                if body.contains("\"embedding\":\"") { r#"{"object":"list","data":[]}"#.into() } else { body }
            },
        ),
    );
    let client = setup(&server).open();
    for _ in 0..2 {
        let texts = texts(20);
        let embedded = client.embed(&refs(&texts)).await.expect("numbers work");
        assert_all_right(&embedded, &refs(&texts));
    }
    assert_eq!(server.requests(), 3);
    assert_eq!(server.journal().iter().filter(|seen| seen.encoding == "base64").count(), 1);
}

#[tokio::test]
async fn an_error_that_repeats_the_input_is_read_up_to_its_sentence() {
    let server = ApiServer::start(Behaviour::default()).await;
    let input = "x".repeat(132_000);
    let body = format!(
        r#"{{"detail":[{{"type":"string_too_long","loc":["body","input","list[str]",1],"msg":"String should have at most 122880 characters","input":"{input}"}}]}}"#
    );
    server.fault(When::Text("xxxxx".into()), status(422, &body));
    let client = setup(&server).set(|s| {
        s.model = "bge".into();
        s.on_too_long = flow::embed::OnTooLong::Error;
    });
    let client = client.open();
    let embedded = client.embed(&["fine", &input]).await.expect("a row error");
    assert_right_but(&embedded, &["fine", &input], &[1]);
    let why = error(&embedded, 1).expect("a reason");
    assert!(why.contains("String should have at most 122880 characters") && why.len() < 400, "{why}");
    assert!(server.requests() <= 3, "{}", server.requests());
}

#[tokio::test]
async fn a_vector_that_the_server_cannot_encode_costs_its_row_alone() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"error":{"message":"failed to encode response: json: unsupported value: NaN","type":"api_error","param":null,"code":null}}"#;
    server.fault(When::Text("poison".into()), status(500, body));
    let client = setup(&server).open();
    let mut texts = texts(128);
    texts[70] = "poison".into();
    let embedded = client.embed(&refs(&texts)).await.expect("the rest is fine");
    assert_right_but(&embedded, &refs(&texts), &[70]);
    assert!(error(&embedded, 70).is_some_and(|why| why.contains("unsupported value: NaN")));
}
