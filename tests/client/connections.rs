//! Connections: refused, reset, cut, stalled, slow, stale.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

#[tokio::test]
async fn broken_connections_are_tried_again() {
    for fault in [
        Fault::Reset,
        Fault::Raw(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
        Fault::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()),
        Fault::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n".to_vec()),
        Fault::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        Fault::Raw(b"HTTP/1.1 OK\r\n\r\n".to_vec()),
        Fault::Raw(vec![0; 100]),
        Fault::Headers(vec![("content-length".into(), "10".into())]),
    ] {
        survives(&[(When::Nth(1), fault)], 2).await;
    }
}

#[tokio::test]
async fn a_stale_connection_is_not_a_failure() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(1), Fault::CloseAfter).fault(When::Nth(3), Fault::Close);
    // A second attempt is not allowed, but a stale connection does not count as one.
    let client = setup(&server).set(|s| s.client.retry.max_attempts = 1).open();
    for text in ["a", "b", "c"] {
        assert_all_right(&client.embed(&[text]).await.expect("sent again"), &[text]);
    }
}

#[tokio::test]
async fn a_server_that_never_responds_costs_one_timeout() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(1), Fault::Stall);
    let client = setup(&server).set(|s| s.client.timeout = Duration::from_millis(150)).open();
    let (embedded, took) = timed(client.embed(&["a"])).await;
    assert_all_right(&embedded.expect("the second attempt"), &["a"]);
    assert!((150..3000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_slow_drip_is_cut_by_the_timeout() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(1), Fault::Drip(Duration::from_millis(20)));
    let client = setup(&server).set(|s| s.client.timeout = Duration::from_millis(200)).open();
    let (embedded, took) = timed(client.embed(&["a"])).await;
    assert_all_right(&embedded.expect("the second attempt"), &["a"]);
    assert!((200..3000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn the_wait_for_a_response_is_bounded_by_the_timeout_alone_and_not_by_the_partition_timeout() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, Fault::Delay(Duration::from_millis(300)));
    let client = setup(&server).set(|s| s.client.timeout = Duration::from_secs(20)).open();
    let work = flow::net::work_clock::timeout(Duration::from_millis(150), client.embed(&["a"]));
    assert_all_right(&work.await.expect("no work").expect("a response"), &["a"]);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn only_an_attempt_that_was_sent_may_have_been_billed() {
    let stalled = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let tls = format!("https://{}/v1", stalled.local_addr().expect("its number"));
    for (address, may_have_been_billed) in [(Some(tls), false), (None, true)] {
        let server = ApiServer::start(Behaviour::default()).await;
        server.fault(When::Always, Fault::Stall);
        let client = setup(&server).set(|s| {
            s.base_url = address.or(s.base_url.take());
            s.client.timeout = Duration::from_millis(100);
            s.client.retry.max_attempts = 1;
        });
        let client = client.open();
        let result = client.embed(&["a"]).await;
        assert!(matches!(result, Err(ServiceError::Stopped(_))), "{result:?}");
        assert_eq!(client.usage().unconfirmed_usd > 0.0, may_have_been_billed);
    }
}

#[tokio::test]
async fn waiting_for_a_rate_limit_is_not_on_the_wire() {
    // Each request waits its turn for far longer than an attempt may take.
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.client.timeout = Duration::from_millis(150);
        s.client.rpm = Some(600);
        s.max_inputs = Some(1);
    });
    let client = client.open();
    let texts = texts(12);
    let embedded = client.embed(&refs(&texts)).await.expect("no attempt timed out");
    assert_all_right(&embedded, &refs(&texts));
    assert_eq!(client.usage().retries, 0);
}

#[tokio::test]
async fn a_server_that_refuses_connections_stops_the_run_with_a_useful_message() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("its number").port()
    };
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.base_url = Some(format!("http://127.0.0.1:{port}/v1"));
        s.client.retry.max_attempts = 3;
    });
    let result = client.open().embed(&["a"]).await;
    let Err(error @ ServiceError::Stopped(_)) = result else { panic!("{result:?}") };
    let text = error.to_string();
    assert!(text.contains("127.0.0.1") && text.contains("refused") && text.contains("run again"), "{text}");
    assert_no_key(&error);
}

#[tokio::test]
async fn a_name_that_does_not_exist_stops_the_run() {
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.base_url = Some("http://no-such-host.invalid/v1".into());
        s.client.retry.max_attempts = 2;
    });
    let result = client.open().embed(&["a"]).await;
    assert!(matches!(&result, Err(ServiceError::Stopped(why)) if why.contains("no-such-host.invalid")), "{result:?}");
}

#[tokio::test]
async fn an_outage_ends_the_run_after_the_longest_allowed_with_few_requests() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Always, status(503, "down"));
    let client = setup(&server).set(|s| {
        s.client.retry.max_attempts = 1000;
        s.client.max_outage = Duration::from_millis(600);
        s.max_inputs = Some(1);
    });
    let client = client.open();
    let texts = texts(100);
    let (result, took) = timed(client.embed(&refs(&texts))).await;
    assert!(matches!(&result, Err(ServiceError::Stopped(why)) if why.contains("max_outage")), "{result:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(server.requests() < 40, "the circuit breaker holds all requests back: {}", server.requests());
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::First(12), status(503, "restarting"));
    let client = setup(&server).set(|s| s.max_inputs = Some(1)).open();
    let texts = texts(20);
    assert_all_right(&client.embed(&refs(&texts)).await.expect("it comes back"), &refs(&texts));
}

#[tokio::test]
async fn many_faults_of_every_kind_lose_nothing() {
    let server = ApiServer::start(Behaviour { faults: 0.15, ..Behaviour::default() }).await;
    let client = setup(&server).set(|s| s.max_inputs = Some(10)).open();
    let texts = texts(2000);
    let embedded = client.embed(&refs(&texts)).await.expect("15 % faults are survived");
    assert_all_right(&embedded, &refs(&texts));
}

#[tokio::test]
async fn tls_to_a_server_without_it_is_reported_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("https://{}/v1", listener.local_addr().expect("its number"));
    let plain = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // The first bytes of a handshake are no HTTP; servers say so in HTTP.
            let mut hello = [0; 16];
            let _ = socket.read(&mut hello).await;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| s.base_url = Some(address)).open();
    let result = client.embed(&["a"]).await;
    assert!(
        matches!(&result, Err(ServiceError::Refused(why)) if why.contains("TLS") && why.contains("http://")),
        "{result:?}"
    );
    plain.abort();
}

#[tokio::test]
async fn a_tls_handshake_that_stalls_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("https://{}/v1", listener.local_addr().expect("its number"));
    let held = tokio::spawn(async move {
        let mut sockets = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            sockets.push(socket);
        }
    });
    let server = ApiServer::start(Behaviour::default()).await;
    let client = setup(&server).set(|s| {
        s.base_url = Some(address);
        s.client.timeout = Duration::from_millis(150);
        s.client.retry.max_attempts = 2;
    });
    let (result, took) = timed(client.open().embed(&["a"])).await;
    assert!(matches!(result, Err(ServiceError::Stopped(_))), "{result:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    held.abort();
}

#[tokio::test]
async fn what_is_on_the_wire_when_the_caller_leaves_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ApiServer::start(Behaviour::default()).await;
    server.fault(When::Nth(1), Fault::Delay(Duration::from_millis(300)));
    let client = setup(&server).cached_in(folder.path()).open();
    let left = tokio::time::timeout(Duration::from_millis(150), client.embed(&["paid for"])).await;
    assert!(left.is_err(), "the caller leaves before the response");
    for _ in 0..100 {
        if client.estimate(&["paid for"]).cached_rows == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_all_right(&client.embed(&["paid for"]).await.expect("from the cache"), &["paid for"]);
    assert_eq!(server.requests(), 1);
}
