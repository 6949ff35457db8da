//! Binds datasets to the ports of functions, and reports what does not fit.

use std::collections::HashSet;

use super::{
    Link,
    build::{Builder, Side},
};
use crate::{
    config::{Binding, Bindings, NodeSpec, Spanned},
    diagnostic::{Diagnostic, Span},
    model::{DatasetRef, Port, Shape, Signature},
};

impl Builder<'_> {
    /// Binds datasets to ports. What cannot be bound is reported and left out; the ports that have an unknown value for
    /// that reason come second.
    pub(super) fn bind(
        &mut self,
        spec: &NodeSpec,
        bindings: &Bindings,
        signature: Option<Signature>,
        side: Side,
    ) -> (Vec<Link>, Vec<String>) {
        let given = if side == Side::Output { self.given(&spec.inputs, signature) } else { None };
        // The ports of an unknown function, which was reported, are unknown.
        let anything = signature.is_none_or(|signature| signature.anything);
        let ports: &'static [Port] = signature.map_or(&[], |signature| match side {
            Side::Input => signature.inputs,
            Side::Output => signature.outputs,
        });
        let more = signature.and_then(|signature| signature.more_inputs).filter(|_| side == Side::Input);
        let mut unknown_ports: Vec<String> = Vec::new();
        let mut links = Vec::with_capacity(bindings.list.len());
        let mut filled: HashSet<&str> = HashSet::new();
        let mut surplus = None;
        for (position, binding) in bindings.list.iter().enumerate() {
            let further_port = |name: String| (name, Expected { shape: more, further: true, ..Expected::default() });
            let known_port = |port: &Port| {
                let (shape, because) = match (&given, side) {
                    (Some((shape, because)), _) if port.or_table => (Some(*shape), Some(because.clone())),
                    // What is given is not known.
                    (None, Side::Output) if port.or_table => (None, None),
                    _ => (Some(port.shape), None),
                };
                (port.name.to_owned(), Expected { shape, because, or_table: port.or_table, further: false })
            };
            let (port, expected) = match &binding.port {
                Some(name) => match ports.iter().find(|port| port.name == name.value) {
                    Some(port) => known_port(port),
                    None if anything || more.is_some() => further_port(name.value.clone()),
                    None => {
                        self.unknown_port(spec, name, ports, side);
                        continue;
                    }
                },
                None => match ports.get(position) {
                    Some(port) => known_port(port),
                    None if anything => further_port((position + 1).to_string()),
                    None => {
                        surplus.get_or_insert(binding);
                        continue;
                    }
                },
            };
            if let Some(port) = ports.iter().find(|known| known.name == port)
                && !filled.insert(port.name)
            {
                self.error(
                    Diagnostic::error(
                        "graph::duplicate-port",
                        format!("duplicate {1} `{2}` of node `{0}`", spec.name.value, side.word(), port.name),
                    )
                    .at(binding.dataset.span, ""),
                );
                continue;
            }
            let (link, fits) = self.link(spec, binding, &port, &expected, side);
            links.extend(link);
            if !fits {
                unknown_ports.push(port);
            }
        }
        if let Some(binding) = surplus {
            self.surplus(spec, binding, bindings.list.len(), ports, more.is_some(), side);
        }
        let missing = || ports.iter().filter(|port| !filled.contains(port.name));
        if bindings.incomplete {
            unknown_ports.extend(missing().map(|port| port.name.to_owned()));
        } else if !anything {
            unknown_ports.extend(missing().filter(|port| port.required).map(|port| port.name.to_owned()));
            self.missing_ports(spec, ports, &filled, side);
        }
        (links, unknown_ports)
    }

    /// The shape of the dataset at an input that takes a table as well: outputs have the same. `None` if it is not known, or if there
    /// is no such input. With what says so.
    fn given(&mut self, inputs: &Bindings, signature: Option<Signature>) -> Option<(Shape, String)> {
        let ports = signature?.inputs;
        let (at, port) = ports.iter().enumerate().find(|(_, port)| port.or_table)?;
        let binding = inputs.list.iter().enumerate().find(|(position, binding)| match &binding.port {
            Some(name) => name.value == port.name,
            None => *position == at,
        });
        let name = &binding?.1.dataset.value;
        let shape = self.metadata(&name.parse().ok()?)?.shape.filter(|shape| port.takes(*shape))?;
        Some((shape, format!("its input `{name}` is {shape}")))
    }

    fn unknown_port(&mut self, spec: &NodeSpec, name: &Spanned<String>, ports: &[Port], side: Side) {
        let function = &spec.function.value;
        let help = self.suggest(&name.value, || ports.iter().map(|port| port.name));
        self.error(
            Diagnostic::error(
                "graph::unknown-port",
                format!("function `{function}` has no {} `{}`", side.word(), name.value),
            )
            .at(name.span, format!("in node `{}`", spec.name.value))
            .help_opt(help)
            .help(list_ports(function, ports, side)),
        );
    }

    fn surplus(&mut self, spec: &NodeSpec, first: &Binding, given: usize, ports: &[Port], more: bool, side: Side) {
        let function = &spec.function.value;
        let word = side.word();
        let (message, help) = if more {
            (
                format!("function `{function}` takes further {word}s by name only"),
                format!("write `{word}s:` as a mapping, port to dataset"),
            )
        } else {
            (
                format!(
                    "function `{function}` has {}, and node `{}` binds {given}",
                    count(ports.len(), word),
                    spec.name.value
                ),
                list_ports(function, ports, side),
            )
        };
        self.error(
            Diagnostic::error("graph::too-many-ports", message)
                .at(first.dataset.span, format!("unexpected {word}"))
                .help(help),
        );
    }

    fn missing_ports(&mut self, spec: &NodeSpec, ports: &[Port], filled: &HashSet<&str>, side: Side) {
        // A port that was given and could not be bound is not missing.
        let named = |port: &Port| {
            let bindings = if side == Side::Input { &spec.inputs } else { &spec.outputs };
            bindings.list.iter().any(|b| b.port.as_ref().is_some_and(|name| name.value == port.name))
        };
        let missing: Vec<_> =
            ports.iter().filter(|port| port.required && !filled.contains(port.name) && !named(port)).collect();
        if missing.is_empty() {
            return;
        }
        let names: Vec<_> = missing.iter().map(|port| format!("`{}`", port.name)).collect();
        let plural = if names.len() == 1 { "" } else { "s" };
        let message = format!("node `{}` lacks the {}{plural} {}", spec.name.value, side.word(), and(&names));
        let mut diagnostic = Diagnostic::error("graph::missing-port", message).at(
            spec.function.span,
            format!("`{}` needs {}", spec.function.value, if names.len() == 1 { "it" } else { "them" }),
        );
        for port in missing {
            diagnostic = diagnostic.help(format!("`{}` is {}: {}", port.name, port.shapes(), port.doc));
        }
        self.error(diagnostic);
    }

    /// The link of a port, and whether the port accepts it.
    fn link(
        &mut self,
        spec: &NodeSpec,
        binding: &Binding,
        port: &str,
        wanted: &Expected,
        side: Side,
    ) -> (Option<Link>, bool) {
        let Spanned { value: name, span } = &binding.dataset;
        let dataset: DatasetRef = match name.parse() {
            Ok(dataset) => dataset,
            Err(error) => {
                self.error(Diagnostic::error("graph::bad-name", format!("`{name}`: {error}")).at(*span, ""));
                return (None, false);
            }
        };
        let actual = if dataset.is_parameter() {
            if side == Side::Output {
                self.error(
                    Diagnostic::error(
                        "graph::parameter-written",
                        format!("node `{}` writes `{name}`, but parameters are read-only", spec.name.value),
                    )
                    .at(*span, "")
                    .help("write to a dataset of the catalog"),
                );
                return (None, false);
            }
            self.check_parameter(&dataset, *span);
            Some(Shape::Value)
        } else {
            match self.metadata(&dataset) {
                Some(metadata) => metadata.shape,
                None => {
                    self.unknown_dataset(&dataset, *span);
                    None
                }
            }
        };
        let mut fits = true;
        let Expected { shape: expected, or_table, ref because, further } = *wanted;
        if let (Some(expected), Some(actual)) = (expected, actual)
            && expected != actual
            // All partitions can be read as one table, and a parameter under a name of its own is a value of that name.
            && !(side == Side::Input && expected == Shape::Table && actual == Shape::Partitions)
            && !(side == Side::Input && or_table && actual == Shape::Table)
            && !(further && dataset.is_parameter())
        {
            fits = false;
            let helps = self.fitting(&dataset, expected);
            let verb = if side == Side::Input { "takes" } else { "gives" };
            let or_table = if or_table && side == Side::Input { " or a table" } else { "" };
            let because = because.as_ref().map_or_else(String::new, |because| format!(", since {because}"));
            let message = format!(
                "`{name}` is {actual}, and {} `{port}` of `{}` {verb} {expected}{or_table}{because}",
                side.word(),
                spec.function.value
            );
            let diagnostic = Diagnostic::error("graph::shape-mismatch", message)
                .at(*span, actual.to_string())
                .at_opt(self.metadata(&dataset).and_then(|metadata| metadata.name_span), "declared here");
            self.error(helps.into_iter().fold(diagnostic, Diagnostic::help));
        }
        let shape = actual.or(expected).unwrap_or(Shape::Table);
        (Some(Link { port: port.to_owned(), dataset, shape, span: *span }), fits)
    }

    fn check_parameter(&mut self, dataset: &DatasetRef, span: Span) {
        let path = dataset.parameter_path().unwrap_or_default();
        // The whole of the parameters always exists, if only as an empty mapping.
        if path.is_empty() || self.lookup.has_parameter(path) {
            return;
        }
        let lookup = self.lookup;
        let help = self.suggest(path, || lookup.parameter_names());
        self.error(
            Diagnostic::error("graph::unknown-parameter", format!("there is no parameter `{path}`"))
                .at(span, "")
                .help_opt(help)
                .help("add it to `parameters.yml`"),
        );
    }

    fn unknown_dataset(&mut self, dataset: &DatasetRef, span: Span) {
        let lookup = self.lookup;
        let diagnostic =
            Diagnostic::error("graph::unknown-dataset", format!("dataset `{dataset}` is not in the catalog"))
                .at(span, "");
        let views = self.views.get(dataset.base()).cloned().unwrap_or_default();
        let help = if !views.is_empty() {
            let names: Vec<_> = views.iter().map(|name| format!("`{name}`")).collect();
            Some(format!("the catalog has {}", and(&names)))
        } else if dataset.view().is_some() && lookup.dataset(dataset.base()).is_some() {
            Some(format!("the catalog has `{}`, without a view", dataset.base()))
        } else {
            self.suggest(&dataset.to_string(), || lookup.dataset_names())
        };
        let help = help.unwrap_or_else(|| {
            "add it to `catalog.yml`; `type: memory` declares one that lives only as long as the run".to_owned()
        });
        self.error(diagnostic.help(help));
    }

    /// What to write instead, when a port takes another shape.
    fn fitting(&mut self, dataset: &DatasetRef, wanted: Shape) -> Vec<String> {
        if dataset.is_parameter() {
            return vec![format!("use a dataset that is {wanted}; `params:` are values")];
        }
        let names = self.views.get(dataset.base()).cloned().unwrap_or_default();
        let mut fitting = Vec::new();
        for name in names {
            let Ok(view) = name.parse::<DatasetRef>() else { continue };
            if self.metadata(&view).is_some_and(|metadata| metadata.shape == Some(wanted)) {
                fitting.push(match wanted {
                    Shape::Table => format!("`{name}` is a view of it as a table"),
                    Shape::Partitions => format!("`{name}` is a view with partitions"),
                    Shape::Value => format!("`{name}` is a view of it as a value"),
                });
            }
        }
        if fitting.is_empty() {
            let base = dataset.base();
            fitting.push(match wanted {
                Shape::Table => {
                    format!("add a view of the same location as a table: `{base}@table` with `type: parquet`, say")
                }
                Shape::Partitions => {
                    format!(
                        "add a view of the same location with partitions: `{base}@partitioned` with `type: partitioned`"
                    )
                }
                Shape::Value => "use a parameter, `params:…`".to_owned(),
            });
        }
        fitting
    }
}

/// What may be at a port.
#[derive(Default)]
struct Expected {
    /// The shape; `None` for any.
    shape: Option<Shape>,
    /// Why it is this one, where the port's is another.
    because: Option<String>,
    /// Whether the port takes a table as well.
    or_table: bool,
    /// Whether the function does not name the port.
    further: bool,
}

fn list_ports(function: &str, ports: &[Port], side: Side) -> String {
    let names: Vec<_> = ports
        .iter()
        .map(|port| format!("`{}` ({}{})", port.name, port.shapes(), if port.required { "" } else { ", optional" }))
        .collect();
    match names.as_slice() {
        [] => format!("`{function}` has no {}s", side.word()),
        [one] => format!("its {} is {one}", side.word()),
        many => format!("its {}s are {}", side.word(), and(many)),
    }
}

fn count(number: usize, word: &str) -> String {
    match number {
        0 => format!("no {word}s"),
        1 => format!("one {word}"),
        _ => format!("{number} {word}s"),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Sketch, check};

    #[test]
    fn a_dataset_that_the_catalog_lacks_is_an_error_with_the_nearest_name() {
        let sketch =
            Sketch::new().node("p", "n", &["companees"], &["b"]).without("companees").dataset("companies", |_| {});
        check(
            &sketch,
            &[
                "graph::unknown-dataset: dataset `companees` is not in the catalog\n  at companees: \n  help: did you mean `companies`?",
            ],
        );
        check(
            &Sketch::new().node("p", "n", &["new"], &[]).without("new"),
            &[
                "graph::unknown-dataset: dataset `new` is not in the catalog\n  at new: \n  help: add it to `catalog.yml`; \
               `type: memory` declares one that lives only as long as the run",
            ],
        );
        check(
            &Sketch::new()
                .node("p", "n", &["x@spark", "x"], &[])
                .without("x@spark")
                .without("x")
                .dataset("x@table", |_| {})
                .dataset("x@partitioned", |_| {}),
            &[
                "graph::unknown-dataset: dataset `x@spark` is not in the catalog\n  at x@spark: \n  help: the catalog has \
                 `x@partitioned` and `x@table`",
                "graph::unknown-dataset: dataset `x` is not in the catalog\n  at x: \n  help: the catalog has \
                 `x@partitioned` and `x@table`",
            ],
        );
        check(
            &Sketch::new().node("p", "n", &["x@spark"], &[]).without("x@spark").dataset("x", |_| {}),
            &[
                "graph::unknown-dataset: dataset `x@spark` is not in the catalog\n  at x@spark: \n  help: the catalog has `x`, \
               without a view",
            ],
        );
    }

    #[test]
    fn a_missing_parameter_is_an_error_and_the_whole_is_always_there() {
        check(
            &Sketch::new()
                .node("p", "n", &["params:a.batch_sise", "params:a.batch_size", "parameters"], &[])
                .without("params:a.batch_sise"),
            &[
                "graph::unknown-parameter: there is no parameter `a.batch_sise`\n  at params:a.batch_sise: \n  help: did you mean \
               `a.batch_size`?\n  help: add it to `parameters.yml`",
            ],
        );
    }

    #[test]
    fn ports_are_checked_by_name_and_by_position() {
        check(
            &Sketch::new().node("p", "n", &["fd=a", "bucket_size=params:s"], &["table=b"]).function("n", "bucketize"),
            &[
                "graph::unknown-port: function `bucketize` has no input `fd`\n  at fd: in node `n`\n  help: did you mean `df`?\n  \
                 help: its inputs are `df` (a table), `bucket_size` (a value) and `id` (a value, optional)",
                "graph::missing-port: node `n` lacks the input `df`\n  at bucketize: `bucketize` needs it\n  help: `df` is a \
                 table: the table to cut",
            ],
        );
        check(
            &Sketch::new().node("p", "n", &[], &["b", "c"]).function("n", "embed").without("unused"),
            &[
                "graph::shape-mismatch: `b` is a table, and output `dfs` of `embed` gives partitions\n  at b: a table\n  help: add a view of the same location with partitions: `b@partitioned` with `type: partitioned`",
                "graph::too-many-ports: function `embed` has one output, and node `n` binds 2\n  at c: unexpected output\n  \
                 help: its output is `dfs` (partitions)",
                "graph::missing-port: node `n` lacks the inputs `dfs` and `model`\n  at embed: `embed` needs them\n  help: `dfs` \
                 is partitions: what to embed\n  help: `model` is a value: with what",
            ],
        );
        check(
            &Sketch::new()
                .node("p", "n", &["df=a", "a", "bucket_size=params:s", "df=b"], &["c"])
                .function("n", "bucketize"),
            &[
                "graph::shape-mismatch: `a` is a table, and input `bucket_size` of `bucketize` takes a value\n  at a: a table\n  \
                 help: use a parameter, `params:…`",
                "graph::duplicate-port: duplicate input `bucket_size` of node `n`\n  at params:s: ",
                "graph::duplicate-port: duplicate input `df` of node `n`\n  at b: ",
            ],
        );
    }

    #[test]
    fn a_function_that_takes_partitions_or_a_table_gives_what_it_takes() {
        let node = |inputs: &[&str], output: &str| Sketch::new().node("p", "n", inputs, &[output]).function("n", "ask");
        check(&node(&["a@partitioned", "params:api"], "b@partitioned"), &[]);
        check(&node(&["a", "params:api"], "b"), &[]);
        check(&node(&["api=params:api", "dfs=a"], "result=b"), &[]);
        check(
            &node(&["a", "params:api"], "b@partitioned"),
            &[
                "graph::shape-mismatch: `b@partitioned` is partitions, and output `result` of `ask` gives a table, since its input \
                 `a` is a table\n  at b@partitioned: partitions\n  help: add a view of the same location as a table: `b@table` with \
                 `type: parquet`, say",
            ],
        );
        check(
            &node(&["a@partitioned", "params:api"], "b"),
            &["graph::shape-mismatch: `b` is a table, and output `result` of `ask` gives partitions, since its input \
                 `a@partitioned` is partitions\n  at b: a table\n  help: add a view of the same location with partitions: \
                 `b@partitioned` with `type: partitioned`"],
        );
        // Of an input that is wrong, nothing follows for the output.
        check(
            &node(&["params:a", "params:api"], "b"),
            &[
                "graph::shape-mismatch: `params:a` is a value, and input `dfs` of `ask` takes partitions or a table\n  at params:a: a \
                 value\n  help: use a dataset that is partitions; `params:` are values",
            ],
        );
        check(
            &node(&["a", "params:api"], "b").without("a"),
            &["graph::unknown-dataset: dataset `a` is not in the catalog\n  at a: \n  help: did you mean `b`?"],
        );
    }

    #[test]
    fn further_inputs_are_taken_by_name_and_have_their_shape() {
        check(
            &Sketch::new().node("p", "n", &["query=params:q", "left=a", "right=b"], &["c"]).function("n", "sql"),
            &[],
        );
        check(
            &Sketch::new().node("p", "n", &["params:q", "a"], &["c"]).function("n", "sql"),
            &[
                "graph::too-many-ports: function `sql` takes further inputs by name only\n  at a: unexpected input\n  help: \
               write `inputs:` as a mapping, port to dataset",
            ],
        );
        check(&Sketch::new().node("p", "n", &["query=params:q", "limit=params:n"], &["c"]).function("n", "sql"), &[]);
    }

    #[test]
    fn a_table_is_no_value_and_partitions_are_read_as_a_table() {
        check(
            &Sketch::new().node("p", "n", &["df=params:q", "bucket_size=params:n"], &["c"]).function("n", "bucketize"),
            &[
                "graph::shape-mismatch: `params:q` is a value, and input `df` of `bucketize` takes a table\n  at params:q: a value\n  help: \
               use a dataset that is a table; `params:` are values",
            ],
        );
        let sql = |output: &str| {
            Sketch::new().node("p", "n", &["query=params:q", "left=x@partitioned"], &[output]).function("n", "sql")
        };
        check(&sql("c"), &[]);
        check(
            &sql("y@partitioned"),
            &[
                "graph::shape-mismatch: `y@partitioned` is partitions, and output `table` of `sql` gives a table\n  at y@partitioned: partitions\n  \
               help: add a view of the same location as a table: `y@table` with `type: parquet`, say",
            ],
        );
    }

    #[test]
    fn a_view_of_the_wrong_shape_is_an_error_that_names_the_one_that_fits() {
        check(
            &Sketch::new()
                .node("p", "n", &["dfs=x@table", "model=params:m"], &["y@partitioned"])
                .function("n", "embed")
                .dataset("x@partitioned", |_| {})
                .dataset("x@table", |_| {}),
            &[
                "graph::shape-mismatch: `x@table` is a table, and input `dfs` of `embed` takes partitions\n  at x@table: a table\n  \
               at x@table: declared here\n  help: `x@partitioned` is a view with partitions",
            ],
        );
    }

    #[test]
    fn the_placeholder_takes_anything_and_numbers_its_ports() {
        let graph = Sketch::new()
            .node("p", "n", &["a", "b@partitioned", "params:c", "named=d"], &["e", "f@partitioned"])
            .graph();
        let node = graph.node("n").expect("there");
        let ports: Vec<_> = node.inputs.iter().chain(&node.outputs).map(|link| link.port.as_str()).collect();
        assert_eq!(ports, ["1", "2", "3", "named", "1", "2"]);
    }

    #[test]
    fn names_and_targets_that_cannot_be_are_errors() {
        check(
            &Sketch::new()
                .node("p", "n", &["a@b@c", "x@"], &["params:out"])
                .node("p", "m", &[], &[])
                .after("m", &["nn"]),
            &[
                "graph::bad-name: `a@b@c`: a dataset name has at most one `@`, which separates the name from its view\n  at a@b@c: ",
                "graph::bad-name: `x@`: a dataset name is `name` or `name@view`, and neither part may be empty\n  at x@: ",
                "graph::parameter-written: node `n` writes `params:out`, but parameters are read-only\n  at params:out: \n  help: \
                 write to a dataset of the catalog",
                "graph::unknown-node: node `m` comes after `nn`, which does not exist\n  at nn: \n  help: did you mean `n`?",
            ],
        );
    }
}
