//! Types that Kedro has and `flow` has not: the graph can be drawn and checked with them. Only a Python function can read and write
//! such a dataset, with Kedro's own class; `flow` knows its files and keeps a receipt beside them.

use async_trait::async_trait;

use super::{
    DataError, Dataset, DatasetInfo, DatasetState, External, Stores,
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
        let overwrite = self.entry.get("overwrite").is_some_and(|node| node.value == crate::config::Value::Bool(true));
        Ok(Occupants::file(location.shown().to_owned(), true, overwrite))
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
        let Some(location) = &self.location else { return Ok(()) };
        let place = stores.open(location)?;
        let digest = place.list().await?.digest();
        Receipt { work: receipt, digest, content: None, schema: None, pending: None }.write(&place).await
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
