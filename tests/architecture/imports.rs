//! Which source file uses which other: read from the syntax tree, with re-exports followed to the file that defines a name.
//!
//! A re-export (`pub use`) does not count as a use, so a module's `mod.rs` may name all its files. Code under `#[cfg(test)]`
//! does not count, nor does what appears only inside a macro call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use petgraph::{algo::tarjan_scc, graph::DiGraph};
use syn::{
    Attribute, Item, UseTree, Visibility,
    visit::{self, Visit},
};

type Names = Vec<String>;

/// A module of the crate: its file, and what its names refer to.
#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    /// Names brought in by `use`, with the full path of each. A child module sees private ones too.
    imported: BTreeMap<String, Names>,
    /// Names of the modules inside.
    modules: BTreeSet<String>,
}

/// The modules of a crate, by their full path.
#[derive(Default)]
pub(super) struct Crate {
    modules: BTreeMap<Names, Module>,
    syntax: Vec<(Names, syn::File)>,
}

/// One use of a file by another.
pub(super) type Edge = (PathBuf, PathBuf);

impl Crate {
    /// Reads all source files below `root`, which holds `lib.rs`.
    pub(super) fn read(root: &Path, files: &[PathBuf]) -> Self {
        let mut this = Self::default();
        for file in files {
            let relative = file.strip_prefix(root).expect("a file below the root");
            // The binary's own files, which use the library's `cli` and nothing else.
            if ["main.rs", "allocator.rs"].map(Path::new).contains(&relative) {
                continue;
            }
            let mut path: Names =
                relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if path.last().is_some_and(|last| last == "mod" || last == "lib") {
                path.pop();
            }
            let text = fs::read_to_string(file).expect("a readable file");
            let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", relative.display()));
            this.modules.entry(path.clone()).or_default().file = relative.to_path_buf();
            this.collect(&path, relative, &syntax.items);
            this.syntax.push((path, syntax));
        }
        this
    }

    fn collect(&mut self, path: &Names, file: &Path, items: &[Item]) {
        for item in items {
            match item {
                Item::Use(item) => {
                    let mut found = Vec::new();
                    flatten(&item.tree, &mut Vec::new(), &mut found);
                    for (target, name) in found {
                        let target = self.absolute(path, &target);
                        self.modules.entry(path.clone()).or_default().imported.insert(name, target);
                    }
                }
                Item::Mod(item) => {
                    let module = self.modules.entry(path.clone()).or_default();
                    module.modules.insert(item.ident.to_string());
                    if let Some((_, items)) = &item.content {
                        let inner = joined(path, &item.ident.to_string());
                        self.modules.entry(inner.clone()).or_default().file = file.to_path_buf();
                        self.collect(&inner, file, items);
                    }
                }
                _ => {}
            }
        }
    }

    /// A path as written in the module `from`, from the root of the crate; unchanged where it names another crate.
    fn absolute(&self, from: &Names, path: &[String]) -> Names {
        let mut base = from.clone();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => return rest[1..].to_vec(),
            Some("self") => rest = &rest[1..],
            Some("super") => {}
            Some(first) if self.modules.get(from).is_some_and(|module| module.modules.contains(first)) => {}
            _ => return std::iter::once("::".to_owned()).chain(path.iter().cloned()).collect(),
        }
        while rest.first().is_some_and(|first| first == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend(rest.iter().cloned());
        base
    }

    /// The file that defines what a full path names.
    fn defining(&self, path: &[String], depth: usize) -> Option<&Path> {
        let known = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let module = &self.modules[&path[..known]];
        if let (Some(name), true) = (path.get(known), depth < 8)
            && let Some(target) = module.imported.get(name)
        {
            let target: Names = target.iter().chain(&path[known + 1..]).cloned().collect();
            return if target.first().is_some_and(|first| first == "::") {
                None
            } else {
                self.defining(&target, depth + 1)
            };
        }
        Some(&module.file)
    }

    /// Which file uses which, without those that only re-export.
    pub(super) fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (path, syntax) in &self.syntax {
            let mut walk = Walk { of: self, module: path.clone(), paths: Vec::new() };
            walk.visit_file(syntax);
            let own = &self.modules[path].file;
            for (module, target) in walk.paths {
                let target = self.absolute(&module, &target);
                // `lib.rs` only lists the modules.
                if let Some(file) = self.defining(&target, 0)
                    && file != own
                    && file != Path::new("lib.rs")
                {
                    edges.insert((own.clone(), file.to_path_buf()));
                }
            }
        }
        edges
    }
}

/// The groups of files that use each other, each with the uses that tie it, in a form to be read.
pub(super) fn cycles(edges: &BTreeSet<Edge>) -> Vec<String> {
    let mut graph = DiGraph::<&Path, ()>::new();
    let mut nodes = BTreeMap::new();
    for file in edges.iter().flat_map(|(from, to)| [from, to]) {
        nodes.entry(file).or_insert_with(|| graph.add_node(file));
    }
    for (from, to) in edges {
        graph.add_edge(nodes[from], nodes[to], ());
    }
    let groups = tarjan_scc(&graph).into_iter().filter(|group| group.len() > 1);
    let mut shown: Vec<String> = groups
        .map(|group| {
            let files: BTreeSet<&Path> = group.iter().map(|index| graph[*index]).collect();
            let ties = edges.iter().filter(|(from, to)| files.contains(from.as_path()) && files.contains(to.as_path()));
            ties.map(|(from, to)| format!("  {} uses {}", from.display(), to.display())).collect::<Vec<_>>().join("\n")
        })
        .collect();
    shown.sort();
    shown
}

fn joined(path: &Names, name: &str) -> Names {
    path.iter().cloned().chain(std::iter::once(name.to_owned())).collect()
}

/// The names that a `use` brings in, each with its path; `*` brings in the module itself.
fn flatten(tree: &UseTree, prefix: &mut Names, out: &mut Vec<(Names, String)>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, out);
            prefix.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            out.push((prefix.clone(), prefix.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => out.push((joined(prefix, &name.ident.to_string()), name.ident.to_string())),
        UseTree::Rename(rename) => out.push((joined(prefix, &rename.ident.to_string()), rename.rename.to_string())),
        UseTree::Glob(_) => out.push((prefix.clone(), "*".to_owned())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, out)),
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

/// Collects the paths that a file uses, each with the module it appears in.
struct Walk<'a> {
    of: &'a Crate,
    module: Names,
    paths: Vec<(Names, Names)>,
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) || !matches!(item.vis, Visibility::Inherited) {
            return;
        }
        let mut found = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut found);
        self.paths.extend(found.into_iter().map(|(target, _)| (self.module.clone(), target)));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let first = names.first().map(String::as_str);
        let child = |name: &str| self.of.modules.get(&self.module).is_some_and(|module| module.modules.contains(name));
        if names.len() > 1 && first.is_some_and(|name| matches!(name, "crate" | "self" | "super") || child(name)) {
            self.paths.push((self.module.clone(), names));
        }
        visit::visit_path(self, path);
    }
}
