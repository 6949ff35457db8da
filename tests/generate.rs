//! `generate` through the binary, against a scripted language model with the faults of real ones.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
};
use serde_json::{Value as Json, json};

use crate::support::{
    Project,
    api_server::language_model::{Prompted, answer},
    model_server::{ModelServer, Say},
    small::{Asks, asking},
};

const KEY: &str = "canary-key-0123456789abcdef";

/// The schema of the tests.
const SCHEMA: &str = "
response_format:
  type: object
  additionalProperties: false
  required: [label, size, share, tags]
  properties:
    label: {type: string}
    size: {type: integer}
    share: {type: number, minimum: 0, maximum: 1}
    tags: {type: array, items: {type: string}}
";

/// A project that asks about column `name` of `rows`; `model` are the keys of the mapping.
fn project(rows: impl Iterator<Item = String>, bucket_size: usize, model: &str) -> Project {
    let asks = Asks { node: "ask", function: "generate", port: "model", output: "answers" };
    asking(rows, bucket_size, &asks, model).env("MODEL_KEY", KEY)
}

fn model(server: &ModelServer, more: &str) -> String {
    format!(
        "model: gpt-4o-mini\nbase_url: {}\nprompt: 'Classify: {{{{ name }}}}'\nsystem: Be brief.\nmax_tokens: 60\n\
         temperature: 0\nerrors: {{max_row_error_rate: 0.2}}\n{more}",
        server.base_url()
    )
}

/// What a name's answer is.
fn expected(name: &str) -> Json {
    let size = name.len();
    json!({"label": name.to_uppercase(), "size": size, "share": size as f64 / 64.0, "tags": [name, "x"]})
}

/// The name in a prompt of the tests.
fn name_of(prompted: &Prompted) -> &str {
    prompted.text.strip_prefix("Classify: ").unwrap_or(&prompted.text)
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = cast(batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")), &DataType::Utf8);
    column.expect("text").as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

/// The columns of the rows by name, as JSON, with the reason.
fn rows(project: &Project, folder: &str) -> BTreeMap<String, (Json, Option<String>)> {
    let mut all = BTreeMap::new();
    for batch in project.table(folder).values() {
        let (names, labels, reasons) = (texts(batch, "name"), texts(batch, "label"), texts(batch, "generate_error"));
        let size = batch.column_by_name("size").expect("size").as_primitive::<Int64Type>();
        let share = batch.column_by_name("share").expect("share").as_primitive::<Float64Type>();
        let tags = batch.column_by_name("tags").expect("tags").as_list::<i32>();
        for row in 0..batch.num_rows() {
            let list = tags.is_valid(row).then(|| {
                let list = cast(&tags.value(row), &DataType::Utf8).expect("text");
                list.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
            });
            let value = json!({
                "label": labels[row],
                "size": size.is_valid(row).then(|| size.value(row)),
                "share": share.is_valid(row).then(|| share.value(row)),
                "tags": list,
            });
            let name = names[row].clone().unwrap_or_default();
            assert!(all.insert(name, (value, reasons[row].clone())).is_none(), "a row twice");
        }
    }
    all
}

fn nothing() -> Json {
    json!({"label": null, "size": null, "share": null, "tags": null})
}

/// The number in a name.
fn number(name: &str) -> usize {
    name.rsplit(' ').next().and_then(|digits| digits.parse().ok()).expect("a number")
}

/// Of twenty names, three meet a fault: each of nine kinds, by number. Those from the sixth on stay.
fn fault(name: &str) -> Option<usize> {
    let n = number(name);
    (n % 20 < 3).then_some(n / 20 % 9)
}

/// What the server says to a name, with 15 % faults.
fn say(prompted: &Prompted, _: &crate::support::rest_server::Asked, attempt: u32) -> Say {
    if prompted.text == "Answer with OK." {
        return Say::Text("OK".into());
    }
    let name = name_of(prompted);
    let right = expected(name);
    let first = attempt == 0;
    match fault(name) {
        Some(0) if first => Say::Text("{\"label\": ".into()),
        Some(1) if first => Say::Text(json!({"label": 1, "size": "x", "share": 7, "tags": []}).to_string()),
        Some(2) if first => Say::Status(429, "Too many concurrent requests"),
        Some(3) if first => Say::Status(500, "The server had an error"),
        Some(4) if first => Say::Broken,
        Some(5) => Say::Cut("{\"label\": \"A".into()),
        Some(6) => Say::Refusal,
        Some(7) => Say::Filter,
        Some(8) => Say::Text(json!({"label": "secret words"}).to_string()),
        _ => Say::Text(right.to_string()),
    }
}

#[track_caller]
fn assert_right_or_with_its_reason(name: &str, (values, reason): &(Json, Option<String>)) {
    let wanted = match fault(name) {
        Some(5) => "length: ",
        Some(6) => "refused: I cannot help with that.",
        Some(7) => "content_filter",
        Some(8) => "invalid_answer: \"size\" is a required property",
        _ => {
            assert_eq!((values, reason), (&expected(name), &None), "{name}");
            return;
        }
    };
    assert_eq!(values, &nothing(), "{name}");
    assert!(reason.as_deref().is_some_and(|reason| reason.starts_with(wanted)), "{name}: {reason:?}");
}

#[test]
fn of_twenty_thousand_rows_with_faults_every_one_is_right_or_has_its_reason() {
    let server = ModelServer::start(say);
    let project = project((0..20_000).map(|n| format!("item {n}")), 2500, &model(&server, SCHEMA));
    let summary = project.flow("run --output json").exits(5).summary();
    let found = rows(&project, "data/answers");
    assert_eq!(found.len(), 20_000);
    found.iter().for_each(|(name, row)| assert_right_or_with_its_reason(name, row));
    let failed = found.values().filter(|(_, reason)| reason.is_some()).count() as u64;
    assert!(failed > 1000, "{failed}");
    assert_eq!(summary["rows"], json!({"ok": 20_000 - failed, "cached": 0, "empty": 0, "error": failed}));
    assert_eq!(summary["requests"].as_u64(), Some(server.requests()), "every request is counted");
    // Good answers are asked for once. What was refused, cut or filtered is an answer too.
    let times = server.times();
    let again = times.iter().filter(|(prompt, times)| {
        let name = prompt.strip_prefix("Classify: ");
        name.is_some_and(|name| **times > 1 && !matches!(fault(name), Some(0..=4 | 8)))
    });
    assert_eq!(again.count(), 0);
    let before = server.requests();
    project.flow("run --output json").exits(5);
    assert_eq!(server.requests(), before, "a second run costs nothing");
    // Other partitions of the same rows: only what never had a valid answer is asked for again.
    project.edit("parameters.yml", "size: 2500", "size: 5000").flow("run --yes --output json").exits(5);
    let asked: Vec<String> = server.prompts()[before as usize..].iter().map(|one| name_of(one).to_owned()).collect();
    assert!(asked.iter().all(|name| name == "Answer with OK." || fault(name) == Some(8)), "{asked:?}");
}

#[test]
fn a_changed_prompt_or_schema_is_asked_again_and_changed_buckets_are_not() {
    let server = ModelServer::sound();
    let project = project((0..60).map(|n| format!("item {n}")), 20, &model(&server, SCHEMA));
    let run = |project: &Project| {
        let before = server.requests();
        project.flow("run --yes --output json").exits(0);
        server.requests() - before
    };
    assert_eq!(run(&project), 60);
    assert_eq!(run(&project), 0);
    let project = project.edit("parameters.yml", "size: 20\n", "size: 30\n");
    assert_eq!(run(&project), 0, "bucket_size");
    let project = project.edit("catalog.yml", "path: data/answers", "path: data/elsewhere");
    assert_eq!(run(&project), 0, "the output");
    for (from, to) in [
        ("timeout: 30", "timeout: 31"),
        ("column: why", "column: reason"),
        ("raw: raw", "raw: text"),
        ("prompt: 'Classify: {{ name }}'", "prompt: 'Classify: {{ name|trim }}'"),
    ] {
        let other = project.copy();
        let more = "  timeout: 30\n  columns: {raw: raw}\n";
        let other = other.more("parameters.yml", more).edit("parameters.yml", "errors: {", "errors: {column: why, ");
        assert_eq!(run(&other), 0);
        assert_eq!(run(&other.edit("parameters.yml", from, to)), 0, "{to}");
    }
    for (from, to) in [
        ("Classify: {{ name }}", "Classify {{ name }}"),
        ("Be brief.", "Be short."),
        ("size: {type: integer}", "size: {type: integer, description: how large}"),
        ("max_tokens: 60", "max_tokens: 61"),
        ("temperature: 0\n", "temperature: 0.5\n"),
        ("gpt-4o-mini", "gpt-4o"),
        ("temperature: 0\n", "temperature: 0\n  seed: 7\n"),
        ("temperature: 0\n", "temperature: 0\n  extra_body: {top_p: 0.5}\n"),
    ] {
        let other = project.copy().edit("parameters.yml", from, to);
        assert_eq!(run(&other), 60, "{to}");
    }
}

#[test]
fn a_plan_counts_the_tokens_that_the_server_counts() {
    let server = ModelServer::sound();
    // Every name twice.
    let names = (0..1000).map(|n| format!("Schönes Ding {} 漢字", n % 500));
    let project = project(names, 250, &model(&server, SCHEMA));
    project.flow("run --nodes cut").exits(0);
    let plan = project.flow("plan --output json").exits(0).json();
    assert_eq!(server.requests(), 0, "a plan asks for nothing");
    let node = &plan["nodes"][1];
    assert_eq!((&node["rows"], &node["unique_rows"], &node["requests"]), (&json!(1000), &json!(500), &json!(500)));
    let summary = project.flow("run --output json").exits(0).summary();
    let billed = server.billed();
    assert_eq!(node["tokens"].as_u64(), Some(billed.input));
    let output = &node["output_tokens"];
    assert!(output["least"].as_u64() <= Some(billed.output) && output["most"].as_u64() == Some(500 * 60));
    let cost = summary["cost_usd"].as_f64().expect("a number");
    assert!((cost - billed.usd(0.15, 0.6)).abs() < 1e-6, "{cost}");
    assert!(node["cost_usd"].as_f64() <= Some(cost) && node["most_usd"].as_f64() >= Some(cost), "{node}");
    assert_eq!(server.requests(), 500, "identical prompts cost one request");
    let text = project.edit("parameters.yml", "Be brief.", "Be.").flow("plan").exits(0).stdout;
    assert!(text.contains("tokens of answers"), "{text}");
}

#[test]
fn the_spending_cap_is_never_passed() {
    let server = ModelServer::start(say);
    let project = project((0..3000).map(|n| format!("item {n}")), 500, &model(&server, SCHEMA));
    let cap = 0.03;
    let output = project.flow(&format!("run --max-cost {cap} --output json")).exits(75);
    let spent = server.billed().usd(0.15, 0.6);
    assert!(spent <= cap, "{spent}");
    assert!(spent > 0.5 * cap, "most of it is used: {spent}");
    assert!(output.stderr.contains("spending cap"), "{}", output.stderr);
    // What was paid for is kept.
    let answered = server.times();
    project.flow("run --output json").exits(5);
    let found = rows(&project, "data/answers");
    assert_eq!(found.len(), 3000);
    found.iter().for_each(|(name, row)| assert_right_or_with_its_reason(name, row));
    let twice = |(prompt, times): (&String, &u32)| {
        let faulty = prompt.strip_prefix("Classify: ").is_none_or(|name| matches!(fault(name), Some(0..=4 | 8)));
        !faulty && server.times()[prompt] > *times
    };
    assert_eq!(answered.iter().filter(|pair| twice(*pair)).count(), 0);

    for (from, to, wanted) in [
        ("max_tokens: 60\n", "timeout: 60\n", "set `max_tokens`"),
        ("gpt-4o-mini", "llama", "`price_per_million_input_tokens`"),
    ] {
        let other = project.copy().edit("parameters.yml", from, to);
        let output = other.flow("run --max-cost 1").exits(3);
        assert!(output.stderr.contains(wanted), "{}", output.stderr);
    }
}

#[test]
fn two_nodes_that_ask_the_same_at_the_same_time_send_it_once() {
    let server = ModelServer::sound();
    let project = project((0..400).map(|n| format!("item {n}")), 100, &model(&server, SCHEMA)).edit(
        "pipelines/main.yml",
        "  - name: ask\n",
        "  - name: ask_too\n    function: generate\n    inputs: {dfs: buckets@partitioned, model: params:model}\n    outputs: others@partitioned\n  - name: ask\n",
    );
    project.flow("run").exits(0);
    assert_eq!(rows(&project, "data/answers"), rows(&project, "data/others"));
    assert_eq!(server.requests(), 400);
    assert!(server.times().values().all(|times| *times == 1));
}

#[test]
fn every_api_is_spoken_with_its_words() {
    for (provider, api) in [("openai", "chat_completions"), ("openai", "responses"), ("anthropic", "messages")] {
        let server = ModelServer::sound();
        let more = format!("provider: {provider}\napi: {api}\napi_key: '${{oc.env:MODEL_KEY}}'\n{SCHEMA}");
        let project = project(["a \"b\"", "{{ c }}"].map(str::to_owned).into_iter(), 10, &model(&server, &more));
        project.flow("run").exits(0);
        let found = rows(&project, "data/answers");
        let asked = server.prompts();
        assert_eq!(asked.len(), 2, "{api}");
        for one in &asked {
            let (values, reason) = &found[name_of(one)];
            assert_eq!((values.to_string(), reason), (answer(one), &None), "{api}");
            assert_eq!((one.system.as_deref(), one.max_tokens), (Some("Be brief."), Some(60)), "{api}");
        }
        let request = &server.server.journal()[0];
        let body = &request.body;
        assert_eq!((&body["model"], &body["temperature"]), (&json!("gpt-4o-mini"), &json!(0.0)), "{api}");
        let (path, header, value) = match api {
            "chat_completions" => ("/v1/chat/completions", "authorization", format!("Bearer {KEY}")),
            "responses" => ("/v1/responses", "authorization", format!("Bearer {KEY}")),
            _ => ("/v1/messages", "x-api-key", KEY.to_owned()),
        };
        assert_eq!((request.target.as_str(), &request.headers[header]), (path, &value), "{api}");
        assert_eq!(request.headers.contains_key("anthropic-version"), api == "messages");
        assert!(request.headers["user-agent"].starts_with("flow/"), "{:?}", request.headers);
        let strict = match api {
            "chat_completions" => &body["response_format"]["json_schema"]["strict"],
            "responses" => &body["text"]["format"]["strict"],
            _ => &json!(true),
        };
        assert_eq!(strict, &json!(true), "{api}");
    }
}

#[test]
fn without_a_schema_the_text_is_the_output_and_texts_and_tokens_are_columns_if_asked_for() {
    let server = ModelServer::start(|prompted, _, _| match name_of(prompted) {
        "long" => Say::Cut("and so".into()),
        "odd" => Say::Text(String::new()),
        name => Say::Text(format!("it is {name}")),
    });
    let more = "on_invalid: null\ncolumns: {raw: raw, tokens: all, input_tokens: read, output_tokens: written}\n";
    let names = ["good", "long", "odd", "", "good"].map(str::to_owned);
    let with_rate = model(&server, more).replace("max_row_error_rate: 0.2", "max_row_error_rate: 0.9");
    // An empty name leaves a blank prompt.
    let with_rate = with_rate.replace("Classify: {{ name }}", "{{ name }}");
    let project = project(names.into_iter(), 10, &with_rate);
    let summary = project.flow("run --output json").exits(5).summary();
    assert_eq!(summary["rows"], json!({"ok": 1, "cached": 1, "empty": 1, "error": 2}));
    let mut found = BTreeMap::new();
    for batch in project.table("data/answers").values() {
        let columns = ["output", "raw", "all", "read", "written", "generate_error"].map(|name| texts(batch, name));
        for (row, name) in texts(batch, "name").into_iter().enumerate() {
            found.insert(name.unwrap_or_default(), columns.each_ref().map(|column| column[row].clone()));
        }
    }
    let text = |text: &str| Some(text.to_owned());
    let [output, raw, all, read, written, reason] = &found["good"];
    assert_eq!((output, raw, reason), (&text("it is good"), &text("it is good"), &None));
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<u64>().ok()).expect("a number");
    assert_eq!(number(all), number(read) + number(written));
    assert_eq!(found["long"][..2], [None, text("and so")]);
    assert!(found["long"][5].as_deref().is_some_and(|why| why.starts_with("length: ")));
    assert_eq!(found["odd"][5], text("invalid_answer: there is no text"));
    assert_eq!(found[""][5], text("empty_prompt"));
    assert_eq!(server.requests(), 3, "with `on_invalid: null` nothing is asked twice");
    // What does not fit is kept as an answer, and asked for again if that is wanted.
    let project = project.edit("parameters.yml", "size: 10", "size: 2");
    project.flow("run --yes").exits(5);
    assert_eq!(server.requests(), 3);
    let again = project.edit("parameters.yml", "on_invalid: null", "on_invalid: retry");
    again.flow("run --yes").exits(5);
    assert_eq!(server.requests(), 5, "one more, and once again");
}

#[test]
fn an_answer_that_does_not_fit_ends_the_run_if_that_is_wanted() {
    let server = ModelServer::start(|_, _, _| Say::Text("[]".into()));
    let more = format!("on_invalid: stop\nlimits: {{concurrency: 4}}\n{SCHEMA}");
    let project = project((0..100).map(|n| format!("item {n}")), 10, &model(&server, &more));
    let output = project.flow("run").exits(3);
    assert!(output.stderr.contains("on_invalid: stop"), "{}", output.stderr);
    assert!(server.requests() < 100, "{}", server.requests());
}

#[test]
fn several_answers_to_a_prompt_are_lists_and_are_known_one_by_one() {
    let server = ModelServer::start(|prompted, asked, _| match (name_of(prompted), asked.body["seed"].as_i64()) {
        ("b", Some(12)) => Say::Refusal,
        (name, seed) => Say::Text(format!("{name} {}", seed.expect("a seed"))),
    });
    let project = project(["a", "b"].map(str::to_owned).into_iter(), 10, &model(&server, "seed: 11\n")).edit(
        "parameters.yml",
        "max_row_error_rate: 0.2",
        "max_row_error_rate: 0.5",
    );
    project.flow("run").exits(0);
    assert_eq!(server.requests(), 2);
    let three = project.edit("parameters.yml", "seed: 11", "seed: 11\n  repeat: 3");
    three.flow("run --yes").exits(5);
    assert_eq!(server.requests(), 6, "the first of the three was known");
    let mut found = BTreeMap::new();
    for batch in three.table("data/answers").values() {
        let (names, reasons) = (texts(batch, "name"), texts(batch, "generate_error"));
        let lists = batch.column_by_name("output").expect("output").as_list::<i32>();
        for (row, name) in names.into_iter().flatten().enumerate() {
            let list = cast(&lists.value(row), &DataType::Utf8).expect("text");
            let list: Vec<_> = list.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect();
            found.insert(name, (list, reasons[row].clone()));
        }
    }
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(found["a"], (vec![some("a 11"), some("a 12"), some("a 13")], None));
    assert_eq!(found["b"].0, [some("b 11"), None, some("b 13")]);
    assert_eq!(found["b"].1.as_deref(), Some("1 of 3: refused: I cannot help with that."));
}

#[test]
fn images_are_sent_by_address_and_by_content() {
    for (provider, address, content) in [
        ("openai", "https://host/a.png", "data:image/png;base64,iVBORw0K"),
        ("anthropic", "https://host/a.png", "image/png"),
    ] {
        let server = ModelServer::start(|prompted, _, _| Say::Text(prompted.image.clone().unwrap_or_default()));
        let more = format!("provider: {provider}\nimage: name\n");
        let names = ["https://host/a.png", "pictures/b.png", "pictures/c.png", "pictures/none.png"].map(str::to_owned);
        let settings = model(&server, &more)
            .replace("Classify: {{ name }}", "What is this?")
            .replace("max_row_error_rate: 0.2", "max_row_error_rate: 0.9");
        let project = project(names.into_iter(), 10, &settings);
        std::fs::create_dir_all(project.path("pictures")).expect("a folder");
        for name in ["b.png", "c.png"] {
            std::fs::write(project.path("pictures").join(name), b"\x89PNG\r\n").expect("written");
        }
        project.flow("run").exits(5);
        let mut found = BTreeMap::new();
        for batch in project.table("data/answers").values() {
            let (output, reasons) = (texts(batch, "output"), texts(batch, "generate_error"));
            for (row, name) in texts(batch, "name").into_iter().flatten().enumerate() {
                found.insert(name, (output[row].clone(), reasons[row].clone()));
            }
        }
        assert_eq!(found["https://host/a.png"], (Some(address.to_owned()), None), "{provider}");
        assert_eq!(found["pictures/b.png"], (Some(content.to_owned()), None), "{provider}");
        assert_eq!(found["pictures/c.png"], found["pictures/b.png"]);
        assert!(
            found["pictures/none.png"].1.as_deref().is_some_and(|why| why.starts_with("image: `pictures/none.png`"))
        );
        assert_eq!(server.requests(), 2, "the same content is sent once");
    }
}

#[test]
fn wrong_keys_and_settings_stop_the_run_without_showing_a_secret() {
    for (status, message, wanted) in [
        (401, "Incorrect API key provided: canary-key-0123456789abcdef", "Incorrect API key provided: ***"),
        (404, "The model does not exist", "check `model`, `base_url` and `api`"),
    ] {
        let server = ModelServer::start(move |_, _, _| Say::Status(status, message));
        let more = "api_key: '${oc.env:MODEL_KEY}'\n";
        let project = project((0..200).map(|n| format!("item {n}")), 20, &model(&server, more));
        let output = project.flow("run").exits(3);
        assert!(output.stderr.contains(wanted), "{}", output.stderr);
        assert!(!output.stderr.contains(KEY) && !output.stdout.contains(KEY));
        assert!(server.requests() <= 64, "those that were in flight: {}", server.requests());
        for file in project.files(".flow") {
            let content = std::fs::read(project.path(".flow").join(&file)).unwrap_or_default();
            assert!(!content.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{file}");
        }
    }
    let server = ModelServer::sound();
    let unset = project(std::iter::once("a".to_owned()), 1, &model(&server, "api_key: '${oc.env:UNSET_KEY}'\n"));
    let output = unset.flow("run").exits(3);
    assert!(output.stderr.contains("UNSET_KEY"), "{}", output.stderr);
    assert_eq!(server.requests(), 0);
}

#[test]
fn mistakes_in_the_mapping_are_found_by_check() {
    let ask = |model: &str| {
        let output = project(std::iter::once("a".to_owned()), 1, model).flow("check");
        (output.code, output.stderr)
    };
    let right = "model: gpt-4o-mini\nprompt: 'What is {{ name }}?'\nresponse_format: {type: object, properties: {a: {type: string}}}\n";
    assert_eq!(ask(right).0, 0, "{}", ask(right).1);
    for (from, to, expected) in [
        ("{{ name }}", "{{ nam }}", "no column `nam`"),
        ("{{ name }}", "{{ name", "`prompt` is not a valid template"),
        ("properties: {a:", "properties: {name:", "already has a column `name`"),
        ("properties: {a:", "properties: {generate_error:", "two columns are called `generate_error`"),
        ("{a: {type: string}}", "{a: {type: strin}}", "is not a JSON Schema that can be checked"),
        ("type: object", "type: array", "is not the JSON Schema of an object"),
        ("model: gpt", "provider: anthropic\nmodel: gpt", "no `max_tokens`"),
        ("model: gpt", "api: messages\nmodel: gpt", "provider `openai` has no API `messages`"),
        ("model: gpt", "system: 'Be {{ name }}'\nmodel: gpt", "`system` contains a placeholder"),
        ("model: gpt", "on_invalid: skip\nmodel: gpt", "`on_invalid` is unknown"),
        ("model: gpt", "base_url: host/v1\nmodel: gpt", "`base_url` is not a valid address"),
        ("model: gpt", "base_url: https://ada:hunter2@host/v1\nmodel: gpt", "contains a user name or password"),
        ("model: gpt", "base_url: https://host/v1?api_key=hunter2\nmodel: gpt", "contains a secret, `api_key`"),
        ("model: gpt", "extra_body: {model: x}\nmodel: gpt", "`extra_body` must not contain `model`"),
        ("model: gpt", "image: photo\nmodel: gpt", "no column `photo`"),
        ("model: gpt", "price_per_million_input_tokens: 1\nmodel: gpt", "only one of the two prices"),
        ("model: gpt", "temprature: 1\nmodel: gpt", "unknown key `temprature`"),
        ("model: gpt-4o-mini", "api_key: 'x'", "has no `model`"),
    ] {
        let wrong = right.replace(from, to);
        assert_ne!(wrong, right, "{from}");
        let (code, said) = ask(&wrong);
        assert!(code == 2 && said.contains(expected), "{wrong}\n{expected}\n{code}: {said}");
    }
}
