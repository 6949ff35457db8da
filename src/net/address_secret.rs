//! What of an address in a file is a secret: a user name and password, or a parameter that holds a key or signs it.

use std::fmt;

use reqwest::Url;

use crate::model::{is_secret_parameter, looks_like_a_key};

/// A secret in an address. Addresses are shown, logged, and part of what results are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSecret {
    /// A user name, a password, or both.
    UserInfo,
    /// The value of a parameter, by its name.
    Parameter(String),
}

impl AddressSecret {
    /// The first secret of an address. `None` for a text that is no address, which others report.
    pub fn find(address: &str) -> Option<Self> {
        let url = Url::parse(address).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return Some(Self::UserInfo);
        }
        let secret =
            |name: &str, value: &str| !value.is_empty() && (is_secret_parameter(name) || looks_like_a_key(value));
        url.query_pairs().find(|(name, value)| secret(name, value)).map(|(name, _)| Self::Parameter(name.into_owned()))
    }

    /// What to write under `model:` instead.
    pub fn way_out_of_a_model(&self) -> &'static str {
        match self {
            Self::UserInfo => {
                "remove it, and write `headers: {Authorization: \"${oc.env:NAME}\"}`, where the variable is `Basic …`"
            }
            Self::Parameter(_) => "remove it, and write `api_key: ${oc.env:NAME}`, or send it in `headers`",
        }
    }
}

/// Without its value.
impl fmt::Display for AddressSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserInfo => f.write_str("a user name or password"),
            Self::Parameter(name) => write!(f, "a secret, `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_addresses_and_ordinary_parameters_are_none() {
        let parameter = |name: &str| Some(AddressSecret::Parameter(name.to_owned()));
        for (address, expected) in [
            ("http://bob:password@host/x", Some(AddressSecret::UserInfo)),
            ("http://bob@host/x", Some(AddressSecret::UserInfo)),
            ("http://host/x?page=2&api_key=hunter2", parameter("api_key")),
            ("http://host/x?api%5Fkey=hunter2", parameter("api_key")),
            ("http://host/x?sv=2022&sig=hunter2", parameter("sig")),
            ("http://host/x?key=AIzaSyAbcdefghijklmnopqrstuvwxyz012345678", parameter("key")),
            ("http://host/x?key=population&code=3", None),
            ("http://host/x?api-version=2024-02-01", None),
            ("http://host/x?token=", None),
            ("http://host/a@b/x", None),
            ("host/x?token=hunter2", None),
        ] {
            assert_eq!(AddressSecret::find(address), expected, "{address}");
        }
    }
}
