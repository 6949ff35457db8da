//! A scripted language model: rules for its answers, faults by prompt and attempt, and what it would have billed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;

use super::{
    api_server::language_model::{self, Prompted, Stop},
    rest_server::{Asked, Reply, RestServer},
};

/// What the server says to a prompt.
#[derive(Debug, Clone)]
pub enum Say {
    /// This text.
    Text(String),
    /// The beginning of a text, because `max_tokens` was reached.
    Cut(String),
    /// It declines.
    Refusal,
    /// A filter removed the answer.
    Filter,
    /// A response that is not whole.
    Broken,
    /// An error.
    Status(u16, &'static str),
}

/// What was billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Billed {
    pub input: u64,
    pub output: u64,
}

impl Billed {
    /// In US dollars, at prices for a million tokens.
    pub fn usd(self, input: f64, output: f64) -> f64 {
        (self.input as f64 * input + self.output as f64 * output) / 1e6
    }
}

#[derive(Debug, Default)]
struct State {
    attempts: HashMap<String, u32>,
    billed: Billed,
    prompts: Vec<Prompted>,
}

/// A running server.
pub struct ModelServer {
    pub server: RestServer,
    state: Arc<Mutex<State>>,
}

impl ModelServer {
    /// Starts a server; `say` gets the request, and how often its prompt was asked before.
    pub fn start(say: impl Fn(&Prompted, &Asked, u32) -> Say + Send + Sync + 'static) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let of_server = Arc::clone(&state);
        let server = RestServer::start(move |asked| {
            let prompted = language_model::read(&asked.target, &asked.body).expect("a prompt");
            let mut state = of_server.lock().unwrap_or_else(PoisonError::into_inner);
            let attempt = state.attempts.entry(prompted.text.clone()).or_default();
            let before = *attempt;
            *attempt += 1;
            state.prompts.push(prompted.clone());
            let (text, stop, broken) = match say(&prompted, asked, before) {
                Say::Text(text) => (text, Stop::Complete, false),
                Say::Cut(text) => (text, Stop::Length, false),
                Say::Refusal => ("I cannot help with that.".to_owned(), Stop::Refusal, false),
                Say::Filter => (String::new(), Stop::Filter, false),
                Say::Broken => ("half".to_owned(), Stop::Complete, true),
                Say::Status(status, message) => {
                    let reply = Reply::status(status, &json!({"error": {"message": message}}).to_string());
                    return if status == 429 { reply.header("retry-after-ms", 5) } else { reply };
                }
            };
            let reply = language_model::reply(&prompted, &text, stop);
            let usage = &reply["usage"];
            let count = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64()).expect("a count");
            state.billed.input += count(["prompt_tokens", "input_tokens"]);
            state.billed.output += count(["completion_tokens", "output_tokens"]);
            let body = reply.to_string();
            if broken { Reply::status(200, &body[..body.len() / 2]) } else { Reply::json(&reply) }
        });
        Self { server, state }
    }

    /// One that answers by its rules and never fails.
    pub fn sound() -> Self {
        Self::start(|prompted, _, _| Say::Text(language_model::answer(prompted)))
    }

    /// `http://127.0.0.1:<port>/v1`.
    pub fn base_url(&self) -> String {
        self.server.url("/v1")
    }

    pub fn requests(&self) -> u64 {
        self.server.requests()
    }

    pub fn billed(&self) -> Billed {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).billed
    }

    /// Every prompt so far, in order.
    pub fn prompts(&self) -> Vec<Prompted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).prompts.clone()
    }

    /// How often each prompt was asked.
    pub fn times(&self) -> HashMap<String, u32> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).attempts.clone()
    }
}
