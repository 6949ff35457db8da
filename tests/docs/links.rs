//! Links between pages lead somewhere, and every page is in the navigation of the site.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::markdown;
use crate::support::root;

/// The pages of the repository that people read.
fn pages() -> Vec<PathBuf> {
    let mut pages = markdown(&root().join("docs"));
    let own = fs::read_dir(root()).expect("the repository").map(|entry| entry.expect("an entry").path());
    pages.extend(own.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    pages
}

/// The text without fenced blocks, in which a bracket is no link.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            out += line;
            out.push('\n');
        }
    }
    out
}

/// The targets of a page's links.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let outside_code = prose.split('`').step_by(2).collect::<Vec<_>>().join("``");
    outside_code.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a page's headings.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text);
    let slug = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect::<String>()
    };
    headings.lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            found += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().expect("a folder").join(file) };
            let known = path.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&path).is_ok_and(|text| anchors(&text).iter().any(|known| known == anchor)));
            if !known {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(found > 50, "only {found} links were found");
    assert!(wrong.is_empty(), "these lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_navigation() {
    let navigation = fs::read_to_string(root().join("mkdocs.yml")).expect("mkdocs.yml");
    let listed: Vec<&str> = navigation
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .filter_map(|item| item.rsplit(' ').next())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"))
        .collect();
    let docs = root().join("docs");
    for page in markdown(&docs) {
        let name = page.strip_prefix(&docs).expect("below").to_string_lossy().into_owned();
        assert!(listed.contains(&name.as_str()), "mkdocs.yml does not list {name}");
    }
    // The site has copies of some pages of the repository beside those of `docs`.
    for name in listed.iter().filter(|name| !name.starts_with("project/")) {
        assert!(docs.join(name).is_file(), "mkdocs.yml lists {name}, which does not exist");
    }
}

#[test]
fn every_table_begins_with_a_header() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let lines: Vec<&str> = text.lines().collect();
        let mut code = false;
        for (at, line) in lines.iter().enumerate() {
            code ^= line.trim_start().starts_with("```");
            let begins = !code && line.starts_with('|') && (at == 0 || !lines[at - 1].starts_with('|'));
            let has_header = lines.get(at + 1).is_some_and(|next| next.starts_with("|-") || next.starts_with("| -"));
            if begins && !has_header {
                wrong.push(format!("{}:{}: {line}", page.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
