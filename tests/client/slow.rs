//! Slow servers, and servers that limit requests at the same time: what works is found, remembered, and used for all requests.

use super::*;

/// A client that knows nothing about the server.
fn careful(server: &ApiServer) -> Setup {
    setup(server).set(|s| s.profile = None)
}

/// Embeds partitions of these sizes at once.
async fn embed_all(client: &Client, partitions: &[usize]) {
    let all = texts(partitions.iter().sum());
    let mut rest = &all[..];
    let mut calls = Vec::new();
    for texts in partitions {
        let (mine, others) = rest.split_at(*texts);
        rest = others;
        calls.push(async move { (client.embed(mine).await, mine) });
    }
    for (embedded, mine) in futures::future::join_all(calls).await {
        assert_all_right(&embedded.expect("no partition is lost"), &refs(mine));
    }
}

const SHIPPED: &[usize] = &[500, 500, 500, 266];

#[tokio::test]
async fn one_worker_that_goes_on_computing_loses_no_partition_and_computes_hardly_a_text_twice() {
    let server =
        ApiServer::start(Behaviour { workers: Some((1, Duration::from_millis(1))), ..Behaviour::default() }).await;
    let client = careful(&server).set(|s| s.client.timeout = Duration::from_millis(1200)).open();
    embed_all(&client, SHIPPED).await;
    assert!(server.computed() <= 1766 * 13 / 10, "{} texts computed", server.computed());
    let adapted = client.provider.adapted();
    assert!(adapted.max_inputs.is_some_and(|texts| texts < 500) && adapted.concurrency.is_some(), "{adapted:?}");
}

#[tokio::test]
async fn sixteen_workers_and_a_short_time_limit_cost_few_texts_twice() {
    let server =
        ApiServer::start(Behaviour { workers: Some((16, Duration::from_millis(3))), ..Behaviour::default() }).await;
    let client = careful(&server).set(|s| s.client.timeout = Duration::from_secs(1)).open();
    embed_all(&client, SHIPPED).await;
    assert!(server.computed() < 2500, "{} texts computed", server.computed());
}

#[tokio::test]
async fn a_request_without_a_response_in_time_is_halved_for_all_and_not_at_once() {
    // 500 texts take two seconds.
    let server =
        ApiServer::start(Behaviour { workers: Some((4, Duration::from_millis(4))), ..Behaviour::default() }).await;
    let client = setup(&server).set(|s| s.client.timeout = Duration::from_millis(1200)).open();
    embed_all(&client, &[500, 500]).await;
    let sizes: Vec<usize> = server.journal().iter().map(|seen| seen.rows).filter(|rows| *rows > 1).collect();
    assert_eq!(&sizes[..2], [500, 500]);
    assert!(sizes.iter().filter(|rows| **rows == 500).count() <= 4, "{sizes:?}");
    embed_all(&client, &[400, 350]).await;
    let later = server.journal().iter().skip(sizes.len() + 1).map(|seen| seen.rows).max();
    assert!(later.is_some_and(|rows| rows < 400), "{later:?}");
}

#[tokio::test]
async fn a_gateway_that_responds_with_504_gets_requests_that_it_waits_for() {
    let server = ApiServer::start(Behaviour {
        workers: Some((64, Duration::from_millis(4))),
        gateway: Some(Duration::from_millis(1100)),
        ..Behaviour::default()
    })
    .await;
    let client = careful(&server).set(|s| s.client.timeout = Duration::from_secs(10)).open();
    embed_all(&client, SHIPPED).await;
    let refused = server.totals().by_status.get(&504).copied().unwrap_or(0);
    assert!(refused <= 4, "{refused} of {}", server.requests());
    assert!(server.computed() <= 1766 + 4 * 500, "{} texts computed", server.computed());
}

#[tokio::test]
async fn a_500_above_sixteen_texts_is_divided_once_for_the_endpoint() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::MoreThan(16), status(500, r#"{"error":"llama_decode returned -1"}"#));
    let client = setup(&server).open();
    embed_all(&client, &[500]).await;
    let learning = server.requests();
    // Both halves are divided at the same time.
    assert!(learning < 80, "{learning}");
    assert_eq!(client.provider.adapted().max_inputs, Some(16));
    embed_all(&client, &[500, 500, 500]).await;
    // The first 500 texts are requested again: there is no cache.
    assert_eq!(server.requests() - learning, 3 * 500u64.div_ceil(16));
}

#[tokio::test]
async fn too_many_at_once_lowers_the_concurrency_and_not_the_rate() {
    let server = ApiServer::start(Behaviour {
        at_once: Some(1),
        latency: (Duration::from_millis(50), Duration::from_millis(50)),
        ..Behaviour::default()
    })
    .await;
    let client = setup(&server).set(|s| s.max_inputs = Some(100)).open();
    embed_all(&client, &[500, 500, 500, 500]).await;
    let refused = server.totals().by_status.get(&429).copied().unwrap_or(0);
    assert!(refused < 12, "{refused} refused");
    assert_eq!(client.provider.adapted().concurrency, Some(1));
}

#[tokio::test]
async fn refusals_at_any_pace_cost_one_request_each() {
    let server = ApiServer::start(Behaviour {
        refuse_each: Some(10),
        latency: (Duration::from_millis(10), Duration::from_millis(10)),
        ..Behaviour::default()
    })
    .await;
    let client = setup(&server).set(|s| s.max_inputs = Some(1)).open();
    embed_all(&client, &[400, 400]).await;
    let refused = server.totals().by_status.get(&429).copied().unwrap_or(0);
    assert_eq!(refused, server.requests() / 10, "each tenth, and each was sent again");
}

/// The first requests to an unknown server are small; a fast one gets full ones right after them.
#[tokio::test]
async fn a_fast_server_gets_full_requests_after_the_first_responses() {
    let server = ApiServer::start(Behaviour {
        latency: (Duration::from_millis(50), Duration::from_millis(50)),
        ..Behaviour::default()
    })
    .await;
    let client = careful(&server).set(|s| s.client.timeout = Duration::from_secs(60)).open();
    embed_all(&client, SHIPPED).await;
    // One small request of each partition, and one with the rest of it.
    assert!(server.requests() <= 9, "{:?}", server.journal().iter().map(|seen| seen.rows).collect::<Vec<_>>());
    assert_eq!(server.journal().iter().map(|seen| seen.rows).sum::<usize>(), 1766);
}
