//! Statuses: which are tried again, which are waited for, which divide a request, which end the run.

use super::*;

const TOO_MANY: &str = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;

/// Runs 40 texts, one a request, against a server whose first request is refused like this, and returns the pause
/// that followed the refusal.
async fn pause_after(refusal: Fault) -> Duration {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(1), refusal);
    let client = setup(&server).set(|s| s.max_inputs = Some(1)).open();
    let texts = texts(40);
    let embedded = client.embed(&refs(&texts)).await.expect("it waits and goes on");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(server.requests(), 41, "only the refused request is sent twice");
    let times: Vec<Duration> = server.journal().iter().map(|seen| seen.at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("41 requests")
}

#[tokio::test]
async fn refused_with_a_wait_in_seconds_all_requests_wait() {
    let pause = pause_after(status_with(429, &[("retry-after", "1")], TOO_MANY)).await;
    assert!(pause >= Duration::from_millis(950), "{pause:?}");
}

#[tokio::test]
async fn refused_with_a_wait_in_milliseconds_the_seconds_are_ignored() {
    let pause = pause_after(status_with(429, &[("retry-after-ms", "310"), ("retry-after", "9")], TOO_MANY)).await;
    assert!((290..900).contains(&pause.as_millis()), "{pause:?}");
}

#[tokio::test]
async fn refused_with_a_date_the_servers_own_clock_counts() {
    let headers = [("date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("retry-after", "Wed, 21 Oct 2015 07:28:01 GMT")];
    let pause = pause_after(status_with(429, &headers, TOO_MANY)).await;
    assert!((950..3000).contains(&pause.as_millis()), "{pause:?}");
}

#[tokio::test]
async fn refused_with_a_wait_in_the_text() {
    let body = r#"{"error":{"message":"Rate limit reached on tokens per min (TPM): Limit 1000000, Used 1000000, Requested 85. Please try again in 310ms.","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let pause = pause_after(status(429, body)).await;
    assert!((290..900).contains(&pause.as_millis()), "{pause:?}");
}

#[tokio::test]
async fn senseless_waits_are_ignored() {
    for value in ["-1", "NaN", "1e308", "abc", ""] {
        let pause = pause_after(status_with(429, &[("retry-after", value)], TOO_MANY)).await;
        assert!(pause < Duration::from_secs(2), "{value}: {pause:?}");
    }
}

#[tokio::test]
async fn a_wait_longer_than_the_deadline_stops_the_run_at_once() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, status_with(429, &[("retry-after", "3600")], TOO_MANY));
    let client = setup(&server).open();
    let (result, took) = timed(client.embed(&["a"])).await;
    let Err(ServiceError::Stopped(why)) = result else { panic!("{result:?}") };
    assert!(why.contains("3600 s") && why.contains("retry.deadline"), "{why}");
    assert!(took < Duration::from_secs(2) && server.requests() == 1, "{took:?}");
}

#[tokio::test]
async fn an_empty_account_stops_the_run_without_a_second_request() {
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        let body = format!(r#"{{"error":{{"message":"pay","type":"insufficient_quota","code":"{code}"}}}}"#);
        server.fault(When::Always, status_with(429, &[("retry-after", "1")], &body));
        let client = setup(&server).open();
        let result = client.embed(&["a"]).await;
        assert!(matches!(result, Err(ServiceError::Stopped(_))), "{code}: {result:?}");
        assert_eq!(server.requests(), 1, "{code}");
        assert!(client.embed(&["b"]).await.is_err());
        assert_eq!(server.requests(), 1, "the next partition does not ask again");
    }
}

#[tokio::test]
async fn endless_refusals_end_with_the_deadline_after_few_requests() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, status(429, TOO_MANY));
    let client = setup(&server).set(|s| s.client.retry.deadline = Duration::from_millis(400)).open();
    let (result, took) = timed(client.embed(&["a"])).await;
    assert!(matches!(result, Err(ServiceError::Stopped(_))), "{result:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!((2..30).contains(&server.requests()), "{}", server.requests());
    assert_eq!(client.usage().throttled, server.requests());
}

#[tokio::test]
async fn a_request_larger_than_the_limit_is_divided_not_waited_for() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"error":{"message":"Request too large for m on tokens per min (TPM): Limit 5000, Requested 8503.","type":"tokens","code":"rate_limit_exceeded"}}"#;
    server.fault(When::MoreThan(3), status_with(429, &[("retry-after", "3000")], body));
    let client = setup(&server).open();
    let texts = texts(9);
    let embedded = client.embed(&refs(&texts)).await.expect("smaller ones fit");
    assert_all_right(&embedded, &refs(&texts));
}

#[tokio::test]
async fn transient_statuses_are_tried_again() {
    let html = "<html><head><title>Bad gateway</title></head><body>…</body></html>";
    for code in [408, 409, 424, 425, 500, 502, 503, 504, 520, 529, 599] {
        survives(&[(When::Nth(1), status(code, html))], 2).await;
    }
    survives(&[(When::First(2), status(503, "Slow Down"))], 3).await;
}

#[tokio::test]
async fn a_response_without_content_is_a_failure() {
    for code in [201, 202, 204, 206] {
        survives(&[(When::Nth(1), status(code, ""))], 2).await;
    }
}

#[tokio::test]
async fn one_poisoned_text_costs_one_row_and_few_requests() {
    for (code, body) in
        [(500, "oops"), (400, r#"{"error":{"message":"'$.input' is invalid"}}"#), (422, "{}"), (451, "")]
    {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Text("poison".into()), status(code, body));
        let client = setup(&server).open();
        let mut texts = texts(1024);
        texts[777] = "poison".into();
        let embedded = client.embed(&refs(&texts)).await.expect("the rest is fine");
        assert_right_but(&embedded, &refs(&texts), &[777]);
        let why = error(&embedded, 777).expect("a reason");
        assert!(why.contains(&code.to_string()), "{why}");
        // Twice log2(1024), the attempts at full size, and one harmless text to distinguish poison from an outage.
        assert!(server.requests() <= 26, "{code}: {} requests", server.requests());
        let twice = server.embedded().into_values().filter(|times| *times > 1).count();
        assert_eq!(twice, 0, "{code}: no text is paid for twice");
    }
}

#[tokio::test]
async fn a_refused_row_that_the_server_names_costs_two_requests() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("poison".into()), status(400, r#"{"error":{"message":"'$.input[37]' is invalid"}}"#));
    let client = setup(&server).open();
    let mut texts = texts(100);
    texts[37] = "poison".into();
    let embedded = client.embed(&refs(&texts)).await.expect("the rest is fine");
    assert_right_but(&embedded, &refs(&texts), &[37]);
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn several_poisoned_texts_are_all_found() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("poison".into()), status(500, ""));
    let client = setup(&server).set(|s| s.max_inputs = Some(64)).open();
    let mut texts = texts(640);
    let bad = [0, 63, 64, 320, 321, 639];
    for n in bad {
        texts[n] = format!("poison {n}");
    }
    let embedded = client.embed(&refs(&texts)).await.expect("the rest is fine");
    assert_right_but(&embedded, &refs(&texts), &bad);
}

#[tokio::test]
async fn a_poisoned_text_in_every_request_does_not_pass_for_an_outage() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("poison".into()), status(500, ""));
    let texts: Vec<String> =
        (0..200).map(|row| format!("{} {row}", if row % 4 == 1 { "poison" } else { "row" })).collect();
    let texts = refs(&texts);
    let client = setup(&server).set(|s| s.max_inputs = Some(4)).open();
    let embedded = client.embed(&texts).await.expect("the endpoint works");
    let failed: Vec<usize> = (0..200).filter(|row| row % 4 == 1).collect();
    assert_right_but(&embedded, &texts, &failed);
    assert!(server.requests() <= 50 * 12, "{} requests", server.requests());
}

#[tokio::test]
async fn a_harmless_text_distinguishes_a_single_poisoned_text_from_an_outage() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("poison".into()), status(500, ""));
    let client = setup(&server).open();
    let embedded = client.embed(&["poison"]).await.expect("a row error, no outage");
    assert!(error(&embedded, 0).is_some_and(|why| why.contains("500")), "{:?}", error(&embedded, 0));
}

#[tokio::test]
async fn an_outage_makes_no_row_errors() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, status(500, ""));
    let client = setup(&server).set(|s| s.client.max_outage = Duration::from_secs(1)).open();
    let texts = texts(64);
    let result = client.embed(&refs(&texts)).await;
    assert!(matches!(result, Err(ServiceError::Stopped(_))), "{result:?}");
    assert!(server.requests() <= 20, "no storm of ever smaller requests: {}", server.requests());
}

#[tokio::test]
async fn too_many_tokens_is_refused_once() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"error":{"message":"Requested 673477 tokens, max 300000 tokens per request","type":"max_tokens_per_request","param":null,"code":"max_tokens_per_request"}}"#;
    server.fault(When::MoreThan(5), status(400, body));
    let client = setup(&server).open();
    let texts = texts(10);
    let embedded = client.embed(&refs(&texts)).await.expect("halves fit");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(server.journal().iter().filter(|seen| seen.status == 400).count(), 1);
    assert!(server.requests() <= 5, "{}", server.requests());
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_without_a_storm_of_requests() {
    for (code, body) in [
        (400, r#"{"error":{"message":"This model does not support specifying dimensions.","param":"dimensions"}}"#),
        (400, r#"{"error":{"message":"Unrecognized request argument supplied: encoding","param":null}}"#),
        (401, r#"{"error":{"message":"Incorrect API key provided: canary-k***cdef.","code":"invalid_api_key"}}"#),
        (403, r#"{"error":{"message":"Country not supported"}}"#),
        (404, r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#),
        (404, "<html><title>Not Found</title></html>"),
        (405, ""),
        (407, ""),
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Always, status(code, body));
        let client = setup(&server).set(|s| s.max_inputs = Some(10)).open();
        let texts = texts(500);
        let Err(error @ ServiceError::Refused(_)) = client.embed(&refs(&texts)).await else { panic!("{code} {body}") };
        assert!(error.to_string().contains(&code.to_string()), "{error}");
        assert_no_key(&error);
        assert!(server.requests() <= 4, "{code}: {} requests", server.requests());
        assert!(matches!(client.embed(&["more"]).await, Err(ServiceError::Refused(_))));
        assert!(server.requests() <= 4, "{code}: nothing more is sent");
    }
}

#[tokio::test]
async fn a_400_without_a_reason_for_every_text_is_a_configuration_error() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, status(400, r#"{"detail":"no"}"#));
    let client = setup(&server).open();
    let texts = texts(200);
    let result = client.embed(&refs(&texts)).await;
    assert!(matches!(result, Err(ServiceError::Refused(_))), "{result:?}");
    assert_eq!(server.requests(), 2, "the request and a harmless text");
}

#[tokio::test]
async fn a_server_without_base64_gets_requests_for_numbers_from_then_on() {
    let server = ApiServer::start(Behaviour { base64: false, ..Behaviour::default() }).await;
    let client = setup(&server).set(|s| s.max_inputs = Some(4)).open();
    for _ in 0..2 {
        let texts = texts(16);
        let embedded = client.embed(&refs(&texts)).await.expect("numbers will do");
        assert_all_right(&embedded, &refs(&texts));
    }
    let base64 = server.journal().iter().filter(|seen| seen.encoding == "base64").count();
    assert!((1..=4).contains(&base64), "only what was on its way before the first refusal: {base64}");
}

#[tokio::test]
async fn bodies_too_large_are_divided_and_the_size_remembered() {
    let server = ApiServer::start(Behaviour { max_inputs: 32, ..Behaviour::default() }).await;
    let client = setup(&server).set(|s| s.max_inputs = Some(256)).open();
    let texts = texts(512);
    let embedded = client.embed(&refs(&texts)).await.expect("smaller ones fit");
    assert_all_right(&embedded, &refs(&texts));
    let refused = server.journal().iter().filter(|seen| seen.status == 413).count();
    assert!(refused <= 16, "{refused} of {}", server.requests());

    let server = ApiServer::start(Behaviour { max_bytes: 2000, ..Behaviour::default() }).await;
    let client = setup(&server).open();
    let embedded = client.embed(&refs(&texts)).await.expect("smaller ones fit");
    assert_all_right(&embedded, &refs(&texts));
}

#[tokio::test]
async fn redirects_are_not_followed_and_the_key_goes_nowhere_else() {
    for code in [301, 302, 307, 308] {
        let elsewhere = ApiServer::start(Behaviour::default()).await;
        let server = ApiServer::start(Behaviour::default()).await;
        let location = format!("{}/embeddings", elsewhere.base_url());
        server.fault(When::Always, status_with(code, &[("location", &location)], ""));
        let client = setup(&server).open();
        let Err(error @ ServiceError::Refused(_)) = client.embed(&["a"]).await else { panic!("{code}") };
        assert!(error.to_string().contains("redirect"), "{error}");
        assert_eq!((server.requests(), elsewhere.requests()), (1, 0));
    }
}

#[tokio::test]
async fn the_servers_header_on_retrying_is_obeyed() {
    survives(&[(When::Nth(1), status_with(400, &[("x-should-retry", "true")], r#"{"error":{"message":"hm"}}"#))], 2)
        .await;
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("poison".into()), status_with(500, &[("x-should-retry", "false")], ""));
    let client = setup(&server).open();
    let embedded = client.embed(&["fine", "poison"]).await.expect("a row error");
    assert_right_but(&embedded, &["fine", "poison"], &[1]);
    let poisoned = server.journal().iter().filter(|seen| seen.texts.iter().any(|text| text == "poison")).count();
    assert_eq!(poisoned, 2, "together and alone, never again");
}

#[tokio::test]
async fn unknown_4xx_are_about_the_texts_once_a_harmless_one_passes() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Text("tea".into()), status(418, "I am a teapot"));
    let client = setup(&server).open();
    let embedded = client.embed(&["coffee", "tea"]).await.expect("a row error");
    assert_right_but(&embedded, &["coffee", "tea"], &[1]);
    assert!(error(&embedded, 1).is_some_and(|why| why.contains("418: I am a teapot")));
}

#[tokio::test]
async fn interim_responses_are_skipped() {
    let server = ApiServer::start(Behaviour::default()).await;
    let interim = |first: &str| {
        let body = r#"{"data":[{"index":0,"embedding":[1,0,0,0,0,0,0,0]}]}"#;
        Fault::Raw(format!("{first}HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    };
    server.fault(When::Nth(1), interim("HTTP/1.1 100 Continue\r\n\r\n"));
    server.fault(When::Nth(2), interim("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"));
    let client = setup(&server).open();
    for text in ["a", "b"] {
        let embedded = client.embed(&[text]).await.expect("the final response counts");
        assert_eq!(row(&embedded, 0), Some(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn error_bodies_of_every_server_are_understood() {
    for (body, expected) in [
        (r#"{"error":{"code":"429","message":"Azure says so"}}"#, "Azure says so"),
        (r#"{"message":"TEI says so","code":424,"type":"backend"}"#, "TEI says so"),
        (r#"{"error":"Ollama says so"}"#, "Ollama says so"),
        (r#"{"detail":"FastAPI says so"}"#, "FastAPI says so"),
        (r#"{"object":"error","message":"vLLM says so","type":"BadRequestError","code":400}"#, "vLLM says so"),
        ("plain words", "plain words"),
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Text("bad".into()), status(422, body));
        let client = setup(&server).open();
        let embedded = client.embed(&["good", "bad"]).await.expect("a row error");
        assert!(error(&embedded, 1).is_some_and(|why| why.contains(expected)), "{:?}", error(&embedded, 1));
    }
}
