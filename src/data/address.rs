//! Addresses: every location in one spelling, so that places can be compared.
//!
//! Pure: the caller passes in the function that resolves links of the local disk.

use std::{
    path::{Component, Path, PathBuf},
    str::FromStr as _,
};

use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};

use super::{
    credentials::Setting,
    glob::Glob,
    location::{Location, Target, is_of_home},
    store_kind::StoreKind,
};

/// Where a location leads. Locations with equal addresses hold the same data, however they are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Which store; empty for the local disk.
    store: String,
    /// The names of the folders on the way, and the last name.
    path: Vec<String>,
}

/// A dataset at an address, for [`overlaps`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Where it is.
    pub address: Address,
    /// Claims of one owner may overlap.
    pub owner: usize,
    /// True when it is written.
    pub written: bool,
}

impl Address {
    /// The address of a location. A relative path begins at `root`; `resolve` gives the real path of a local one, links
    /// and `~/` resolved ([`normalized`] where there can be none).
    pub fn of(location: &Location, root: &Path, resolve: &dyn Fn(&Path) -> PathBuf) -> Self {
        let mut address = match location.target() {
            Target::Local(path) if is_of_home(path) => Self::local(&resolve(Path::new(path))),
            Target::Local(path) => Self::local(&resolve(&root.join(path))),
            Target::Remote { kind, base, key } => {
                let path = key.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
                Self { store: store(*kind, base, location), path }
            }
        };
        address.path.extend(location.glob().into_iter().flat_map(Glob::names).cloned());
        address
    }

    /// The address of a real path.
    pub fn local(path: &Path) -> Self {
        let names = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        Self { store: String::new(), path: names.collect() }
    }

    /// The address of a sibling: another name in the same folder. `None` for the root of a store.
    pub fn sibling(&self, name: impl FnOnce(&str) -> String) -> Option<Self> {
        let (last, above) = self.path.split_last()?;
        let path = above.iter().cloned().chain([name(last)]).collect();
        Some(Self { store: self.store.clone(), path })
    }

    /// This address and those of the folders around it, innermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        let prefix = |length| Self { store: self.store.clone(), path: self.path[..length].to_vec() };
        (0..=self.path.len()).rev().map(prefix)
    }

    /// The names of the path.
    pub fn names(&self) -> &[String] {
        &self.path
    }

    /// True when `other` is the same place or inside it.
    pub fn holds(&self, other: &Self) -> bool {
        self.store == other.store && other.path.starts_with(&self.path)
    }
}

/// A path without `.`, `..` and doubled slashes, as far as possible without reading the disk.
pub fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            // Above the root there is nothing but the root.
            Component::ParentDir => {
                if !out.pop() && !path.has_root() {
                    out.push(part);
                }
            }
            part => out.push(part),
        }
    }
    out
}

/// Claims that are at or inside one of another owner where one of the two is written: each with the innermost such other
/// one. Sorted by address.
pub fn overlaps(claims: &[Claim]) -> Vec<(usize, usize)> {
    /// The claims at one address, reduced to what decides: two owners are enough to find one that differs.
    struct Level<'c> {
        address: &'c Address,
        all: Vec<usize>,
        written: Vec<usize>,
    }
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|one, other| claims[*one].address.cmp(&claims[*other].address));
    let mut found = Vec::new();
    // The addresses around the one that is looked at, outermost first.
    let mut levels: Vec<Level<'_>> = Vec::new();
    for index in order {
        let claim = &claims[index];
        while levels.last().is_some_and(|level| !level.address.holds(&claim.address)) {
            levels.pop();
        }
        let other = levels.iter().rev().find_map(|level| {
            let candidates = if claim.written { &level.all } else { &level.written };
            candidates.iter().copied().find(|other| claims[*other].owner != claim.owner)
        });
        found.extend(other.map(|other| (index, other)));
        if levels.last().is_none_or(|level| level.address != &claim.address) {
            levels.push(Level { address: &claim.address, all: Vec::new(), written: Vec::new() });
        }
        let level = levels.last_mut().expect("pushed above");
        let add = |list: &mut Vec<usize>| {
            if list.len() < 2 && list.iter().all(|other| claims[*other].owner != claim.owner) {
                list.push(index);
            }
        };
        add(&mut level.all);
        if claim.written {
            add(&mut level.written);
        }
    }
    found
}

/// One name for a store, however it is written: the bucket, and the server where one is named.
fn store(kind: StoreKind, base: &str, location: &Location) -> String {
    let option = |is: &dyn Fn(&str) -> bool| {
        location.options().iter().find(|(name, _)| is(name)).map(|(_, setting)| match setting {
            Setting::Known(value) => value.expose().to_owned(),
            Setting::MissingVariable(variable) => format!("${variable}"),
        })
    };
    let bucket = base.split_once("://").map_or(base, |(_, bucket)| bucket);
    let server = |url: Option<String>| url.map(|url| one_spelling(&url)).unwrap_or_default();
    match kind {
        StoreKind::S3 => {
            let endpoint = option(&|name| matches!(name.parse(), Ok(AmazonS3ConfigKey::Endpoint)));
            format!("s3 {} {bucket}", server(endpoint))
        }
        StoreKind::Google => {
            let endpoint = option(&|name| matches!(name.parse(), Ok(GoogleConfigKey::BaseUrl)));
            format!("gs {} {bucket}", server(endpoint))
        }
        StoreKind::Azure => {
            let (container, host) = bucket.split_once('@').unwrap_or((bucket, ""));
            let endpoint =
                server(option(&|name| matches!(AzureConfigKey::from_str(name), Ok(AzureConfigKey::Endpoint))));
            let own = |host: &str| {
                let host = host.rsplit('/').next().unwrap_or_default();
                host.to_ascii_lowercase()
                    .strip_suffix(".core.windows.net")
                    .map(|host| host.split('.').next().unwrap_or_default().to_owned())
            };
            let named = option(&|name| matches!(AzureConfigKey::from_str(name), Ok(AzureConfigKey::AccountName)));
            match own(host).or_else(|| own(&endpoint)) {
                Some(account) => format!("az {account} {container}"),
                None if endpoint.is_empty() => {
                    format!("az {} {container}", named.unwrap_or_default().to_ascii_lowercase())
                }
                None => format!("az {endpoint} {container}"),
            }
        }
        StoreKind::Http => one_spelling(base),
        StoreKind::Memory => "memory".to_owned(),
    }
}

/// `scheme://host/path` in lower case as far as case has no meaning, without a user, a default port and a last slash.
fn one_spelling(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let port = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(port).unwrap_or(&host);
    format!("{scheme}://{host}/{}", path.trim_end_matches('/')).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{Entry, Map, Node, Value},
        diagnostic::{SourceId, Span},
    };

    fn address(text: &str, credentials: &[(&str, &str)]) -> Address {
        let span = Span { source: SourceId(0), start: 0, end: 0 };
        let entry = |(key, value): &(&str, &str)| {
            ((*key).to_owned(), Entry { key_span: span, node: Node::new(Value::Text((*value).to_owned()), span) })
        };
        let map = Map { entries: credentials.iter().map(entry).collect() };
        let node = Node::new(Value::Map(map), span);
        let location = Location::parse(text, (!credentials.is_empty()).then_some(&node)).expect(text);
        Address::of(&location, Path::new("/project"), &normalized)
    }

    #[test]
    fn one_place_has_one_address_however_it_is_written() {
        let none: &[(&str, &str)] = &[];
        let s3 = &[("endpoint_url", "http://HOST:80/")][..];
        let account = &[("account_name", "acc")][..];
        for same in [
            &[
                ("data/a", none),
                ("./data/a/", none),
                ("data//a", none),
                ("data/b/../a", none),
                ("/project/data/a", none),
                ("file:///project/data/a", none),
                ("file:/project/data/a", none),
                ("../project/data/a", none),
            ][..],
            &[("s3://b/x/y", none), ("s3a://b/x//y/", none), ("s3n://b/x/y", none)],
            &[("s3://b/x", s3), ("s3a://b/x", &[("endpoint_url", "http://host")])],
            &[("gs://b/x", none), ("gcs://b/x", none)],
            &[
                ("abfss://c@Acc.dfs.core.windows.net/x", none),
                ("abfs://c@acc.blob.core.windows.net/x", none),
                ("az://c/x", account),
                ("az://c/x", &[("account_name", "acc"), ("endpoint", "https://acc.blob.core.windows.net")]),
            ],
            &[("https://host/x", none), ("https://HOST:443/x/", none)],
            &[("memory://a/b", none), ("memory:///a/b", none)],
        ] {
            for (text, credentials) in same {
                assert_eq!(address(text, credentials), address(same[0].0, same[0].1), "{text}");
            }
        }
        for (one, other) in [
            (("data/a", none), ("data/A", none)),
            (("s3://b/x", none), ("s3://c/x", none)),
            (("s3://b/x", none), ("s3://b/x", s3)),
            (("s3://b/x", none), ("gs://b/x", none)),
            (("az://c/x", none), ("az://c/x", account)),
            (("http://host/x", none), ("http://host:81/x", none)),
        ] {
            assert_ne!(address(one.0, one.1), address(other.0, other.1));
        }
    }

    #[test]
    fn a_folder_holds_what_is_inside_it_and_not_what_begins_with_its_name() {
        let holds = |one: &str, other: &str| address(one, &[]).holds(&address(other, &[]));
        assert!(holds("data", "data/x.csv") && holds(".", "data") && holds("data/", "data"));
        assert!(!holds("data", "data2") && !holds("data/x", "data") && !holds("s3://a", "s3://b/a"));
        let sibling = address("data/out", &[]).sibling(|name| format!(".{name}.flow"));
        assert_eq!(sibling, Some(address("data/.out.flow", &[])));
        assert_eq!(address("/", &[]).ancestors().count(), 2);
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let path = prop::collection::vec("[ab]", 0..4);
        let claim = (path, 0..4usize, any::<bool>()).prop_map(|(path, owner, written)| Claim {
            address: Address { store: String::new(), path },
            owner,
            written,
        });
        prop::collection::vec(claim, 0..12)
    }

    proptest! {
        #[test]
        fn exactly_the_claims_that_overlap_are_found(claims in claims()) {
            let conflict = |one: &Claim, other: &Claim| one.owner != other.owner && (one.written || other.written);
            let found = overlaps(&claims);
            for (inner, outer) in &found {
                prop_assert!(conflict(&claims[*inner], &claims[*outer]));
                prop_assert!(claims[*outer].address.holds(&claims[*inner].address));
            }
            for (index, claim) in claims.iter().enumerate() {
                let others = || claims.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| other);
                let inside = others().any(|other| {
                    conflict(claim, other) && other.address.holds(&claim.address) && other.address != claim.address
                });
                let beside = others().any(|other| conflict(claim, other) && other.address == claim.address);
                let reported = found.iter().any(|(inner, _)| *inner == index);
                // Of several at one address, the others are reported with the first.
                let as_other = found.iter().any(|(inner, outer)| {
                    *outer == index || claims[*inner].address == claim.address
                });
                prop_assert!(!reported || inside || beside);
                prop_assert!(reported || !inside);
                prop_assert!(reported || as_other || !beside);
            }
        }
    }

    #[test]
    fn ten_thousand_nested_and_equal_places_are_compared_in_one_pass() {
        let claim =
            |path: Vec<String>, owner| Claim { address: Address { store: String::new(), path }, owner, written: true };
        let mut claims: Vec<Claim> = (0..10_000).map(|i| claim(vec!["same".to_owned()], i)).collect();
        claims.extend((0..10_000).map(|i| claim(vec!["other".to_owned(), i.to_string()], 10_000 + i)));
        assert_eq!(overlaps(&claims).len(), 9_999);
    }
}
