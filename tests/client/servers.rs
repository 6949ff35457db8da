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

/// What a client reports.
fn listening(setup: Setup) -> (Setup, Arc<std::sync::Mutex<Vec<Notice>>>) {
    let heard = Arc::<std::sync::Mutex<Vec<Notice>>>::default();
    let notices = Notices::default();
    let ear = Arc::clone(&heard);
    notices.listen(move |notice| ear.lock().expect("no test panicked").push(notice));
    (Setup { notices, ..setup }, heard)
}

#[tokio::test]
async fn where_nobody_listens_the_run_ends_after_seconds_and_says_why() {
    let port = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("its number").port()
    };
    let server = ApiServer::start(Behaviour::default()).await;
    let (setup, heard) = listening(setup(&server).set(|s| {
        s.base_url = Some(format!("http://127.0.0.1:{port}/v1"));
        s.client.retry.max_attempts = 1000;
        s.client.max_outage = Duration::from_secs(15 * 60);
        s.client.max_unreachable = Duration::from_millis(300);
    }));
    let result = setup.open().embed(&["a"]).await;
    let Err(ServiceError::Stopped(why)) = result else { panic!("{result:?}") };
    let address = format!("127.0.0.1:{port}");
    assert!(why.contains(&address) && why.contains("Connection refused") && why.contains("base_url"), "{why}");
    let heard = heard.lock().expect("no test panicked");
    let Some(Notice::Waiting { endpoint, error, waiting_for, .. }) = heard.first() else { panic!("{heard:?}") };
    assert!(endpoint.contains(&address) && error.contains("Connection refused"), "{heard:?}");
    assert!(waiting_for.contains("without a response"), "{heard:?}");
}

#[tokio::test]
async fn an_outage_says_what_failed_last_when_it_ends_the_run() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
    server.fault(When::Always, status(503, body));
    let client = setup(&server).set(|s| {
        s.client.retry.max_attempts = 1000;
        s.client.max_outage = Duration::from_millis(400);
    });
    let result = client.open().embed(&["a"]).await;
    let Err(ServiceError::Stopped(why)) = result else { panic!("{result:?}") };
    assert!(why.contains("max_outage") && why.contains("503 unavailable_error: Loading model"), "{why}");
}

#[tokio::test]
async fn a_long_wait_is_reported_with_its_end_and_the_end_of_it_too() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::First(1), status_with(429, &[("retry-after", "10")], r#"{"error":{"message":"slow down"}}"#));
    let (setup, heard) = listening(setup(&server));
    setup.open().embed(&["a"]).await.expect("it waits");
    let heard = heard.lock().expect("no test panicked");
    let [Notice::Waiting { error, waiting_for, .. }, Notice::Responding { .. }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert!(error.contains("429: slow down") && waiting_for.contains("10 s"), "{heard:?}");
}

#[tokio::test]
async fn a_wait_that_ends_the_run_is_not_announced_as_one_that_goes_on() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"error":{"message":"Please retry after 86400 seconds."}}"#;
    server.fault(When::Always, status_with(429, &[("retry-after", "86400")], body));
    let (setup, heard) = listening(setup(&server));
    let result = setup.open().embed(&["a"]).await;
    let Err(ServiceError::Stopped(why)) = result else { panic!("{result:?}") };
    assert!(why.contains("wait 86400 s") && why.contains("429: Please retry after 86400 seconds."), "{why}");
    assert_eq!(*heard.lock().expect("no test panicked"), []);
}

#[tokio::test]
async fn a_run_that_is_to_end_does_not_wait_for_an_outage_or_a_long_pause() {
    let loading = status(503, r#"{"error":{"message":"Loading model"}}"#);
    let pause = status_with(429, &[("retry-after", "15")], r#"{"error":{"message":"slow down"}}"#);
    for (fault, last) in [(loading, "503: Loading model"), (pause, "429: slow down")] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Always, fault);
        let (mut setup, heard) = listening(setup(&server));
        setup.settings.client.retry.max_attempts = 1000;
        let stopping = setup.stopping.clone();
        let client = setup.open();
        let texts = texts(300);
        let (result, took) = timed(async {
            let end = async {
                while server.requests() == 0 {
                    tokio::task::yield_now().await;
                }
                stopping.cancel();
            };
            tokio::join!(client.embed(&texts), end).0
        })
        .await;
        let Err(ServiceError::Interrupted(why)) = result else { panic!("{result:?}") };
        assert!(why.contains(last), "{why}");
        assert!(took < Duration::from_secs(8), "{took:?}");
        client.provider.flush().await.expect("nothing to write");
        let heard = heard.lock().expect("no test panicked");
        let untrue = |notice: &&Notice| matches!(notice, Notice::Waiting { waiting_for, .. } if waiting_for.contains("the run stops"));
        assert_eq!(heard.iter().find(untrue), None);
    }
}

#[tokio::test]
async fn an_outage_of_a_few_seconds_is_reported_at_its_beginning_and_at_its_end() {
    let server = ApiServer::start(Behaviour::default()).await;
    // Probes after 8 ms, 16 ms, … 2 s: it works again after four seconds, and nothing is sent when three have passed.
    server.fault(When::First(13), status(503, r#"{"error":{"message":"Loading model"}}"#));
    let (mut setup, heard) = listening(setup(&server));
    setup.settings.client.retry.max_attempts = 1000;
    setup.open().embed(&["a"]).await.expect("it recovers");
    let heard = heard.lock().expect("no test panicked");
    let [Notice::Waiting { error, waited, .. }, Notice::Responding { waited: in_all, .. }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(error, "503: Loading model");
    assert!(*waited >= Duration::from_secs(3) && in_all > waited, "{heard:?}");
}

/// Two of three are too long. Only few are sent in vain, whether or not the server says which, or how long they may be.
#[tokio::test]
async fn many_texts_that_are_too_long_are_not_sent_over_and_over() {
    let texts: Vec<String> = (0..900).map(|n| format!("{n:04}{}", " word".repeat(1 + n * 7919 % 30))).collect();
    let is_long = |text: &&String| text.len() > 54;
    let long = texts.iter().filter(is_long).count();
    for body in [
        r#"{"error":{"message":"the input length exceeds the context length"}}"#,
        r#"{"error":{"message":"This model's maximum context length is 12 tokens. However, you requested 20 tokens in the input"}}"#,
        r#"{"error":{"message":"Invalid input: maximum context length is 12 tokens."}}"#,
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Longer(54), status(400, body));
        let client = setup(&server).set(|s| {
            s.on_too_long = flow::embed::OnTooLong::Error;
            s.profile = None;
        });
        let client = client.open();
        let parts: Vec<&[String]> = texts.chunks(225).collect();
        let all = parts.iter().map(|part| client.embed(part));
        let mut failed = 0;
        for embedded in futures::future::join_all(all).await {
            failed += embedded.expect("others are fine").tally.error as usize;
        }
        let sent: usize = server.journal().iter().map(|seen| seen.rows).sum();
        assert_eq!(failed, long, "{body}");
        assert!(sent < 3 * texts.len(), "{sent} texts sent for {}; {body}", texts.len());
    }
}

#[tokio::test]
async fn what_was_learned_is_reported_as_the_settings_that_begin_with_it() {
    let server = ApiServer::start(Behaviour { base64: false, max_inputs: 32, ..Behaviour::default() }).await;
    let (setup, heard) = listening(setup(&server));
    let client = setup.open();
    let texts = texts(100);
    let embedded = client.embed(&refs(&texts)).await.expect("smaller requests of numbers");
    assert_all_right(&embedded, &refs(&texts));
    client.provider.flush().await.expect("nothing to write");
    let heard = heard.lock().expect("no test panicked");
    let Some(Notice::Adapted { settings, .. }) = heard.last() else { panic!("{heard:?}") };
    assert!(settings.contains("max_inputs: ") && settings.contains("encoding_format: float"), "{settings}");
}

#[tokio::test]
async fn a_field_that_the_server_requires_is_named_with_the_key_that_sends_it() {
    let server = ApiServer::start(Behaviour::default()).await;
    let body = r#"{"object":"error","message":"'input_type' parameter is required","detail":{},"type":"invalid_request_error"}"#;
    server.fault(When::Always, status(400, body));
    let (setup, heard) = listening(setup(&server));
    let client = setup.open();
    let result = client.embed(&["a"]).await;
    let Err(ServiceError::Refused(why)) = result else { panic!("{result:?}") };
    assert!(why.contains("'input_type' parameter is required; set `input_type`"), "{why}");
    assert_eq!(server.requests(), 1);
    client.provider.flush().await.expect("nothing to write");
    assert_eq!(*heard.lock().expect("no test panicked"), [], "nothing is known about a server without a response");
}

#[tokio::test]
async fn what_a_server_wants_besides_the_protocol_is_sent() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.request.prefix = "passage: ".into();
        s.request.input_type = Some("passage".into());
        s.request.headers = vec![("x-team".into(), Secret::new("blue"))];
    });
    let embedded = client.open().embed(&["a", "", "b"]).await.expect("vectors");
    assert_eq!(row(&embedded, 0), Some(vector("passage: a", 8)));
    assert_eq!((row(&embedded, 1), row(&embedded, 2)), (None, Some(vector("passage: b", 8))));
    let seen = &server.journal()[0];
    assert_eq!(seen.texts, ["passage: a", "passage: b"], "texts that are not sent have no prefix");
    assert_eq!(seen.headers.get("x-team").map(String::as_str), Some("blue"));
}
