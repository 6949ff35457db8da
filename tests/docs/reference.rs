//! The pages of the reference are made from what the program says about itself; `FLOW_BLESS=1` writes them again.
//!
//! From `flow help`: commands, flags, environment variables, exit codes. From the registry and its tables of keys: functions,
//! dataset types, providers. From `flow schema event`: events.

use std::fmt::Write as _;

use flow::{
    config::{DATASET_FIELDS, Field, INCLUDE_FIELDS, Kind, NODE_FIELDS, PIPELINE_FIELDS},
    embed::COMMON,
    run::Registry,
};
use serde_json::Value as Json;

use crate::{
    config::holds,
    support::{Project, root},
};

/// The page begins with this, so that nobody edits it.
const GENERATED: &str =
    "<!-- Generated from the program by tests/docs/reference.rs; FLOW_BLESS=1 writes it again. -->\n";

fn page(name: &str, title: &str, introduction: &str, body: &str) {
    let text = format!("{GENERATED}\n# {title}\n\n{introduction}\n{body}");
    holds(&root().join("docs/reference").join(name), &text);
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", cell(text)) }
}

/// An option or argument as `flow help` prints it.
#[derive(Debug, Default)]
struct Flag {
    usage: String,
    about: String,
    default: String,
    variable: String,
}

/// A command as `flow help` prints it.
#[derive(Debug, Default)]
struct Help {
    about: String,
    usage: String,
    commands: Vec<String>,
    /// Headings with their flags.
    sections: Vec<(String, Vec<Flag>)>,
}

fn help(words: &[&str]) -> Help {
    let text = Project::empty().run([&["help"], words].concat()).exits(0).stdout;
    let mut help = Help::default();
    let mut heading = "";
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let trimmed = line.trim();
        if let Some(usage) = line.strip_prefix("Usage: ") {
            usage.clone_into(&mut help.usage);
        } else if indent == 0 && line.ends_with(':') {
            heading = line.trim_end_matches(':');
            if heading != "Commands" {
                help.sections.push((heading.to_owned(), Vec::new()));
            }
        } else if heading.is_empty() || trimmed.is_empty() {
            if !trimmed.is_empty() && help.usage.is_empty() {
                write!(help.about, "{}{trimmed}", if help.about.is_empty() { "" } else { " " }).expect("UTF-8");
            }
        } else if indent == 0 {
            // What follows all flags.
            break;
        } else if heading == "Commands" {
            help.commands.extend(
                trimmed.split_whitespace().next().filter(|name| *name != "help" && indent == 2).map(str::to_owned),
            );
        } else if let Some((_, flags)) = help.sections.last_mut() {
            let argument = trimmed.starts_with('<') || trimmed.starts_with('[') && indent == 2;
            if indent <= 6 && (trimmed.starts_with('-') || argument) {
                flags.push(Flag { usage: trimmed.to_owned(), ..Flag::default() });
                continue;
            }
            let Some(flag) = flags.last_mut() else { continue };
            let bracket = |name: &str| trimmed.strip_prefix(name).and_then(|rest| rest.strip_suffix(']'));
            if let Some(variable) = bracket("[env: ") {
                variable.trim_end_matches('=').clone_into(&mut flag.variable);
            } else if let Some(default) = bracket("[default: ") {
                default.clone_into(&mut flag.default);
            } else if let Some(values) = bracket("[possible values: ") {
                write!(flag.about, ". One of: {values}").expect("UTF-8");
            } else if let Some(alias) = bracket("[alias: ").or_else(|| bracket("[aliases: ")) {
                write!(flag.about, " (also `{alias}`)").expect("UTF-8");
            } else if let Some(value) = trimmed.strip_prefix("- ") {
                let (word, meaning) = value.split_once(':').unwrap_or((value, ""));
                write!(flag.about, "; `{word}`: {}", meaning.trim()).expect("UTF-8");
            } else if trimmed != "Possible values:" {
                write!(flag.about, "{}{trimmed}", if flag.about.is_empty() { "" } else { " " }).expect("UTF-8");
            }
        }
    }
    help
}

fn flags(out: &mut String, flags: &[Flag]) {
    out.push_str("| flag | what it does | default | variable |\n|---|---|---|---|\n");
    for flag in flags {
        let Flag { usage, about, default, variable } = flag;
        writeln!(out, "| {} | {} | {} | {} |", code(usage), cell(about), code(default), code(variable)).expect("UTF-8");
    }
}

fn command(out: &mut String, words: &[&str], variables: &mut Vec<(String, String)>) {
    let help = help(words);
    write!(out, "\n## `flow {}`\n\n{}.\n\n```text\n{}\n```\n", words.join(" "), help.about, help.usage).expect("UTF-8");
    for (heading, own) in &help.sections {
        let own_flags = || own.iter().filter(|flag| !flag.usage.contains("--help"));
        if heading == "Global options" || own_flags().count() == 0 {
            continue;
        }
        let heading = match heading.as_str() {
            "Selection (intersected)" => {
                "Selection: the nodes that all of these select. See [Select nodes](../selection.md)."
            }
            "Options" => "Options:",
            _ => "Arguments:",
        };
        write!(out, "\n{heading}\n\n").expect("UTF-8");
        let own: Vec<Flag> = own_flags()
            .map(|Flag { usage, about, default, variable }| Flag {
                usage: usage.clone(),
                about: about.clone(),
                default: default.clone(),
                variable: variable.clone(),
            })
            .collect();
        variables
            .extend(own.iter().filter(|flag| !flag.variable.is_empty()).map(|f| (f.variable.clone(), f.usage.clone())));
        flags(out, &own);
    }
    for name in &help.commands {
        command(out, &[words, &[name.as_str()]].concat(), variables);
    }
}

#[test]
fn commands_and_variables() {
    let top = help(&[]);
    let mut body = String::new();
    let mut variables = Vec::new();
    for name in &top.commands {
        command(&mut body, &[name], &mut variables);
    }
    let global = top.sections.iter().find(|(heading, _)| heading == "Global options").expect("global options");
    body.push_str("\n## Global options\n\nEvery command takes these.\n\n");
    flags(&mut body, &global.1);
    variables.extend(
        global.1.iter().filter(|flag| !flag.variable.is_empty()).map(|f| (f.variable.clone(), f.usage.clone())),
    );
    assert!(top.commands.len() > 8 && global.1.len() > 5, "{top:?}");
    page("commands.md", "Commands", "Every command with its flags. A flag wins over its environment variable.", &body);

    variables.sort();
    variables.dedup();
    let mut table = "| variable | sets |\n|---|---|\n".to_owned();
    for (variable, usage) in &variables {
        writeln!(table, "| `{variable}` | {} |", code(usage)).expect("UTF-8");
    }
    table.push_str(
        "| `FLOW_SERVE_TOKEN` | the token of `flow serve`; a new one is made where others than this machine can connect |\n\
         | `FLOW_LOG` | the filter of the log, such as `flow::net=debug`; see `--verbose` |\n\
         | `FLOW_SHARDS` | how many shards there are, for `--shard auto` |\n\
         | `OPENLINEAGE_NAMESPACE`, `OPENLINEAGE_API_KEY` | see [Lineage](../lineage.md#openlineage) |\n\
         | `OTEL_…`, `TRACEPARENT` | see [Traces and metrics](../lineage.md#opentelemetry) |\n\
         | `NO_COLOR`, `CLICOLOR_FORCE` | what `--color auto` does |\n\
         | `CI` | `--progress auto` shows lines, and no bars, where it is set |\n\
         | `VIRTUAL_ENV` | which Python runs functions, where `--python` does not say it |\n\
         | `KEDRO_ENV` | the environment of a Kedro project, where `--env` does not say it |\n\
         | `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` | the proxies of all requests, and the hosts that are reached without one; also in small letters |\n\n\
         A switch, such as `FLOW_FORCE`, takes `true` or `false`.\n\n\
         `--shard auto` reads the variables of one scheduler: [Beyond one machine](../cluster.md).\n\n\
         Providers and stores read these, unless the configuration says otherwise:\n\n\
         | variable | read by |\n|---|---|\n\
         | `OPENAI_API_KEY`, `OPENAI_BASE_URL` | provider `openai`, also of `generate` |\n\
         | `ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL` | provider `anthropic` of `generate` |\n\
         | `CO_API_KEY`, `GEMINI_API_KEY` | providers `cohere` and `gemini` |\n\
         | `AWS_BEARER_TOKEN_BEDROCK`, `AWS_REGION` | provider `bedrock` |\n\
         | `AZURE_OPENAI_API_KEY` | provider `openai` with an address of Azure |\n\
         | `AWS_…`, `AZURE_STORAGE_…`, `GOOGLE_…` | object stores: [Stores](../stores.md#credentials) |\n\n\
         Any other variable is read only where a file of the project names it: `${oc.env:NAME}`, or `${oc.env:NAME,default}`.\n",
    );
    page("environment.md", "Environment variables", "The variables that `flow` reads.", &format!("\n{table}"));
}

#[test]
fn exit_codes() {
    let text = Project::empty().run(["help", "exit-codes"]).exits(0).stdout;
    let mut body = "\n| code | meaning |\n|---|---|\n".to_owned();
    for line in text.lines() {
        let (code, meaning) = line.trim().split_once(' ').expect("a code and its meaning");
        writeln!(body, "| {code} | {} |", cell(meaning.trim())).expect("UTF-8");
    }
    body.push_str("\nWhere several causes meet, [How runs end](../runs.md) says which one decides.\n");
    page("exit-codes.md", "Exit codes", "What the exit code of `flow run`, and of the other commands, means.", &body);
}

fn word(field: &Kind) -> String {
    match field {
        Kind::Text => "text".into(),
        Kind::Secret => "secret".into(),
        Kind::Bool => "`true` or `false`".into(),
        Kind::Integer(low, high) => {
            let bound = |n: i64| (n != i64::MIN && n != i64::MAX).then(|| n.to_string());
            range("integer", bound(*low), bound(*high))
        }
        Kind::Number(low, high) => {
            let bound = |n: f64| (n.is_finite() && n.abs() < f64::MAX).then(|| n.to_string());
            range("number", bound(*low), bound(*high))
        }
        Kind::Duration => "duration".into(),
        Kind::Bytes => "size".into(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::OrWord(word_, inner) => format!("`{word_}` or {}", word(inner)),
        Kind::List(inner) => format!("list of {}", word(inner)),
        Kind::Record(_) => "mapping".into(),
        Kind::Map(inner) => format!("mapping to {}", word(inner)),
        Kind::Any => "any".into(),
    }
}

fn range(what: &str, low: Option<String>, high: Option<String>) -> String {
    match (low, high) {
        (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
        (Some(low), None) => format!("{what} from {low}"),
        (None, Some(high)) => format!("{what} to {high}"),
        (None, None) => what.into(),
    }
}

/// A sentence out of a line of documentation.
fn sentence(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let first = text.chars().next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let rest: String = text.chars().skip(1).collect();
    if text.is_empty() { String::new() } else { format!("{first}{rest}.") }
}

/// Rows of a table of keys; keys of mappings follow theirs.
fn rows(out: &mut String, prefix: &str, fields: &[Field]) {
    for field in fields {
        let name = format!("{prefix}{}", field.name);
        let aliases: Vec<String> = field.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let also = if aliases.is_empty() { String::new() } else { format!(" Also {}.", aliases.join(", ")) };
        let doc = sentence(field.doc);
        let default = if field.required { "required".into() } else { code(field.default) };
        writeln!(out, "| `{name}` | {} | {} | {}{} |", cell(&word(&field.kind)), default, cell(&doc), cell(&also))
            .expect("UTF-8");
        if let Kind::Record(inner) = field.kind {
            rows(out, &format!("{name}."), inner);
        }
    }
}

fn table(out: &mut String, prefix: &str, tables: &[&[Field]]) {
    out.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for fields in tables {
        rows(out, prefix, fields);
    }
}

#[test]
fn models() {
    let mut body = "\n## Every provider\n".to_owned();
    table(&mut body, "", &[COMMON]);
    for provider in Registry::builtin().providers {
        write!(body, "\n## `provider: {}`\n\n{}\n", provider.name(), sentence(provider.doc())).expect("UTF-8");
        if provider.fields().is_empty() {
            body.push_str("\nNo keys of its own.\n");
        } else {
            table(&mut body, "", &[provider.fields()]);
        }
    }
    page(
        "models.md",
        "Model settings",
        "The keys of a `model:` mapping, which `compute_embeddings` reads. A duration is a number of seconds or `500ms`, `10m`, `1h`; a\n\
         size is a number of bytes or `512MiB`, `2GB`.",
        &body,
    );
}

#[test]
fn dataset_types() {
    let mut list = "\n| type | what it is | Kedro's names |\n|---|---|---|\n".to_owned();
    let mut pages = Vec::new();
    for kind in Registry::builtin().datasets {
        let file = format!("{}.md", kind.name().replace('.', "-").to_lowercase());
        let aliases: Vec<String> = kind.aliases().iter().map(|alias| format!("`{alias}`")).collect();
        let doc = sentence(kind.doc());
        writeln!(list, "| [`{}`](datasets/{file}) | {} | {} |", kind.name(), cell(&doc), aliases.join(", "))
            .expect("UTF-8");
        let mut body = String::new();
        if !aliases.is_empty() {
            write!(body, "\nKedro's names: {}.\n", aliases.join(", ")).expect("UTF-8");
        }
        body.push_str("\n## Keys of an entry\n\nBesides [those of every type](../datasets.md#keys-of-every-entry).\n");
        table(&mut body, "", &[kind.fields()]);
        for (name, tables, inert) in [
            ("load_args", kind.load_args(), kind.inert_load_args()),
            ("save_args", kind.save_args(), kind.inert_save_args()),
        ] {
            if !kind.fields().iter().any(|field| field.name == name) {
                continue;
            }
            let what = if name == "load_args" { "How it is read." } else { "How it is written." };
            write!(body, "\n## `{name}`\n\n{what}\n").expect("UTF-8");
            if tables.is_empty() {
                body.push_str("\nNo keys.\n");
            } else {
                table(&mut body, "", &tables);
            }
            if !inert.is_empty() {
                body.push_str(
                    "\nTaken from entries of Kedro's types without a warning, since they change nothing here:\n",
                );
                body.push_str("\n| key | value | why |\n|---|---|---|\n");
                for field in inert {
                    writeln!(
                        body,
                        "| `{}` | {} | {} |",
                        field.name,
                        cell(&word(&field.kind)),
                        cell(&sentence(field.doc))
                    )
                    .expect("UTF-8");
                }
            }
        }
        let name = format!("datasets/{file}");
        page(&name, &format!("`type: {}`", kind.name()), &doc, &body);
        pages.push(file);
    }
    list.push_str("\n## Keys of every entry\n");
    table(&mut list, "", &[DATASET_FIELDS]);
    page(
        "datasets.md",
        "Dataset types",
        "What may be under `type:` in `catalog.yml`, each with a page of all its keys. A key that is not listed is an error; one that begins with\n\
         `x-` is yours. For Kedro's names, a key of `load_args` or `save_args` that is not listed gets a warning that the result may differ.",
        &list,
    );
    let mut found: Vec<String> = std::fs::read_dir(root().join("docs/reference/datasets"))
        .expect("the pages")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    found.sort();
    pages.sort();
    assert_eq!(found, pages, "a page for each type, and no other");
}

#[test]
fn functions_and_pipelines() {
    let list = Project::empty().run(["ls", "functions", "--output", "json"]).exits(0).json();
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let mut body = String::new();
    for function in list.as_array().expect("a list") {
        write!(body, "\n## `{}`\n\n{}.\n", text(&function["name"]), text(&function["doc"])).expect("UTF-8");
        let ports = |key: &str| function[key].as_array().expect("ports").clone();
        if ports("inputs").is_empty() && ports("outputs").is_empty() {
            continue;
        }
        body.push_str("\n| port | direction | takes or gives | needed | meaning |\n|---|---|---|---|---|\n");
        for (direction, key) in [("input", "inputs"), ("output", "outputs")] {
            for port in ports(key) {
                let required = if port["required"] == true { "yes" } else { "no" };
                let name = text(&port["name"]);
                let (mut shape, doc) = (text(&port["shape"]), text(&port["doc"]));
                if let Some(other) = port["or"].as_str() {
                    shape = format!("{shape} or {other}");
                }
                writeln!(body, "| `{name}` | {direction} | {shape} | {required} | {} |", cell(&doc)).expect("UTF-8");
            }
        }
        let name = text(&function["name"]);
        let functions = Registry::builtin().functions;
        let known = functions.iter().find(|function| function.is_called(&name));
        for (port, fields) in known.into_iter().flat_map(|function| function.mappings()) {
            write!(body, "\nThe keys of `{port}`:\n").expect("UTF-8");
            table(&mut body, "", &[fields]);
        }
    }
    page(
        "functions.md",
        "Functions",
        "What a node can name under `function:`, and the ports to which `inputs` and `outputs` connect datasets and parameters. A port takes or\n\
         gives a table, partitions, or a value (`params:…`).",
        &body,
    );

    let mut body = "\n## A file under `pipelines/`\n".to_owned();
    table(&mut body, "", &[PIPELINE_FIELDS]);
    body.push_str("\n## An item of `nodes`\n");
    table(&mut body, "", &[NODE_FIELDS]);
    body.push_str("\n## An item of `include`\n");
    table(&mut body, "", &[INCLUDE_FIELDS]);
    page("pipelines.md", "Pipeline files", "The keys of the files that hold nodes.", &body);
}

#[test]
fn events() {
    let schema = Project::empty().run(["schema", "event"]).exits(0).json();
    let mut body = String::new();
    for variant in schema["oneOf"].as_array().expect("the events") {
        let kind = variant["properties"]["kind"]["const"].as_str().expect("a kind");
        write!(body, "\n## `{kind}`\n\n| key | value |\n|---|---|\n").expect("UTF-8");
        for (key, value) in variant["properties"].as_object().expect("keys") {
            if !["kind", "v", "run", "elapsed"].contains(&key.as_str()) {
                writeln!(body, "| `{key}` | {} |", cell(&shape(value))).expect("UTF-8");
            }
        }
    }
    page(
        "events.md",
        "Events",
        "`flow run --output json` prints one of these objects a line. Each has `kind`, `v` (the version of this format, 1), `run` (the id of the run) and\n\
         `elapsed` (seconds since the start of the run). `flow schema event` prints the JSON Schema.",
        &body,
    );
}

/// A value by its JSON Schema, in words.
fn shape(schema: &Json) -> String {
    let names = |value: &Json| match value {
        Json::String(name) => name.clone(),
        Json::Array(names) => names.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    };
    if let Some(constant) = schema.get("const") {
        return format!("`{constant}`");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap_or("null")))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(items) = schema.get("items") {
        return format!("array of {}", shape(items));
    }
    if let Some(keys) = schema["properties"].as_object() {
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("`{key}` ({})", shape(value))).collect();
        return format!("object: {}", keys.join(", "));
    }
    for several in ["anyOf", "oneOf"] {
        if let Some(all) = schema[several].as_array() {
            return all.iter().map(shape).collect::<Vec<_>>().join(" or ");
        }
    }
    let names = names(&schema["type"]);
    if names.is_empty() { "any".into() } else { names }
}
