//! Whose words an entry is written in: the options and defaults of a type are those of its library.

/// The library that a type belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    /// The types of `flow`.
    Flow,
    /// pandas, and Dask, which hands everything on to it.
    Pandas,
    Polars,
    Spark,
    /// Any other of Kedro's packages.
    Kedro,
}

impl Library {
    /// The library of the word under `type:`.
    pub(super) fn of(word: &str) -> Self {
        let short = ["kedro_datasets.", "kedro.io.", "kedro.extras.datasets.", "kedro_datasets_experimental."]
            .iter()
            .find_map(|prefix| word.strip_prefix(prefix))
            .unwrap_or(word);
        match short.split_once('.').map(|(package, _)| package) {
            Some("pandas" | "dask") => Self::Pandas,
            Some("polars") => Self::Polars,
            _ if short.contains("Spark") => Self::Spark,
            None if !short.to_ascii_lowercase().contains("dataset") => Self::Flow,
            _ => Self::Kedro,
        }
    }

    /// True for every library but `flow`.
    pub(super) fn is_foreign(self) -> bool {
        self != Self::Flow
    }

    /// As displayed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Pandas => "pandas",
            Self::Polars => "polars",
            Self::Spark => "Spark",
            Self::Kedro => "Kedro",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_written_in_the_words_of_its_library() {
        for (word, library) in [
            ("csv", Library::Flow),
            ("partitioned", Library::Flow),
            ("pandas.CSVDataset", Library::Pandas),
            ("kedro_datasets.pandas.CSVDataSet", Library::Pandas),
            ("dask.CSVDataset", Library::Pandas),
            ("polars.CSVDataset", Library::Polars),
            ("spark.SparkDataset", Library::Spark),
            ("matrix_gcp_datasets.gcp.LazySparkDataset", Library::Spark),
            ("partitions.PartitionedDataset", Library::Kedro),
            ("MemoryDataset", Library::Kedro),
        ] {
            assert_eq!(Library::of(word), library, "{word}");
        }
    }
}
