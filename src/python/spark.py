"""Computes a table with a Spark that exists, for `flow`: reads Parquet files, writes Parquet files into a folder of the run.

What is written is sorted from the first part to the last, so that `flow` reads it in the order of names. Rows have no numbers here:
one number for all rows would need one task that sees them all.
"""

import atexit
import os
import socket
import urllib.parse

#: Settings that decide what values mean; a node's `config:` wins over them.
MEANING = {
    "spark.sql.caseSensitive": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # Parquet of today, and not the type of Impala.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}
opened = {}


def stop():
    """Ends the sessions, and with them what they started."""
    while opened:
        opened.popitem()[1].stop()


atexit.register(stop)


def check():
    """Imports PySpark, so that it is known before a run whether it is there."""
    need("pyspark", "the engine `spark`")  # noqa: F821 - the worker gives it, and `Problem`


def session(settings):
    """The session of these settings; nodes that have the same ones share it."""
    from pyspark.sql import SparkSession

    key = repr(sorted(settings.items(), key=str))
    if key in opened:
        return opened[key]
    stop()
    builder = SparkSession.builder
    if settings.get("remote"):
        reach(settings["remote"])
        builder = builder.remote(settings["remote"])
    else:
        builder = builder.appName("flow")
        if settings.get("master"):
            builder = builder.master(settings["master"])
        if settings.get("master") or not os.environ.get("SPARK_REMOTE"):
            # Its lines are shown as those of the node.
            builder = builder.config("spark.ui.showConsoleProgress", "false")
    for name, value in settings["config"].items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    for name, value in MEANING.items():
        if name not in settings["config"]:
            spark.conf.set(name, value)
    if hasattr(spark, "_jsc"):
        spark.sparkContext.setLogLevel("ERROR")
    be_quiet()
    opened[key] = spark
    return spark


def be_quiet():
    """Errors are told once, by `flow`; PySpark would also log them, with the frames of its server."""
    try:
        from pyspark.logger import PySparkLogger
    except ImportError:
        # Before version 4 it did not.
        return
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel("CRITICAL")


def reach(remote):
    """Says at once that no server listens: PySpark tries again for ten minutes without a word."""
    # Behind a proxy only gRPC knows the way.
    if not remote.startswith("sc://") or any(os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy")):
        return
    # What follows the address may be a token.
    address = urllib.parse.urlsplit(remote)
    try:
        host, port = address.hostname or "", address.port or 15002
    except ValueError:
        # PySpark says what is wrong with it.
        return
    try:
        socket.create_connection((host, port), 30).close()
    except OSError as error:
        raise Problem(  # noqa: F821
            "no Spark Connect server listens at `sc://%s:%d`: %s\nhelp: start it there, as with Spark's `sbin/start-connect-server.sh`, or "
            "name another one with `spark: {remote: sc://HOST:PORT}`" % (host, port, error)
        ) from None


def quoted(name):
    return "`%s`" % name.replace("`", "``")


def read(spark, table):
    """A table of these files. Columns of their directories have the types that `flow` gives them."""
    from pyspark.sql import functions

    reader = spark.read
    if table["base"] is not None:
        reader = reader.option("basePath", table["base"])
    frame = reader.parquet(*table["files"])
    for name, kind in table["partitions"]:
        frame = frame.withColumn(name, functions.col(quoted(name)).cast(kind))
    return frame


def run(work):
    """Does one piece of work: a query over named tables, or the sorting of one table by some of its columns."""
    from pyspark.errors import PySparkException

    try:
        compute(work)
    except PySparkException as error:
        # The frames of PySpark and of its server say nothing about the query or the table.
        raise Problem(str(error).partition("\n\nJVM stacktrace:")[0].strip()) from None  # noqa: F821


def compute(work):
    """The same; errors are PySpark's."""
    from pyspark.sql import functions

    spark = session(work["spark"])
    tables = {table["name"]: read(spark, table) for table in work["tables"]}
    if work["query"] is not None:
        for name, frame in tables.items():
            frame.createOrReplaceTempView(quoted(name) if not name.isidentifier() else name)
        try:
            write(spark.sql(work["query"]), work["out"])
        finally:
            for name in tables:
                spark.catalog.dropTempView(name)
        return
    (frame,) = tables.values()
    columns = [functions.col(quoted(name)) for name in work["columns"]]
    order = [column.asc_nulls_last() for column in columns]
    # Each task sorts one range of the ids; all of them together are the sorted table.
    parts = int(spark.conf.get("spark.sql.shuffle.partitions"))
    write(frame.select(*columns).repartitionByRange(parts, *order).sortWithinPartitions(*order), work["out"])


def write(frame, folder):
    frame.write.mode("error").option("compression", "snappy").parquet(folder)
