//! Money and requests: counted, estimated, capped.

use super::*;

#[tokio::test]
async fn an_estimate_is_what_a_run_then_sends() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.max_inputs = Some(7);
        s.max_tokens = Some(30);
    });
    let client = client.open();
    // The server counts one token for every four bytes; this test is about our own count.
    server.fault(When::Always, Fault::Edit(|body| body.replace("_tokens\"", "_nothing\"")));
    let mut list = texts(100);
    list.extend(texts(20));
    list.push(String::new());
    let estimate = client.estimate(&refs(&list));
    client.embed(&refs(&list)).await.expect("all is well");
    let usage = client.usage();
    assert_eq!((estimate.requests, estimate.tokens), (usage.requests, usage.tokens));
    assert_eq!((estimate.rows, estimate.unique_rows, estimate.cached_rows), (121, 100, 0));
    assert_eq!(estimate.cost_nano_usd, Some(usage.tokens * 20));
    assert!((usage.cost_usd - usage.tokens as f64 * 20e-9).abs() < 1e-12);
}

#[tokio::test]
async fn estimates_of_several_partitions_add_up_as_their_run_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).cached_in(folder.path()).open();
    let parts = [texts(30), texts(50), texts(10)];
    let mut estimate = Estimate::default();
    for part in &parts {
        client.provider.estimate(&StringArray::from(refs(part)), &mut estimate).expect("an estimate");
    }
    for part in &parts {
        client.embed(&refs(part)).await.expect("all is well");
    }
    assert_eq!((estimate.rows, estimate.unique_rows), (90, 50));
    assert_eq!(estimate.requests, client.usage().requests);
    assert_eq!(server.embedded().len(), 50);
    assert!(server.embedded().values().all(|times| *times == 1));
    let mut again = Estimate::default();
    client.provider.estimate(&StringArray::from(refs(&parts[1])), &mut again).expect("an estimate");
    assert_eq!((again.requests, again.tokens, again.cached_rows), (0, 0, 50));
}

/// A client that may spend five cents, at a dollar a thousand tokens; what the server counts is what is billed.
fn with_five_cents(server: &ApiServer) -> Client {
    let mut setup = setup(server).set(|s| {
        s.price = Some(flow::net::prices::Price::per_million(1000.0));
        s.max_inputs = Some(2);
    });
    setup.max_cost_nano_usd = Some(50_000_000);
    setup.open()
}

#[tokio::test]
async fn the_spending_cap_is_never_passed() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = with_five_cents(&server);
    let texts = texts(400);
    let Err(ServiceError::Stopped(why)) = client.embed(&refs(&texts)).await else { panic!("the cap is reached") };
    assert!(why.contains("spending cap") && why.contains("--max-cost"), "{why}");
    let spent = client.usage().cost_usd;
    assert!(spent <= 0.05 && spent > 0.03, "{spent}");
    assert!(server.totals().tokens <= 50);
}

#[tokio::test]
async fn the_spending_cap_holds_although_billed_responses_are_lost() {
    // Every second response is truncated: the server has counted, and billed, each of them.
    let server = ApiServer::start(Behaviour::default()).await;
    for n in 0..200 {
        server.fault(When::Nth(2 * n + 1), Fault::Cut(0.5));
    }
    let client = with_five_cents(&server);
    let texts = texts(400);
    let Err(ServiceError::Stopped(why)) = client.embed(&refs(&texts)).await else { panic!("the cap is reached") };
    assert!(why.contains("requests without a response"), "{why}");
    let usage = client.usage();
    assert!(usage.unconfirmed_usd > 0.0 && usage.cost_usd + usage.unconfirmed_usd <= 0.05, "{usage:?}");
    assert!(server.totals().tokens <= 50, "billed {}", server.totals().tokens);
}

#[tokio::test]
async fn the_cap_on_requests_is_never_passed() {
    let server = ApiServer::start(Behaviour { faults: 0.2, ..Behaviour::default() }).await;
    let mut setup = setup(&server).set(|s| s.max_inputs = Some(1));
    setup.max_requests = Some(25);
    let client = setup.open();
    let texts = texts(100);
    let result = client.embed(&refs(&texts)).await;
    assert!(matches!(&result, Err(ServiceError::Stopped(why)) if why.contains("--max-requests")), "{result:?}");
    assert!(server.requests() <= 25, "{}", server.requests());
    assert_eq!(client.usage().requests, 25);
}

#[tokio::test]
async fn a_cap_on_money_needs_a_price() {
    let server = ApiServer::start(Behaviour::default()).await;
    let mut setup = setup(&server).set(|s| s.model = "unknown-model".into());
    setup.max_cost_nano_usd = Some(1);
    let Err(ServiceError::Refused(why)) = setup.try_open().map(|_| ()) else { panic!("refused") };
    assert!(why.contains("price_per_million_tokens"), "{why}");
}

#[tokio::test]
async fn retries_and_refusals_are_counted() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(1), status(503, "")).fault(When::Nth(2), status(429, ""));
    let client = setup(&server).open();
    client.embed(&["a"]).await.expect("the third attempt");
    let usage = client.usage();
    assert_eq!((usage.requests, usage.retries, usage.throttled), (3, 2, 1));
    assert_eq!(usage.tokens, server.totals().tokens, "only good responses are billed");
}

#[tokio::test]
async fn what_the_cache_saves_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ApiServer::start(Behaviour::default()).await;
    let texts = texts(40);
    setup(&server).cached_in(folder.path()).open().embed(&refs(&texts)).await.expect("paid");
    let client = setup(&server).cached_in(folder.path()).open();
    client.embed(&refs(&texts)).await.expect("free");
    let usage = client.usage();
    assert_eq!((usage.requests, usage.tokens), (0, 0));
    assert!(usage.saved_usd > 0.0);
}
