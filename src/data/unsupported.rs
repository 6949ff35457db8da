//! Types that Kedro has and `flow` has not: the graph can be drawn and checked with them. Only a Python function can read and write
//! such a dataset, with Kedro's own class; `flow` knows its files and keeps a receipt beside them.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    DataError, Dataset, DatasetInfo, DatasetState, Document, External, PartitionSource, Stores, TableSource,
    listing::Listing,
    location::Location,
    ownership::Occupants,
    receipt::{Receipt, state_of},
};
use crate::{config::Node, model::Fingerprint};

/// A dataset that is known by name only.
#[derive(Debug)]
pub(super) struct UnsupportedDataset {
    /// What is known without I/O; `supported` is false.
    pub(super) info: DatasetInfo,
    /// Its entry in the catalog.
    pub(super) entry: Node,
    /// Its file or folder, where it has one that `flow` can list.
    pub(super) location: Option<Location>,
    /// True where each write makes a version of its own and replaces nothing.
    pub(super) versioned: bool,
    /// False for one that Kedro cannot open here either.
    pub(super) external: bool,
    /// True in a Kedro project, whose entries have no keys of ours.
    pub(super) of_kedro: bool,
    /// The same as `flow` reads it, where it can.
    pub(super) native: Option<Arc<dyn Dataset>>,
}

impl UnsupportedDataset {
    fn cannot(&self) -> DataError {
        let DatasetInfo { name, type_name, .. } = &self.info;
        DataError::unsupported(name, format!("cannot be opened: flow has no type `{type_name}`"))
    }
}

#[async_trait]
impl Dataset for UnsupportedDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }

    fn written_as(&self) -> Fingerprint {
        self.entry.fingerprint()
    }

    async fn state(&self, stores: &Stores) -> Result<DatasetState, DataError> {
        if !self.external {
            return Err(self.cannot());
        }
        let Some(location) = &self.location else {
            // A database, say: what is in it is not known.
            return Ok(DatasetState { digest: Some(self.entry.fingerprint()), ..DatasetState::default() });
        };
        let place = stores.open(location)?;
        let listing = stores.list(&place).await?;
        Ok(state_of(&place, &listing).await?.0)
    }

    async fn occupants(&self, stores: &Stores, _columns: Option<&[String]>) -> Result<Occupants, DataError> {
        let Some(location) = self.location.as_ref().filter(|_| self.external && !self.versioned) else {
            return Ok(Occupants::default());
        };
        let place = stores.open(location)?;
        let listing = stores.list(&place).await?;
        if *listing == Listing::Absent || Receipt::read(&place).await?.is_some_and(|r| r.digest == listing.digest()) {
            return Ok(Occupants::default());
        }
        let mode = self.entry.get("save_args").and_then(|args| args.get("mode")).and_then(Node::as_text);
        let overwrite = mode == Some("overwrite")
            || self.entry.get("overwrite").is_some_and(|node| node.value == crate::config::Value::Bool(true));
        if self.of_kedro && !overwrite {
            return Ok(Occupants::unfit(format!(
                "cannot be written: flow did not write what is at {}\nhelp: take it over with `flow accept`, if `kedro run` wrote it \
                 and it is up to date; otherwise move it away",
                location.shown()
            )));
        }
        Ok(Occupants::file(location.shown().to_owned(), true, overwrite))
    }

    async fn accept(&self, stores: &Stores, receipt: Fingerprint) -> Result<(), DataError> {
        match &self.location {
            Some(location) => Receipt::accept(&stores.open(location)?, receipt).await,
            None => Ok(()),
        }
    }

    fn as_table_source(&self) -> Option<&dyn TableSource> {
        self.native.as_ref()?.as_table_source()
    }

    fn as_partition_source(&self) -> Option<&dyn PartitionSource> {
        self.native.as_ref()?.as_partition_source()
    }

    fn as_document(&self) -> Option<&dyn Document> {
        self.native.as_ref()?.as_document()
    }

    fn as_external(&self) -> Option<&dyn External> {
        self.external.then_some(self)
    }
}

#[async_trait]
impl External for UnsupportedDataset {
    fn entry(&self) -> &Node {
        &self.entry
    }

    async fn written(&self, stores: &Stores, receipt: Fingerprint) -> Result<(), DataError> {
        self.accept(stores, receipt).await
    }
}

/// Types of Kedro's own packages, to distinguish a typo from a type that `flow` lacks.
pub(super) const KEDRO_TYPES: &[&str] = &[
    "api.APIDataset",
    "biosequence.BioSequenceDataset",
    "dask.CSVDataset",
    "dask.ParquetDataset",
    "databricks.ManagedTableDataset",
    "email.EmailMessageDataset",
    "geopandas.GenericDataset",
    "geopandas.GeoJSONDataset",
    "holoviews.HoloviewsWriter",
    "huggingface.HFDataset",
    "huggingface.HFTransformerPipelineDataset",
    "ibis.FileDataset",
    "ibis.TableDataset",
    "json.JSONDataset",
    "matlab.MatlabDataset",
    "matplotlib.MatplotlibDataset",
    "matplotlib.MatplotlibWriter",
    "networkx.GMLDataset",
    "networkx.GraphMLDataset",
    "networkx.JSONDataset",
    "openxml.DocxDataset",
    "pandas.CSVDataset",
    "pandas.DeltaSharingDataset",
    "pandas.DeltaTableDataset",
    "pandas.ExcelDataset",
    "pandas.FeatherDataset",
    "pandas.GBQQueryDataset",
    "pandas.GBQTableDataset",
    "pandas.GenericDataset",
    "pandas.HDFDataset",
    "pandas.JSONDataset",
    "pandas.ParquetDataset",
    "pandas.SQLQueryDataset",
    "pandas.SQLTableDataset",
    "pandas.XMLDataset",
    "partitions.PartitionedDataset",
    "pickle.PickleDataset",
    "pillow.ImageDataset",
    "plotly.HTMLDataset",
    "plotly.JSONDataset",
    "plotly.PlotlyDataset",
    "polars.CSVDataset",
    "polars.EagerPolarsDataset",
    "polars.LazyPolarsDataset",
    "redis.PickleDataset",
    "snowflake.SnowparkTableDataset",
    "spark.DeltaTableDataset",
    "spark.GBQQueryDataset",
    "spark.SparkDataset",
    "spark.SparkDatasetV2",
    "spark.SparkHiveDataset",
    "spark.SparkJDBCDataset",
    "spark.SparkStreamingDataset",
    "svmlight.SVMLightDataset",
    "tensorflow.TensorFlowModelDataset",
    "text.TextDataset",
    "tracking.JSONDataset",
    "tracking.MetricsDataset",
    "video.VideoDataset",
    "yaml.YAMLDataset",
];
