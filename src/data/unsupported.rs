//! Types that Kedro has and `flow` has not: the graph can be drawn and checked with them, a run cannot use them.

use async_trait::async_trait;

use super::{DataError, Dataset, DatasetInfo, DatasetState, Stores};

/// A dataset that is known by name only.
#[derive(Debug)]
pub(super) struct UnsupportedDataset {
    /// What is known without I/O; `supported` is false.
    pub(super) info: DatasetInfo,
}

#[async_trait]
impl Dataset for UnsupportedDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    async fn state(&self, _stores: &Stores) -> Result<DatasetState, DataError> {
        let DatasetInfo { name, type_name, .. } = &self.info;
        Err(DataError::unsupported(name, format!("cannot be opened: flow has no type `{type_name}`")))
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
