//! What comes in and what comes out: nulls, blanks, duplicates, long texts, batches, the cache, concurrent calls.

use super::*;

#[tokio::test]
async fn every_row_gets_the_vector_of_its_text() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).open();
    let texts = texts(5000);
    let embedded = client.embed(&refs(&texts)).await.expect("all is well");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(embedded.tally.ok, 5000);
    assert_eq!(server.requests(), 3, "2048 texts travel in one request");
    let seen = &server.journal()[0];
    assert_eq!(
        (seen.line.as_str(), seen.encoding.as_str(), seen.dimensions),
        ("POST /v1/embeddings HTTP/1.1", "base64", Some(8))
    );
    assert!(seen.had_key);
    assert_eq!(client.usage().tokens, server.totals().tokens);
}

#[tokio::test]
async fn rows_without_text_are_never_sent_and_have_no_error() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).open();
    let column = StringArray::from(vec![None, Some(""), Some(" \n\t"), Some("\0"), Some("x"), Some("\u{a0}")]);
    let embedded = client.provider.embed(&column).await.expect("all is well");
    for n in [0, 1, 2, 3, 5] {
        assert_eq!((row(&embedded, n), error(&embedded, n)), (None, Some("empty_text")), "row {n}");
    }
    assert_eq!(row(&embedded, 4), Some(vector("x", 8)));
    assert_eq!((embedded.tally.empty, embedded.tally.ok, embedded.tally.error), (5, 1, 0));
    assert_eq!(server.journal()[0].texts, ["x"]);
}

#[tokio::test]
async fn nothing_to_embed_sends_nothing_and_keeps_its_columns() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).open();
    for column in [vec![], vec![None::<&str>, None]] {
        let embedded = client.provider.embed(&StringArray::from(column.clone())).await.expect("all is well");
        assert_eq!((embedded.vectors.len(), embedded.vectors.value_length()), (column.len(), 8));
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_text_that_occurs_several_times_is_sent_once() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).open();
    let same: Vec<&str> = ["same", "other"].into_iter().cycle().take(10_000).collect();
    let embedded = client.embed(&same).await.expect("all is well");
    assert_all_right(&embedded, &same);
    assert_eq!((server.requests(), server.totals().rows), (1, 2));
    assert_eq!((embedded.tally.ok, embedded.tally.cached), (2, 9998));
}

#[tokio::test]
async fn texts_that_differ_in_anything_are_different() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).open();
    let list = ["é", "e\u{301}", "a", "a ", "A", "👩‍👩‍👧", "<|endoftext|>", "\"quoted\\\"", "tab\there", "\u{7f}x"];
    let embedded = client.embed(&list).await.expect("all is well");
    assert_all_right(&embedded, &list);
    assert_eq!(server.journal()[0].texts, list);
}

#[tokio::test]
async fn concurrent_calls_request_shared_texts_once() {
    let server = ApiServer::start(Behaviour {
        latency: (Duration::from_millis(80), Duration::from_millis(90)),
        ..Behaviour::default()
    });
    let server = server.await;
    let client = Arc::new(setup(&server).set(|s| s.max_inputs = Some(50)).open());
    let shared = texts(200);
    let calls = (0..8).map(|_| {
        let (client, shared) = (Arc::clone(&client), shared.clone());
        tokio::spawn(async move { client.embed(&refs(&shared)).await.expect("all is well") })
    });
    let mut paid = 0;
    for call in calls.collect::<Vec<_>>() {
        let embedded = call.await.expect("no panic");
        assert_all_right(&embedded, &refs(&shared));
        paid += embedded.tally.ok;
    }
    assert_eq!((server.requests(), paid), (4, 200));
}

/// Taken over in one piece, the vectors of another call's request once counted as paid for twice.
#[tokio::test]
async fn texts_of_another_calls_request_are_waited_for_and_not_paid_for() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).open();
    let shared = texts(20);
    let shared = refs(&shared);
    let (first, second) = tokio::join!(client.embed(&shared), client.embed(&shared));
    let tallies = [first, second].map(|embedded| embedded.expect("all is well").tally);
    assert_eq!(tallies.map(|tally| (tally.ok, tally.cached)), [(20, 0), (0, 20)]);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_call_that_leaves_does_not_leave_the_others_without() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = Arc::new(
        setup(&server)
            .set(|s| {
                s.client.rpm = Some(600);
                s.max_inputs = Some(1);
            })
            .open(),
    );
    let list = texts(14);
    let first = {
        let (client, list) = (Arc::clone(&client), list.clone());
        tokio::spawn(async move { client.embed(&refs(&list)).await.map(|_| ()) })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = {
        let (client, list) = (Arc::clone(&client), list.clone());
        tokio::spawn(async move { client.embed(&refs(&list)).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    first.abort();
    let embedded = second.await.expect("no panic").expect("it requests what the first did not");
    assert_all_right(&embedded, &refs(&list));
}

#[tokio::test]
async fn the_cache_has_the_vectors_the_second_time_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ApiServer::start(Behaviour::default()).await;
    let list = texts(100);
    for (more, requests, cached) in [(0, 1, 0), (0, 1, 100), (20, 2, 100)] {
        let client = setup(&server).cached_in(folder.path()).open();
        let list = [list.clone(), texts(100 + more).split_off(100)].concat();
        let embedded = client.embed(&refs(&list)).await.expect("all is well");
        assert_all_right(&embedded, &refs(&list));
        assert_eq!((server.requests(), embedded.tally.cached), (requests, cached));
        client.provider.flush().await.expect("the disk takes it");
    }
}

#[tokio::test]
async fn other_settings_are_other_vectors() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ApiServer::start(Behaviour::default()).await;
    setup(&server).cached_in(folder.path()).open().embed(&["a"]).await.expect("all is well");
    let other_length = setup(&server).cached_in(folder.path()).set(|s| s.dimensions = Some(16)).open();
    assert_eq!(row(&other_length.embed(&["a"]).await.expect("all is well"), 0), Some(vector("a", 16)));
    let other_model = setup(&server).cached_in(folder.path()).set(|s| s.model = "text-embedding-3-large".into()).open();
    other_model.embed(&["a"]).await.expect("all is well");
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn long_texts_are_cut_refused_or_averaged() {
    use flow::embed::OnTooLong;
    let long = format!("start {}", "word ".repeat(9000));
    for (on_too_long, sent) in [(OnTooLong::Truncate, 2), (OnTooLong::Error, 1), (OnTooLong::Mean, 3)] {
        let server = ApiServer::start(Behaviour::default()).await;
        let client = setup(&server).set(|s| s.on_too_long = on_too_long).open();
        let embedded = client.embed(&["short", &long]).await.expect("all is well");
        assert_eq!(row(&embedded, 0), Some(vector("short", 8)));
        let texts: Vec<String> = server.journal().into_iter().flat_map(|seen| seen.texts).collect();
        assert_eq!(texts.len(), sent, "{on_too_long:?}");
        match on_too_long {
            OnTooLong::Error => assert!(error(&embedded, 1).is_some_and(|why| why.starts_with("too_long"))),
            OnTooLong::Truncate => {
                assert!(long.starts_with(&texts[1]) && texts[1].len() > 8000 * 4);
                assert_eq!(row(&embedded, 1), Some(vector(&texts[1], 8)));
            }
            OnTooLong::Mean => {
                assert_eq!(texts[1..].concat(), long);
                let mean = row(&embedded, 1).expect("a vector");
                let length = mean.iter().map(|v| v * v).sum::<f32>().sqrt();
                assert!((length - 1.0).abs() < 1e-5, "of unit length: {length}");
                let toward = |other: &[f32]| mean.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
                assert!(toward(&vector(&texts[1], 8)) > toward(&vector(&texts[2], 8)), "the longer piece weighs more");
            }
        }
    }
}

#[tokio::test]
async fn exactly_as_many_tokens_as_allowed_are_sent_whole() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| s.on_too_long = flow::embed::OnTooLong::Error).open();
    let fits = format!("word{}", " word".repeat(8191));
    let over = format!("{fits} word");
    let embedded = client.embed(&[&fits, &over]).await.expect("all is well");
    assert_eq!(row(&embedded, 0), Some(vector(&fits, 8)));
    assert_eq!(error(&embedded, 1), Some("too_long: 8193 tokens, the model accepts 8192"));
}

#[tokio::test]
async fn a_text_that_only_the_server_finds_too_long_is_cut_as_it_says() {
    let server = ApiServer::start(Behaviour::default()).await;
    let why =
        r#"{"error":{"message":"This model's maximum context length is 10 tokens, however you requested 40 tokens"}}"#;
    server.fault(When::Text("end of the long text".into()), status(400, why));
    let client = setup(&server).set(|s| s.model = "unknown-model".into()).open();
    let long = format!("{} end of the long text", "word ".repeat(20));
    let embedded = client.embed(&["short", &long]).await.expect("cut");
    assert_eq!(row(&embedded, 0), Some(vector("short", 8)));
    let sent = server.journal().last().expect("the cut text").texts[0].clone();
    assert!(long.starts_with(&sent) && sent.len() < long.len() / 3, "{sent}");
    assert_eq!(row(&embedded, 1), Some(vector(&sent, 8)));
}

#[tokio::test]
async fn a_limit_is_read_by_its_phrase_and_not_from_the_name_of_the_model() {
    for (status_code, why) in [
        (400, "text-embedding-3-small's maximum context length is 90 tokens, however you requested 100 tokens"),
        (413, "Input validation error: `inputs` must have less than 90 tokens. Given: 100"),
        (500, "input (100 tokens) is too large to process. increase the physical batch size (current batch size: 90)"),
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        let body = serde_json::json!({"error": {"message": why, "type": "invalid_request_error"}}).to_string();
        server.fault(When::Text("the end".into()), status(status_code, &body));
        let client = setup(&server).set(|s| s.model = "unknown-model".into()).open();
        let long = format!("{} the end", "word ".repeat(99));
        let embedded = client.embed(&["short", &long]).await.expect("cut");
        assert_eq!(row(&embedded, 0), Some(vector("short", 8)));
        let sent = server.journal().last().expect("the cut text").texts[0].clone();
        assert_eq!(sent, long[..long.len() * 90 / 100], "{why}: as much as the limit allows");
        assert_eq!(row(&embedded, 1), Some(vector(&sent, 8)));
        assert!(server.requests() <= 4, "{why}: {} requests", server.requests());
    }
}

#[tokio::test]
async fn a_text_of_which_nothing_would_be_left_is_a_row_error_with_the_servers_words() {
    for why in [
        "maximum context length is 10 tokens, however you requested 100 tokens",
        "the input length exceeds the context length",
        "maximum context length is 5000 tokens, however you requested 9000 tokens",
    ] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Text("the end".into()), status(400, &format!(r#"{{"error":{{"message":"{why}"}}}}"#)));
        let client = setup(&server).set(|s| s.model = "unknown-model".into()).open();
        let long = format!("{} the end", " ".repeat(200));
        let embedded = client.embed(&["short", &long]).await.expect("a row error");
        assert_right_but(&embedded, &["short", &long], &[1]);
        let said = error(&embedded, 1).expect("a reason");
        assert!(said.starts_with("too_long: 400") && said.contains(why), "{said}");
        assert!(server.journal().iter().all(|seen| seen.texts.iter().all(|text| !text.trim().is_empty())));
    }
}

#[tokio::test]
async fn a_giant_text_costs_no_more_than_its_beginning() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).open();
    let giant = "x".repeat(10 << 20);
    let (embedded, took) = timed(client.embed(&[&giant])).await;
    assert!(embedded.expect("cut").vectors.is_valid(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn profiles_know_their_servers() {
    use flow::embed::openai::Profile;
    let tei = ApiServer::start(Behaviour { max_inputs: 32, max_bytes: 2 << 20, ..Behaviour::default() }).await;
    let client = setup(&tei).set(|s| {
        s.profile = Profile::named("tei");
        s.api_key = None;
    });
    let list = texts(100);
    assert_all_right(&client.open().embed(&refs(&list)).await.expect("32 at a time"), &refs(&list));
    assert!(tei.journal().iter().all(|seen| seen.status == 200 && seen.rows <= 32 && !seen.had_key));

    let azure = ApiServer::start(Behaviour { key: Some(CANARY_KEY.into()), ..Behaviour::default() }).await;
    let client = setup(&azure).set(|s| {
        s.profile = Profile::named("azure");
        s.base_url = Some(azure.base_url().replace("/v1", ""));
        s.api_version = Some("2024-02-01".into());
        s.model = "my-deployment".into();
    });
    client.open().embed(&["a"]).await.expect("the key in its own header");
    let seen = &azure.journal()[0];
    assert_eq!(seen.line, "POST /openai/deployments/my-deployment/embeddings?api-version=2024-02-01 HTTP/1.1");

    let ollama = ApiServer::start(Behaviour { base64: false, ..Behaviour::default() }).await;
    let client = setup(&ollama).set(|s| s.profile = Profile::named("ollama")).open();
    client.embed(&["a"]).await.expect("numbers");
    assert_eq!(ollama.journal()[0].encoding, "float");
}

#[tokio::test]
async fn addresses_with_and_without_a_slash_or_the_endpoint_are_the_same() {
    let server = ApiServer::start(Behaviour::default()).await;
    for ending in ["", "/", "/embeddings", "/embeddings/"] {
        let client = setup(&server).set(|s| s.base_url = Some(server.base_url() + ending)).open();
        client.embed(&["a"]).await.expect("the same address");
    }
    assert!(server.journal().iter().all(|seen| seen.line == "POST /v1/embeddings HTTP/1.1"));
}

#[tokio::test]
async fn the_address_and_the_key_may_come_from_the_environment() {
    let server = ApiServer::start(Behaviour { key: Some("from-the-environment".into()), ..Behaviour::default() }).await;
    let address = server.base_url();
    let mut setup = setup(&server).set(|s| {
        s.base_url = None;
        s.api_key = None;
        s.profile = Profile::named("openai");
    });
    setup.environment = ServiceEnvironment::new(move |name| match name {
        "OPENAI_BASE_URL" => Some(address.clone()),
        "OPENAI_API_KEY" => Some("from-the-environment".into()),
        _ => None,
    });
    assert_all_right(&setup.open().embed(&["a"]).await.expect("found"), &["a"]);
}

#[tokio::test]
async fn keys_that_cannot_work_are_refused_before_anything_is_sent() {
    let server = ApiServer::start(Behaviour::default()).await;
    for key in [None, Some(""), Some("  "), Some("canary-key-0123\n"), Some("two words")] {
        let setup = setup(&server).set(|s| {
            s.profile = Profile::named("openai");
            s.api_key = key.map(Secret::new);
        });
        let result = match setup.try_open() {
            // A plan needs no key; a run does.
            Ok(client) => client.embed(&["a"]).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let Err(error @ ServiceError::Refused(_)) = result else { panic!("{key:?}") };
        assert!(error.to_string().contains("key"), "{error}");
        assert_no_key(&error);
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn the_key_is_in_no_message_of_any_kind() {
    for body in [
        format!("wrong key {CANARY_KEY}"),
        format!(r#"{{"error":{{"message":"Incorrect API key provided: {CANARY_KEY}"}}}}"#),
        format!(
            r#"{{"error":{{"message":"Incorrect API key provided: {}*****{}"}}}}"#,
            &CANARY_KEY[..6],
            &CANARY_KEY[20..]
        ),
    ] {
        for code in [400, 401, 500] {
            let server = ApiServer::start(Behaviour::default()).await;
            server.fault(When::Text("bad".into()), status(code, &body));
            let client = setup(&server).set(|s| s.client.retry.max_attempts = 2).open();
            match client.embed(&["good", "bad"]).await {
                Err(error) => assert_no_key(&error),
                Ok(embedded) => {
                    let why = error(&embedded, 1).expect("a reason");
                    assert!(!why.contains("canary") && !why.contains("9abcdef"), "{why}");
                }
            }
            assert!(!format!("{:?}", client.provider).contains("canary"));
        }
    }
}

#[tokio::test]
async fn the_online_check_reports_whether_the_endpoint_works() {
    let server = ApiServer::start(Behaviour { key: Some(CANARY_KEY.into()), ..Behaviour::default() }).await;
    setup(&server).open().provider.ping().await.expect("it works");
    let wrong = setup(&server).set(|s| s.api_key = Some(Secret::new("another-key"))).open();
    assert!(matches!(wrong.provider.ping().await, Err(ServiceError::Refused(_))));
    server.fault(When::Always, status(503, ""));
    assert!(matches!(setup(&server).open().provider.ping().await, Err(ServiceError::Stopped(_))));
}
