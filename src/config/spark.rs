//! `spark:` of a node: which Spark computes its table.

use super::fields::{Field, Kind};

/// Keys of `spark:`.
pub static SPARK_FIELDS: &[Field] = &[
    Field::optional("remote", Kind::Text, "", "The address of a Spark Connect server, as `sc://host:15002`."),
    Field::optional(
        "master",
        Kind::Text,
        "",
        "The master of a cluster, as `spark://host:7077` or `yarn`; not with `remote`.",
    ),
    Field::optional("config", Kind::Map(&Kind::Any), "", "Spark's own settings, as `spark.executor.memory: 8g`."),
];
