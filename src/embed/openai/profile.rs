//! The profiles of known servers: their limits and defaults.

use std::time::Duration;

/// A kind of server. Every limit can be overridden in the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// The word under `profile:`.
    pub name: &'static str,
    /// The default address.
    pub base_url: Option<&'static str>,
    /// Inputs in one request.
    pub max_inputs: usize,
    /// Tokens in one request, a little below the server's own limit.
    pub max_tokens: u64,
    /// Bytes in one request body.
    pub max_bytes: usize,
    /// Tokens in one input, where the server refuses more.
    pub max_input_tokens: Option<u64>,
    /// Whether base64 is requested.
    pub base64: bool,
    /// The header that carries the key.
    pub key_header: KeyHeader,
    /// The variable of the key.
    pub key_variable: &'static str,
    /// Whether it works without a key.
    pub keyless: bool,
    /// The burst of the rate limits.
    pub burst: Duration,
    /// Whether the rate may exceed the limit while the bucket is full.
    pub may_exceed: bool,
    /// Whether the first requests are small enough for a slow server: nothing is known about its speed.
    pub careful_start: bool,
}

/// The header of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `api-key: …`.
    ApiKey,
    /// `x-goog-api-key: …`.
    Google,
}

const OPENAI: Profile = Profile {
    name: "openai",
    base_url: Some("https://api.openai.com/v1"),
    max_inputs: 2048,
    max_tokens: 285_000,
    max_bytes: 16 << 20,
    max_input_tokens: Some(8192),
    base64: true,
    key_header: KeyHeader::Bearer,
    key_variable: "OPENAI_API_KEY",
    keyless: false,
    burst: Duration::from_secs(1),
    may_exceed: true,
    careful_start: false,
};

const COMPATIBLE: Profile = Profile {
    name: "compatible",
    base_url: None,
    max_input_tokens: None,
    keyless: true,
    careful_start: true,
    ..OPENAI
};

/// Every profile, in the order of the documentation.
pub const PROFILES: &[Profile] = &[
    OPENAI,
    // Limits per minute are enforced over one and ten seconds.
    Profile {
        name: "azure",
        base_url: None,
        key_header: KeyHeader::ApiKey,
        key_variable: "AZURE_OPENAI_API_KEY",
        burst: Duration::from_millis(250),
        may_exceed: false,
        ..OPENAI
    },
    COMPATIBLE,
    Profile { name: "vllm", base_url: Some("http://localhost:8000/v1"), ..COMPATIBLE },
    Profile {
        name: "ollama",
        base_url: Some("http://localhost:11434/v1"),
        max_inputs: 512,
        base64: false,
        ..COMPATIBLE
    },
    // 32 inputs and 2 MB are its defaults; it responds with 413 to more.
    Profile {
        name: "tei",
        base_url: Some("http://localhost:8080/v1"),
        max_inputs: 32,
        max_bytes: 1_900_000,
        ..COMPATIBLE
    },
    Profile { name: "llamacpp", base_url: Some("http://localhost:8080/v1"), max_inputs: 512, ..COMPATIBLE },
];

/// The words under `profile:`.
pub const NAMES: &[&str] = &["openai", "azure", "compatible", "vllm", "ollama", "tei", "llamacpp"];

impl Profile {
    /// What providers with an API of their own have in common.
    pub const NATIVE: Self = Self { name: "native", base_url: None, max_input_tokens: None, base64: false, ..OPENAI };

    /// The profile of this name.
    pub fn named(name: &str) -> Option<Self> {
        PROFILES.iter().copied().find(|profile| profile.name == name)
    }

    /// The profile of an address: OpenAI's, Azure's, or that of any compatible server.
    pub fn for_address(base_url: Option<&str>) -> Self {
        let Some(base_url) = base_url else { return OPENAI };
        let host = url::Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase));
        match host.as_deref() {
            Some(host) if host == "api.openai.com" || host.ends_with(".api.openai.com") => OPENAI,
            Some(host) if host.ends_with(".openai.azure.com") || host.ends_with(".cognitiveservices.azure.com") => {
                PROFILES[1]
            }
            _ => COMPATIBLE,
        }
    }

    /// The dimensions of a model's vectors by default, where its name says which model it is: at OpenAI and Azure.
    pub fn default_dimensions(&self, model: &str) -> Option<usize> {
        if !["openai", "azure"].contains(&self.name) {
            return None;
        }
        match model.rsplit('/').next()? {
            "text-embedding-3-small" | "text-embedding-ada-002" => Some(1536),
            "text-embedding-3-large" => Some(3072),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_a_name_that_finds_it() {
        let names: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        assert_eq!(names, NAMES);
        for name in NAMES {
            assert_eq!(Profile::named(name).map(|profile| profile.name), Some(*name));
        }
        assert_eq!(Profile::named("azure").map(|p| p.key_header), Some(KeyHeader::ApiKey));
    }

    #[test]
    fn addresses_determine_profiles() {
        for (address, name) in [
            (None, "openai"),
            (Some("https://api.openai.com/v1"), "openai"),
            (Some("https://eu.api.openai.com/v1/"), "openai"),
            (Some("https://mine.openai.azure.com/openai/v1"), "azure"),
            (Some("http://127.0.0.1:8080/v1"), "compatible"),
            (Some("https://api.openai.com.evil.example/v1"), "compatible"),
            (Some("nonsense"), "compatible"),
        ] {
            assert_eq!(Profile::for_address(address).name, name, "{address:?}");
        }
    }
}
