"""The first half of the job in Spark, on one machine: numbered over a window, joined to nothing, written by bucket."""

import common
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F


def work(arguments):
    spark = (
        SparkSession.builder.master("local[*]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "8g")
        .config("spark.sql.shuffle.partitions", "8")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    text = F.concat(*[F.coalesce(F.col(name), F.lit("")) for name in ("category", "name")])
    number = F.row_number().over(Window.orderBy("id")) - F.lit(1)
    (
        spark.read.parquet(str(arguments.input))
        .select("id", "category", "name", F.substring(text, 1, common.MAX_CHARS).alias("text_to_embed"))
        .withColumn("bucket", F.floor(number / arguments.batch))
        .write.partitionBy("bucket")
        .mode("overwrite")
        .option("compression", arguments.compression)
        .parquet(str(arguments.output))
    )
    rows = spark.read.parquet(str(arguments.output)).count()
    spark.stop()
    return rows


if __name__ == "__main__":
    common.main(work, __doc__)
