//! Rate limits: obeyed from headers, shared by all clients, learned where the server does not send them.

use super::*;

fn refusals(server: &ApiServer) -> u64 {
    server.totals().by_status.get(&429).copied().unwrap_or(0)
}

#[tokio::test]
async fn nothing_left_means_waiting_for_the_reset_not_a_refusal() {
    // One request at once, two a second.
    let server = ApiServer::start(Behaviour { rpm: Some(120.0), burst_seconds: 0.5, ..Behaviour::default() }).await;
    let client = setup(&server).set(|s| {
        s.max_inputs = Some(1);
        s.client.concurrency = Some(1);
    });
    let texts = texts(4);
    let (embedded, took) = timed(client.open().embed(&refs(&texts))).await;
    assert_all_right(&embedded.expect("all is well"), &refs(&texts));
    assert_eq!(refusals(&server), 0);
    assert!(took >= Duration::from_millis(1400), "{took:?}");
}

#[tokio::test]
async fn a_configured_limit_holds_for_all_clients_of_the_process_together() {
    let server = ApiServer::start(Behaviour::default()).await;
    let limiters: Arc<EndpointRegistry> = Arc::default();
    let client = || {
        let mut setup = setup(&server).set(|s| {
            s.client.rpm = Some(1200);
            s.max_inputs = Some(1);
        });
        setup.limiters = Arc::clone(&limiters);
        setup.open()
    };
    let (one, other) = (client(), client());
    let (mine, yours) = (texts(25), texts(50).split_off(25));
    let ((a, b), took) = timed(async { tokio::join!(one.embed(&mine), other.embed(&yours)) }).await;
    a.expect("one");
    b.expect("other");
    // 50 requests at twenty a second, the first second's worth at once.
    assert!(took >= Duration::from_millis(1400), "{took:?}");
}

#[tokio::test]
async fn a_request_larger_than_the_burst_goes_out_alone() {
    let server = ApiServer::start(Behaviour { tpm: Some(6000.0), ..Behaviour::default() }).await;
    let client = setup(&server).open();
    let texts = texts(500);
    let embedded = client.embed(&refs(&texts)).await.expect("a minute's worth fits the bucket");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!((server.requests(), refusals(&server)), (1, 0));
}

#[tokio::test]
async fn a_limit_below_one_text_truncates_the_text_instead_of_waiting_for_ever() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.client.tpm = Some(50);
        s.on_too_long = flow::embed::OnTooLong::Error;
    });
    let long = "word ".repeat(100);
    let embedded = client.open().embed(&[&long]).await.expect("a row error");
    assert!(error(&embedded, 0).is_some_and(|why| why.starts_with("too_long")), "{:?}", error(&embedded, 0));
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn two_clients_that_know_nothing_of_each_other_share_a_quota() {
    let server = ApiServer::start(Behaviour { rpm: Some(1200.0), burst_seconds: 1.0, ..Behaviour::default() }).await;
    let client = || setup(&server).set(|s| s.max_inputs = Some(1)).open();
    let (one, other) = (client(), client());
    let (mine, yours) = (texts(40), texts(80).split_off(40));
    let (a, b) = tokio::join!(one.embed(&mine), other.embed(&yours));
    assert_all_right(&a.expect("one"), &refs(&mine));
    assert_all_right(&b.expect("other"), &refs(&yours));
}

#[tokio::test]
async fn refusals_without_any_hint_slow_the_client_down() {
    let server =
        ApiServer::start(Behaviour { rpm: Some(3000.0), burst_seconds: 0.4, headers: false, ..Behaviour::default() })
            .await;
    let client = setup(&server).set(|s| s.max_inputs = Some(1)).open();
    let texts = texts(200);
    let embedded = client.embed(&refs(&texts)).await.expect("it learns the rate");
    assert_all_right(&embedded, &refs(&texts));
    assert!(refusals(&server) < 60, "{} refusals for 200 requests", refusals(&server));
}

#[tokio::test]
async fn the_wait_for_a_limit_does_not_count_towards_the_partition_timeout() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.client.rpm = Some(600);
        s.max_inputs = Some(1);
    });
    let client = client.open();
    let texts = texts(16);
    // 16 requests at ten a second, ten at once: more than half a second of waiting, hardly any work.
    let limit = Duration::from_millis(400);
    let (outcome, took) = timed(flow::net::work_clock::timeout(limit, client.embed(&refs(&texts)))).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(took > limit, "{took:?}");
}
