//! Every code that a diagnostic can carry, with what `flow check` and the docs say about it.

/// One kind of problem.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// `area::kebab-case`, never changed once released.
    pub code: &'static str,
    /// What it means and what to do about it, a few sentences.
    pub explain: &'static str,
}

const fn code(code: &'static str, explain: &'static str) -> Code {
    Code { code, explain }
}

/// All codes, sorted. A module that raises a new one adds its line here.
pub static CODES: &[Code] = &[
    code(
        "api::invalid",
        "A key of the `api:` mapping of a `call_api` node has a value that cannot work. The message says which, and what to write.",
    ),
    code(
        "bucketize::bad-column",
        "A column of `bucketize` is not in its table, or has no string form. Fix `id`, `input_features` or `text_template`.",
    ),
    code(
        "bucketize::bad-template",
        "The text under `text_template` is not a valid row template. The message names the position of the error.",
    ),
    code(
        "catalog::entry",
        "An entry of the catalog is not a mapping. A dataset needs at least a `type`; a name that begins with `_` holds values for other entries and is not a dataset.",
    ),
    code(
        "catalog::name",
        "A name in the catalog is not a valid dataset name: it has more than one `@`, an empty part, or is reserved for parameters.",
    ),
    code(
        "catalog::overlapping-locations",
        "Two datasets have the same location, or one is inside the other, and a node writes one of them: what it writes would replace the other's data. Give each a location of its own, or make them views of one dataset. Nor can a dataset be where `flow` keeps its own files, or be written over the project's.",
    ),
    code(
        "catalog::pattern",
        "A name with `{` is a pattern, and this one is invalid: a brace is missing, or what is between the braces is not a plain word.",
    ),
    code("catalog::several-catch-alls", "Two patterns match every name, so that one of them would never be used."),
    code(
        "catalog::unknown-credentials",
        "An entry refers to credentials that no `credentials.yml` of the project defines.",
    ),
    code(
        "catalog::unknown-dataset",
        "A dataset is named that is not in the catalog, and no pattern matches. Fix the name, or add an entry.",
    ),
    code(
        "catalog::unknown-placeholder",
        "An entry of a pattern uses a `{placeholder}` that the pattern's name does not have.",
    ),
    code("catalog::version", "An entry has the key `version`, which Kedro ignores too. Write `versioned: true`."),
    code(
        "command::bad-command",
        "A `command` node lacks its command, uses a name that is no input or output of it, or has inputs and outputs that it cannot have: Arrow on stdin and stdout is for one table each, and partitions are written through a view as a table.",
    ),
    code(
        "command::value",
        "A parameter or variable of a program is infinite or no number, which programs write in different ways. Pass it as a string.",
    ),
    code(
        "compile::answers-not-kept",
        "A node asks a service about the rows of a table, which is saved at its end, and the folder of its `cache` is on the disk of one task. An attempt that is stopped would pay for all rows again. Mount a volume that holds the folder, or cut the table with `bucketize`.",
    ),
    code(
        "compile::blank",
        "A value that would be written into a workflow holds `{{`, which Argo replaces. Put it into a file of the project.",
    ),
    code(
        "compile::divided-group",
        "The nodes of a fuse group cannot be one task, since a node outside of the group runs between them: the tasks would wait for each other. The group is divided.",
    ),
    code(
        "compile::fuse-tags",
        "A node is fused with others when it has the tag `argowf.fuse` and one tag `argowf.fuse-group.NAME`. The message says which it has.",
    ),
    code(
        "compile::in-memory",
        "A dataset in memory would cross from one task to another. Give it a path in the catalog, or put both nodes into one fuse group.",
    ),
    code("compile::lint", "What would be written is not a workflow that Argo accepts: this is a bug in `flow`."),
    code(
        "compile::no-partitions",
        "A node asks for shards and does not work partition by partition. Remove `shards` from its `resources`.",
    ),
    code(
        "compile::not-shared",
        "A dataset is where only one task reaches it. Give it a path on an object store or on a volume that all tasks share.",
    ),
    code(
        "compile::one-node",
        "The target is the shards of one node, which is what `flow compile k8s-job` writes. Select one that works partition by partition.",
    ),
    code(
        "compile::too-large",
        "A workflow is larger than what a cluster stores in one object. Fuse nodes, or compile parts of the project.",
    ),
    code(
        "config::duplicate-alias",
        "A mapping has two spellings of one key (`path` and `filepath`). Keep one of them.",
    ),
    code(
        "config::duplicate-name",
        "Two files of one folder define the same name. Keep one, or move one to an environment.",
    ),
    code("config::file-too-large", "A file is too large to be a configuration. Data belongs in a dataset."),
    code(
        "config::folder-cycle",
        "A link in a folder of configuration leads to one of its parent folders. It is not followed; remove it.",
    ),
    code("config::missing-key", "A mapping lacks a key that it must have. Add it."),
    code(
        "config::no-project",
        "Neither the folder nor a parent folder has a `catalog.yml`, or a `conf/base` as in Kedro.",
    ),
    code("config::out-of-range", "A number is outside the range that its key accepts. The message names the range."),
    code(
        "config::params",
        "An item of `--params` cannot be read: it needs the form `key=value`, and a value with commas needs quotes or brackets.",
    ),
    code(
        "config::secret-in-text",
        "A secret is the value of a key that is shown in logs, lists or graphs. Move it to a key that is meant for secrets, or to `credentials.yml`.",
    ),
    code("config::unknown-environment", "There is no folder `conf/<name>` for the requested environment."),
    code(
        "config::unknown-key",
        "A mapping has an unknown key, most often a typo. Fix or remove it. Keys that begin with `x-` are free for notes and anchors.",
    ),
    code(
        "config::unknown-parameter",
        "A parameter that `--params` sets is in no file of the project, and no `${runtime_params:…}` refers to it: most often a typo. Correct the name, or write `+name=value` to add it.",
    ),
    code("config::unknown-word", "A value is not among those that its key accepts. The message lists them."),
    code(
        "config::unreadable",
        "A file or folder of the project could not be read. The message has the operating system's reason.",
    ),
    code(
        "config::wrong-type",
        "A value does not have the type that its key requires, such as a string in place of a number.",
    ),
    code(
        "data::bad-location",
        "A path or URL cannot be used: an unknown scheme, a URL without a bucket, or credentials that the store does not know.",
    ),
    code("data::bad-option", "An option of a dataset has an invalid value. The message names the accepted values."),
    code(
        "data::dialects-differ",
        "A dataset is written by one node and read by another, and its `save_args` write another dialect than its `load_args` read, so that the rows are not read back as they were written. As in pandas, each key counts in its own direction: give the option under both.",
    ),
    code(
        "data::ignored-option",
        "An option of `load_args` or `save_args` that the library of a Kedro type may know is not read by `flow`, so the result may differ. Remove it, fix its name, or check that it does not matter. For a type of `flow`'s own it is an error.",
    ),
    code(
        "data::unknown-type",
        "An entry of the catalog has a type that neither `flow` nor Kedro has. Fix the name; `flow ls types` lists them.",
    ),
    code(
        "dataset::unsupported-type",
        "A dataset has a type that Kedro knows and `flow` cannot read or write. `flow check` and `flow graph` work; a run that needs it does not start.",
    ),
    code(
        "embed::address",
        "The value of `base_url` is not a valid URL, or holds a password or a key. Write it in full and without them: `https://host/v1`.",
    ),
    code(
        "embed::dimensions",
        "A model has fewer dimensions than `dimensions` sets. Set a smaller number, or leave it out.",
    ),
    code(
        "embed::dtype",
        "The setting `dtype` asks for bytes where numbers are needed: `normalize`, `on_too_long: mean`, or a model that makes numbers only. Remove one of the two.",
    ),
    code(
        "embed::ignored-key",
        "A key of `model:` belongs to another provider, and has no effect. This is expected if an environment's overlay changes the provider.",
    ),
    code(
        "embed::request-field",
        "A key of `extra_body` or `rename` is one that the client sets itself or holds a secret that servers may log, or a header is not valid.",
    ),
    code("embed::timeout", "The `timeout` is zero, so no request can succeed. Set a positive duration."),
    code(
        "embed::unknown-provider",
        "The provider under `model:` does not exist. `flow ls providers` lists all providers.",
    ),
    code(
        "generate::invalid",
        "A key of the `model:` mapping of a `generate` node has a value that cannot work. The message says which, and what to write.",
    ),
    code(
        "generate::unchecked-keyword",
        "The schema under `response_format` has a keyword or a format that its draft of JSON Schema does not have. It is sent to the model, and no answer is checked against it. Correct the word, or remove it.",
    ),
    code("graph::bad-name", "A dataset's name in a pipeline is not a valid dataset name. Write `name` or `name@view`."),
    code(
        "graph::bare-name-beside-views",
        "Pipelines use a dataset both with and without a view, which would be two separate datasets. Use a view everywhere.",
    ),
    code(
        "graph::cycle",
        "Nodes depend on each other in a cycle, so none of them could start. Remove one of the dependencies shown.",
    ),
    code(
        "graph::duplicate-node",
        "Two nodes have the same name. Rename one of them, or include its pipeline under a namespace.",
    ),
    code("graph::duplicate-port", "A node assigns two datasets to one port of its function. Keep one of them."),
    code("graph::missing-port", "A node lacks an input or output that its function requires. Add it."),
    code(
        "graph::never-written",
        "A dataset is kept in memory only and no node writes it, so the nodes that read it would find it empty.",
    ),
    code(
        "graph::no-checkpoint",
        "A node confirms a dataset that has no checkpoint. Name one of type `incremental`, or leave `confirms:` out.",
    ),
    code(
        "graph::parameter-written",
        "A node has a parameter among its outputs. Parameters are read-only; write to a dataset.",
    ),
    code(
        "graph::reads-its-output",
        "A node reads and writes the same data, perhaps through two views. Write the new state to a dataset of its own.",
    ),
    code(
        "graph::shape-mismatch",
        "A dataset is not of the kind that the port of a function takes: a table, partitions, or a value. Use a view that fits, or add one to the catalog.",
    ),
    code(
        "graph::too-many-ports",
        "A node gives its function more inputs or outputs than it has. Remove some, or name the ports.",
    ),
    code(
        "graph::two-producers",
        "Two nodes write the same data, perhaps through two views. Give one of them another dataset.",
    ),
    code(
        "graph::unknown-dataset",
        "A pipeline names a dataset that is not in the catalog. Fix the name, or add the dataset; `type: memory` declares one that is kept in memory only.",
    ),
    code(
        "graph::unknown-function",
        "A node uses a function that does not exist. Fix the name, or use `placeholder` until it exists.",
    ),
    code("graph::unknown-node", "A node comes after one that does not exist. Fix the name, with its namespace."),
    code(
        "graph::unknown-parameter",
        "A pipeline names a parameter that is not in `parameters.yml`. Fix the path, or add the parameter.",
    ),
    code("graph::unknown-port", "A node names an input or output that its function does not have. Fix the name."),
    code(
        "graph::views-apart",
        "Views of one dataset have different locations, so what is written through one is not read through another. Give them one path.",
    ),
    code(
        "interpolation::arguments",
        "A resolver such as `${globals:…}` has too few, too many or wrong arguments, or is used in a file where it is not supported.",
    ),
    code(
        "interpolation::cycle",
        "References form a cycle. The message names every step; give one of them a value of its own.",
    ),
    code(
        "interpolation::missing-key",
        "A reference names a key that does not exist: a typo, a key of another file (use `${globals:…}` or `${params:…}`), or too many dots.",
    ),
    code(
        "interpolation::missing-value",
        "A reference leads to `???`, a mandatory value that has to be set in an environment or with `--params`.",
    ),
    code(
        "interpolation::missing-variable",
        "An environment variable is not set and has no default. Set it, or write `${oc.env:NAME,default}`. Under a secret's name this is an error only when a run needs the value.",
    ),
    code(
        "interpolation::syntax",
        "The text between `${` and `}` is not in the grammar. Values with spaces around `#` or `:`, or with other special characters, need quotes; `\\${` is a literal `${`.",
    ),
    code("interpolation::too-deep", "References are nested deeper than the limit."),
    code("interpolation::too-large", "References to references expand to more values than the limit."),
    code(
        "interpolation::unknown-resolver",
        "The word before the `:` in `${word:…}` is not a resolver. The message lists the resolvers.",
    ),
    code(
        "kedro::hooks",
        "A Kedro project has hooks, which are not run. What a node needs of them must be in its function.",
    ),
    code(
        "kedro::node",
        "The function of a node begins with `kedro:`, which is how nodes of a Kedro project are shown. In a pipeline of ours, write `python:package.module.function`.",
    ),
    code(
        "kedro::pipeline",
        "A pipeline of a Kedro project writes a dataset that another one writes too, so that they are not one graph. `--pipeline` names the one that is meant.",
    ),
    code(
        "kedro::project",
        "A Kedro project cannot be loaded: its settings, its configuration or its pipelines are wrong. The message is Python's, with the file and line in the project.",
    ),
    code(
        "kedro::unavailable",
        "A Kedro project is loaded by its own code, and there is no Python with Kedro and the packages of the project. Set `--python`, activate a virtual environment, or create `.venv` in the project.",
    ),
    code(
        "node::answers-not-kept",
        "A node asks a service about the rows of a table, which is saved at its end, and its `cache` keeps no answers. A run that is stopped before the end would pay for all rows again. Set `mode: readwrite`, or cut the table with `bucketize`.",
    ),
    code(
        "node::bad-columns",
        "The columns of a node's input do not fit its function. The message names the one that is missing or in the way.",
    ),
    code(
        "node::not-divisible",
        "The flag `--shard` selects some of the partitions of a node, and this node has none, keeps them in memory, or reads all of what \
         another selected node writes. Run it without `--shard`, before or after the shards.",
    ),
    code(
        "node::placeholder",
        "A node uses the function `placeholder`, which represents code that is still to be written and cannot run.",
    ),
    code(
        "node::value-from-data",
        "A function needs a value before the run starts, and a dataset was given. Pass a parameter: `params:…`.",
    ),
    code(
        "online::dataset",
        "A dataset that no node writes is missing or cannot be read, as `flow check --online` found by opening it. The message has the reason.",
    ),
    code(
        "online::provider",
        "A provider did not respond as expected to the request of `flow check --online`. The message has the reason.",
    ),
    code("pipeline::idle-node", "A node has neither inputs nor outputs, so that it would have no effect."),
    code("pipeline::include-cycle", "Pipeline files include each other in a cycle, or are nested too deep."),
    code(
        "pipeline::include-name",
        "An include maps an input, output or parameter that the included pipeline does not have.",
    ),
    code(
        "pipeline::name",
        "A name of a node, a tag or a namespace contains a character that selections and file names do not allow.",
    ),
    code("pipeline::too-many-nodes", "Includes of includes add up to more nodes than the limit."),
    code("pipeline::unknown-include", "A pipeline includes one that has no file under `pipelines/`."),
    code(
        "python::function",
        "A Python function cannot be imported, or does not take the inputs of its node. The message is Python's, with the file and line in the project; `flow check --no-python` leaves functions out.",
    ),
    code(
        "python::name",
        "The name of a Python function is `python:package.module.function`: a module that can be imported, and a function in it.",
    ),
    code(
        "python::partitions",
        "A Python function gets one partition at a time where one dataset with partitions comes in, one goes out, and all other inputs are parameters. Otherwise it gets whole tables and gives whole tables.",
    ),
    code(
        "python::unavailable",
        "There is no Python that can run the project's functions. Set `--python`, activate a virtual environment, or create `.venv` in the project.",
    ),
    code("python::value", "A parameter of a Python function is infinite or no number, which cannot be passed to it."),
    code(
        "secret::literal-key",
        "A shared file contains a string that looks like a live key. Put it into an environment variable and write `${oc.env:NAME}`, or into `credentials.yml`. If it was ever shared, revoke it.",
    ),
    code(
        "secret::similar-name",
        "A key is one typo away from a name of a secret, as `api_kye` from `api_key`. Its value is treated as a secret: it is not shown, and masked wherever it appears. Correct the name, or choose one that is less like it.",
    ),
    code("selection::unknown-dataset", "A selection names a dataset that no node reads or writes. Fix the name."),
    code("selection::unknown-namespace", "A selection names a namespace that no node is in. Fix the name."),
    code(
        "selection::unknown-node",
        "A selection names a node that does not exist, or that the selected pipelines do not have. Fix the name.",
    ),
    code(
        "selection::unknown-pipeline",
        "A selection names a pipeline that does not exist. A pipeline is a file under `pipelines/`.",
    ),
    code("selection::unknown-tag", "A selection names a tag that no node has. Fix the name."),
    code("spark::bad-settings", "The keys under `spark:` of a node contradict each other. The message says which."),
    code(
        "sql::bad-query",
        "The query of a `sql` node is missing, given twice, or unreadable, or uses a parameter that the node does not pass.",
    ),
    code(
        "yaml::ambiguous-scalar",
        "An unquoted word has another meaning in YAML 1.1 (and so in Kedro): `yes`, `on`, `010`, `1:30`. `flow` reads YAML 1.2. Put it in quotes, or write the value that is meant.",
    ),
    code(
        "yaml::complex-key",
        "A key of a mapping is a list or a mapping. Most often it was meant as a placeholder, as in `{name}_data`, and lacks quotes.",
    ),
    code(
        "yaml::duplicate-key",
        "A mapping has the same key twice, so that one of the values would be lost. Keep one of them.",
    ),
    code("yaml::encoding", "A file is not UTF-8. Save it as UTF-8."),
    code(
        "yaml::merge",
        "The merge key `<<` takes a mapping, or a list of mappings, most often through an alias: `<<: *base`.",
    ),
    code(
        "yaml::not-a-mapping",
        "A file contains a list or a scalar where a mapping (`name: value` lines) is expected.",
    ),
    code(
        "yaml::recursive-alias",
        "An alias is inside the value that its anchor names, which would make that value infinite.",
    ),
    code(
        "yaml::several-documents",
        "A file contains several documents, separated by `---`. Only one per file is supported.",
    ),
    code(
        "yaml::syntax",
        "The file is not valid YAML. The message names the position and the usual cause; `${…}` inside brackets or with a `: ` in it needs quotes.",
    ),
    code("yaml::tag", "A tag such as `!secret` is not one of YAML's own, or its value does not fit it."),
    code("yaml::too-deep", "Lists and mappings are nested deeper than the limit."),
    code("yaml::too-many-aliases", "Anchors inside anchors expand to more values than the limit."),
    code(
        "yaml::unknown-anchor",
        "An alias `*name` has no anchor `&name` before it in the same file. Anchors do not cross files.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_unique_and_well_spelt() {
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} is sorted before {}", pair[0].code, pair[1].code);
        }
        for Code { code, explain } in CODES {
            let (area, name) = code.split_once("::").expect(code);
            for part in [area, name] {
                let kebab = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                assert!(kebab && !part.is_empty(), "{code}");
            }
            assert!(explain.ends_with('.') && explain.starts_with(char::is_uppercase), "{code}: {explain}");
        }
    }
}
