//! Counts the HTTP/1.1 requests that pass through to a server on loopback.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// A port in front of another one. Its threads end with the process.
pub struct Proxy {
    pub port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// In front of `target`.
    pub fn new(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", target))) else { continue };
                let back = (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                let log = Arc::clone(&log);
                thread::spawn(move || pass(client, server, Some(&log)));
                thread::spawn(move || pass(back.0, back.1, None));
            }
        });
        Self { port, lines }
    }

    /// How many requests of each kind since the last call: `GET` of a listing is `LIST`.
    pub fn take(&self) -> BTreeMap<String, usize> {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let mut counts = BTreeMap::new();
        for line in lines {
            // The end of a body may directly precede it.
            let end = line.rfind(" /").unwrap_or_default();
            let begin = line[..end].rfind(|c: char| !c.is_ascii_uppercase()).map_or(0, |at| at + 1);
            let method = &line[begin..end];
            let list = method == "GET" && (line.contains("list-type=2") || line.contains("comp=list"));
            *counts.entry(if list { "LIST" } else { method }.to_owned()).or_default() += 1;
        }
        counts
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, log: Option<&Mutex<Vec<String>>>) {
    const MARK: &[u8] = b" HTTP/1.1\r\n";
    let mut buffer = vec![0; 1 << 16];
    let mut tail: Vec<u8> = Vec::new();
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
        let Some(log) = log else { continue };
        tail.extend_from_slice(&buffer[..n]);
        while let Some(at) = tail.windows(MARK.len()).position(|window| window == MARK) {
            let begin = tail[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            let line = String::from_utf8_lossy(&tail[begin..at]).into_owned();
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            tail.drain(..at + MARK.len());
        }
        // A request line is no longer than this; bodies are not kept.
        let keep = tail.len().saturating_sub(4096);
        tail.drain(..keep);
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
