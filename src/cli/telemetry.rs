//! Where a run sends lineage, traces and metrics: from `--openlineage` and the variables of OpenTelemetry.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use url::Url;

use super::{
    Exit,
    app::{App, Stop, environment},
    output_file,
};
use crate::{
    model::{Secret, visible},
    telemetry::{OtlpSettings, Target, Telemetry},
};

/// The variable that names OpenLineage's namespace of jobs.
pub(super) const NAMESPACE: &str = "OPENLINEAGE_NAMESPACE";
/// The variable with the key of an OpenLineage server.
const KEY: &str = "OPENLINEAGE_API_KEY";
/// The address of OpenLineage's API below that of a server.
const LINEAGE: &str = "/api/v1/lineage";

/// The value of the variable of one signal: `ENDPOINT` or `HEADERS`.
fn of_signal(signal: &str, what: &str) -> Option<String> {
    environment(&format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.to_uppercase()))
}

/// The sinks of the run `run`.
pub(super) fn start(app: &App, openlineage: Option<&str>, run: &str) -> Result<Telemetry, Stop> {
    let wrong = |error: String| app.fail(Exit::Wrong, error);
    let openlineage = openlineage.map(lineage_target).transpose().map_err(wrong)?;
    if let Some(Target::File(path)) = &openlineage
        // What cannot be read is told when an event is written.
        && let Ok(Some(beginning)) = output_file::beginning(path)
        && !has_events(&beginning)
    {
        let message = format!(
            "`--openlineage {}`: the file holds no OpenLineage events, and none are appended to it\nhelp: name another file",
            path.display()
        );
        return Err(app.fail(Exit::Environment, message));
    }
    let otlp = match &app.spans {
        None => None,
        Some(spans) => Some(OtlpSettings {
            traces: otlp_target("traces").map_err(wrong)?,
            metrics: otlp_target("metrics").map_err(wrong)?,
            resource: resource(environment("OTEL_SERVICE_NAME"), environment("OTEL_RESOURCE_ATTRIBUTES")),
            spans: spans.clone(),
            parent: environment("TRACEPARENT"),
        }),
    };
    if let Some(key) = environment(KEY) {
        app.secrets.add(&Secret::new(key));
    }
    let targets = otlp.iter().flat_map(|otlp| otlp.traces.iter().chain(&otlp.metrics)).chain(&openlineage);
    for target in targets {
        if let Target::Http { headers, .. } = target {
            headers.iter().for_each(|(_, value)| app.secrets.add(value));
        }
    }
    let secrets = app.secrets.clone();
    let print = move |text: &str| {
        // Nothing can be done about a closed stderr.
        let _ = writeln!(io::stderr().lock(), "warning: {}", secrets.mask(&visible(text)));
    };
    Ok(Telemetry::new(run, openlineage, otlp, &app.secrets, print))
}

/// True for the beginning of a file with an event of OpenLineage in its first line.
fn has_events(beginning: &str) -> bool {
    beginning.lines().next().is_some_and(|line| line.starts_with('{') && line.contains("\"eventTime\""))
}

/// The receiver of lineage: the API of a server, or a file.
fn lineage_target(place: &str) -> Result<Target, String> {
    if !place.starts_with("http://") && !place.starts_with("https://") {
        return Ok(Target::File(PathBuf::from(place)));
    }
    let mut url = Url::parse(place).map_err(|error| format!("`--openlineage`: the address is not valid: {error}"))?;
    if matches!(url.path(), "" | "/") {
        url.set_path(LINEAGE);
    }
    let key = environment(KEY).map(|key| ("Authorization".to_owned(), Secret::new(format!("Bearer {key}"))));
    Ok(Target::Http { url, headers: key.into_iter().collect() })
}

/// The receiver of a signal; `None` where it is switched off or has none.
fn otlp_target(signal: &str) -> Result<Option<Target>, String> {
    let exporter = environment(&format!("OTEL_{}_EXPORTER", signal.to_uppercase()));
    if exporter.is_some_and(|exporter| exporter != "otlp") {
        return Ok(None);
    }
    let (variable, text) = match (of_signal(signal, "ENDPOINT"), environment("OTEL_EXPORTER_OTLP_ENDPOINT")) {
        (Some(own), _) => (format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.to_uppercase()), own),
        (None, Some(base)) => {
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("{}/v1/{signal}", base.trim_end_matches('/')))
        }
        (None, None) => return Ok(None),
    };
    let url = Url::parse(&text).map_err(|error| format!("{variable}: the address is not valid: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "{variable}: `{}://` is not supported: OTLP is sent as JSON over http or https",
            url.scheme()
        ));
    }
    let headers = of_signal(signal, "HEADERS").or_else(|| environment("OTEL_EXPORTER_OTLP_HEADERS"));
    Ok(Some(Target::Http {
        url,
        headers: pairs(&headers.unwrap_or_default()).map(|(name, value)| (name, Secret::new(value))).collect(),
    }))
}

/// `a=b,c=d`, with percent signs decoded.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        // A plus sign is one.
        let query = format!("v={}", value.trim().replace('+', "%2B").replace('&', "%26"));
        let (_, value) = url::form_urlencoded::parse(query.as_bytes()).next()?;
        Some((name.trim().to_owned(), value.into_owned()))
    })
}

/// The attributes of the service.
fn resource(name: Option<String>, attributes: Option<String>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = pairs(&attributes.unwrap_or_default()).collect();
    if let Some(name) = name {
        all.retain(|(key, _)| key != "service.name");
        all.push(("service.name".to_owned(), name));
    }
    for (key, value) in [("service.name", "flow"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        if !all.iter().any(|(known, _)| known == key) {
            all.push((key.to_owned(), value.to_owned()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineage_goes_to_the_api_of_a_server_or_to_a_file() {
        for (place, expected) in [
            ("http://marquez:5000", "http://marquez:5000/api/v1/lineage"),
            ("http://marquez:5000/", "http://marquez:5000/api/v1/lineage"),
            ("https://other/own/path?x=1", "https://other/own/path?x=1"),
        ] {
            let target = lineage_target(place).expect("an address");
            assert!(matches!(&target, Target::Http { url, .. } if url.as_str() == expected), "{target:?}");
        }
        assert!(matches!(lineage_target("out/events.jsonl"), Ok(Target::File(_))));
        assert!(lineage_target("http://[").is_err());
    }

    #[test]
    fn a_file_with_other_lines_takes_no_events() {
        assert!(has_events("{\"eventType\":\"START\",\"eventTime\":\"2026-01-02T03:04:05Z\"}\n{\"ev"));
        for other in ["nodes: {type: csv}\n", "{\n  \"eventTime\": 1\n}\n", "\n{\"eventTime\": 1}"] {
            assert!(!has_events(other), "{other}");
        }
    }

    #[test]
    fn attributes_of_the_service_are_those_of_the_environment() {
        let all =
            resource(Some("mine".to_owned()), Some("service.name=other, deployment.environment=a%20b".to_owned()));
        assert!(all.contains(&("service.name".to_owned(), "mine".to_owned())), "{all:?}");
        assert!(all.contains(&("deployment.environment".to_owned(), "a b".to_owned())), "{all:?}");
        assert_eq!(all.iter().filter(|(key, _)| key == "service.name").count(), 1);
        assert_eq!(pairs("a=b=+&c").next(), Some(("a".to_owned(), "b=+&c".to_owned())));
    }
}
