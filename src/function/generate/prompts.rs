//! The distinct prompts of some rows: what is sent, and what their answers are known by.

use super::image::Image;
use crate::{model::Fingerprint, net::client::Items};

/// A prompt.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Its text.
    pub text: String,
    /// The image that goes with it.
    pub image: Option<Image>,
    /// Which of several answers to the same prompt this is, from 0.
    pub repetition: u32,
}

impl Prompt {
    /// What its answer is known by, besides what all prompts share.
    pub fn identity(&self) -> String {
        let image = self.image.as_ref().map(Image::identity);
        match self.repetition {
            0 => serde_json::json!([self.text, image]),
            n => serde_json::json!([self.text, image, n]),
        }
        .to_string()
    }
}

/// The prompts of one call.
#[derive(Debug, Default)]
pub struct Prompts {
    all: Vec<Prompt>,
    digests: Vec<Fingerprint>,
    /// Whether it only asks if the server works.
    pub is_probe: bool,
}

impl Prompts {
    /// One that asks whether the server works.
    pub fn probe(text: &str) -> Self {
        let prompt = Prompt { text: text.to_owned(), image: None, repetition: 0 };
        Self { digests: vec![Fingerprint::of(text)], all: vec![prompt], is_probe: true }
    }

    /// Adds one, with the cache's key of it.
    pub fn push(&mut self, prompt: Prompt, digest: Fingerprint) {
        self.all.push(prompt);
        self.digests.push(digest);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// One of them.
    pub fn at(&self, unit: u32) -> &Prompt {
        &self.all[unit as usize]
    }

    /// The cache's key of each.
    pub fn digests(&self) -> &[Fingerprint] {
        &self.digests
    }
}

impl Items for Prompts {
    fn len(&self, unit: u32) -> usize {
        let prompt = self.at(unit);
        prompt.text.len() + prompt.image.as_ref().map_or(0, Image::len)
    }
}
