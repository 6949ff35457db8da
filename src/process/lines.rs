//! The lines that a process writes: drained always, shown with the node's name, and the last ones kept for messages.

use std::{
    collections::VecDeque,
    fmt,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Lines kept for the message of a worker that died.
const KEPT: usize = 50;
/// Bytes of one line that are shown.
const LONGEST: usize = 4000;
/// A line that a worker writes after everything that a function wrote.
const MARK: &str = "\u{1e}flow\u{1e}";

/// Receives the lines: the name of the node, and the line.
type Listen = dyn Fn(&str, &str) + Send + Sync;

/// Where the lines of all processes go.
#[derive(Clone, Default)]
pub struct Speaker(Arc<Mutex<Option<Arc<Listen>>>>);

impl Speaker {
    /// Sends all lines to this function from now on.
    pub fn listen(&self, listen: impl Fn(&str, &str) + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(listen));
    }

    /// Sends no more lines anywhere.
    pub fn mute(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn say(&self, node: &str, line: &str) {
        let listen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listen) = listen {
            listen(node, line);
        }
    }
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Speaker")
    }
}

/// What one process writes.
#[derive(Debug)]
pub struct Lines {
    state: Mutex<State>,
    changed: Notify,
    speaker: Speaker,
}

#[derive(Debug, Default)]
struct State {
    node: Option<String>,
    last: VecDeque<String>,
    marks: u64,
    ended: bool,
}

impl Lines {
    /// Starts the thread that reads; the lines belong to `node` until [`Lines::belongs_to`] says otherwise, and with `None`
    /// they are not shown.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn drain(
        input: impl Read + Send + 'static,
        node: Option<&str>,
        speaker: Speaker,
    ) -> std::io::Result<Arc<Self>> {
        // A program that is started for a node may write and end before anything else is said about its lines.
        let state = Mutex::new(State { node: node.map(str::to_owned), ..State::default() });
        let lines = Arc::new(Self { state, changed: Notify::new(), speaker });
        let draining = lines.clone();
        std::thread::Builder::new().name("process-lines".to_owned()).spawn(move || {
            let mut input = BufReader::new(input);
            let mut line = Vec::new();
            while read_line(&mut input, &mut line) {
                draining.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            }
            draining.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            draining.changed.notify_waiters();
        })?;
        Ok(lines)
    }

    fn line(&self, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if line == MARK {
            state.marks += 1;
            drop(state);
            self.changed.notify_waiters();
            return;
        }
        if line.trim().is_empty() {
            return;
        }
        if state.last.len() == KEPT {
            state.last.pop_front();
        }
        state.last.push_back(line.to_owned());
        let node = state.node.clone();
        drop(state);
        if let Some(node) = node {
            self.speaker.say(&node, line);
        }
    }

    /// Lines belong to this node from now on; with `None` they are not shown. Returns the marks that were read.
    pub fn belongs_to(&self, node: Option<&str>) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.node = node.map(str::to_owned);
        state.last.clear();
        state.marks
    }

    /// Waits until the mark after `marks` others was read, or nothing more comes.
    pub async fn marked(&self, marks: u64) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.marks > marks || state.ended {
                    return;
                }
            }
            changed.await;
        }
    }

    /// The last lines, each on a line of its own and indented; empty when there are none.
    pub fn last_lines(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.iter().map(|line| format!("\n  {line}")).collect()
    }
}

/// Reads one line; what exceeds the longest is left out. False at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    line.clear();
    let mut any = false;
    loop {
        let available = match input.fill_buf() {
            Ok([]) => return any,
            Ok(available) => available,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return any,
        };
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(available.len(), |end| end + 1);
        let kept = count.min(LONGEST.saturating_sub(line.len()));
        line.extend_from_slice(&available[..kept]);
        input.consume(count);
        if end.is_some() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_belong_to_the_node_and_the_last_ones_are_kept() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let speaker = Speaker::default();
        speaker.listen({
            let heard = heard.clone();
            move |node, line| heard.lock().expect("not poisoned").push(format!("{node}: {line}"))
        });
        let (output, input) = std::io::pipe().expect("a pipe");
        let lines = Lines::drain(output, None, speaker).expect("a thread");
        let marks = lines.belongs_to(Some("clean"));
        let text = (0..60).map(|n| format!("line {n}\n")).collect::<String>() + &"x".repeat(9000) + "\n" + MARK + "\n";
        std::io::Write::write_all(&mut &input, text.as_bytes()).expect("written");
        lines.marked(marks).await;
        let heard = heard.lock().expect("not poisoned");
        assert_eq!((heard.len(), heard[0].as_str()), (61, "clean: line 0"));
        assert_eq!(heard[60].len(), "clean: ".len() + LONGEST);
        let last = lines.last_lines();
        assert_eq!(last.matches("line ").count(), KEPT - 1);
        assert!(last.starts_with("\n  line 11\n"), "{last}");
    }
}
