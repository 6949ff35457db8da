//! HTTP/1.1 over a socket, as far as tests need it, and everything that can go wrong with it.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::Fault;

/// A request as read from the socket.
pub(super) struct Incoming {
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

pub(super) async fn read_request(socket: &mut BufReader<TcpStream>) -> std::io::Result<Option<Incoming>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = match socket.read_u8().await {
            Ok(byte) => byte,
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let line = lines.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(Some(Incoming { line, headers, body }))
}

/// What the server decided to do about a request.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) latency: Duration,
    /// Whether it counts against the limit of requests at the same time.
    pub(super) counted: bool,
    pub(super) fault: Option<Fault>,
}

/// Sends a reply; false when the connection ends with it.
pub(super) async fn deliver(socket: &mut BufReader<TcpStream>, reply: Reply) -> std::io::Result<bool> {
    let Reply { status, headers, body, fault, .. } = reply;
    match fault {
        Some(Fault::Raw(bytes)) => {
            socket.write_all(&bytes).await?;
            socket.shutdown().await?;
            return Ok(false);
        }
        Some(Fault::Cut(share)) => {
            socket.write_all(&head(status, &headers, body.len())).await?;
            socket.write_all(&body[..(body.len() as f64 * share) as usize]).await?;
            socket.flush().await?;
            socket.shutdown().await?;
            return Ok(false);
        }
        Some(Fault::Truncated(share)) => {
            send(socket, status, &headers, &body[..(body.len() as f64 * share) as usize]).await?;
        }
        Some(Fault::Drip(pause)) => {
            socket.write_all(&head(status, &headers, body.len())).await?;
            for byte in body {
                socket.write_all(&[byte]).await?;
                socket.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
        Some(Fault::Delay(pause)) => {
            tokio::time::sleep(pause).await;
            send(socket, status, &headers, &body).await?;
        }
        Some(Fault::Stall) => std::future::pending::<()>().await,
        Some(Fault::Reset) => {
            // With unread bytes or no linger, closing sends RST instead of FIN.
            socket.get_ref().set_zero_linger()?;
            return Ok(false);
        }
        Some(Fault::Close) => return Ok(false),
        Some(Fault::CloseAfter) => {
            send(socket, status, &headers, &body).await?;
            return Ok(false);
        }
        Some(Fault::Endless) => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let chunk = vec![b' '; 64 << 10];
            loop {
                socket.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                socket.write_all(&chunk).await?;
                socket.write_all(b"\r\n").await?;
            }
        }
        Some(Fault::GzipBomb(size)) => {
            let mut all = headers.clone();
            all.push(("content-encoding".into(), "gzip".into()));
            send(socket, 200, &all, &gzip_of_blanks(size)).await?;
        }
        _ => send(socket, status, &headers, &body).await?,
    }
    Ok(true)
}

pub(super) fn head(status: u16, headers: &[(String, String)], length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !has("content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    if !has("content-length") && !has("transfer-encoding") {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

pub(super) async fn send(
    socket: &mut BufReader<TcpStream>,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut all = head(status, headers, body.len());
    all.extend_from_slice(body);
    socket.write_all(&all).await?;
    socket.flush().await
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Gzip of `size` blanks: one literal, then "the last byte 258 times" again and again, in fixed Huffman codes. Its
/// checksum is wrong; a client must give up before it reads that.
fn gzip_of_blanks(size: usize) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut count) = (0u32, 0);
    let mut push = |out: &mut Vec<u8>, code: u32, length: u32| {
        // Huffman codes go in from their highest bit.
        for bit in (0..length).rev() {
            bits |= (code >> bit & 1) << count;
            count += 1;
            if count == 8 {
                out.push(bits as u8);
                (bits, count) = (0, 0);
            }
        }
    };
    push(&mut out, 1, 1);
    push(&mut out, 0b10, 2);
    push(&mut out, 0x30 + u32::from(b' '), 8);
    for _ in 0..size / 258 {
        push(&mut out, 0b1100_0101, 8);
        push(&mut out, 0, 5);
    }
    push(&mut out, 0, 7);
    push(&mut out, 0, 7);
    out.extend_from_slice(&[0; 8]);
    out
}
