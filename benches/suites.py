"""The benchmark suites: jobs, contenders and targets.

A suite has a number of rows, how they are partitioned and embedded, the options of the mock API (None: no API), and
contenders; the first is the baseline of the others. `goals` are compared with medians: see `page.py`. `note` explains where
the time is spent.
"""

DIMENSIONS = 100
BATCH = 500
WORKERS = 10
# The same response for every request, without latency or limits: a server that costs next to nothing.
INSTANT = ["--canned"]

SUITES = {
    "bucketize": {
        "title": "Bucketize 1 M rows, zstd",
        "about": f"A table in one unordered parquet file becomes hive partitions of {BATCH} rows each, ordered by id; every "
        "contender writes zstd.",
        "rows": 1_000_000,
        "contenders": ["flow", "duckdb", "polars", "spark"],
        "compression": "zstd",
        # Spark takes as long as all others together.
        "once": ["spark"],
        "goals": [("times", "best", 3), ("memory", "duckdb", 0.5)],
        "note": "`flow`'s CPU time (perf): 25 % zstd, 25 % system time (mostly creating folders and files), 10 % each copying, "
        "reading and spilling; the rest is sorting, checksums and encoding 2,000 small files. Compression and creating folders "
        "alone take most of a third of DuckDB's time.",
    },
    "bucketize-snappy": {
        "title": "Bucketize 1 M rows, snappy",
        "about": "The same with snappy, the default of `flow`, DuckDB and Spark for such files.",
        "rows": 1_000_000,
        "contenders": ["flow", "duckdb", "polars"],
        "compression": "snappy",
        "goals": [("times", "best", 3), ("memory", "duckdb", 0.5)],
        "note": "CPU time: 25 % snappy, 20 % system time (mostly creating folders and files), 10 % each reading, sorting, spilling "
        "and copying. A third of DuckDB's time leaves 1.5 s of CPU time on two cores; `flow` needs 2 to 2.5 s.",
    },
    "bucketize-10m": {
        "title": "Bucketize 10 M rows, zstd",
        "about": "20,000 partitions.",
        "rows": 10_000_000,
        "contenders": ["flow", "duckdb", "polars"],
        "compression": "zstd",
        "repeats": 1,
        "goals": [("times", "best", 2), ("megabytes", None, 600), ("growth", "bucketize", 11)],
        "note": "Nearly all of ten million rows are spilled while they are sorted, and less than half of a million.",
    },
    "bucketize-10m-snappy": {
        "title": "Bucketize 10 M rows, snappy",
        "about": "20,000 partitions.",
        "rows": 10_000_000,
        "contenders": ["flow", "duckdb", "polars"],
        "compression": "snappy",
        "repeats": 1,
        "goals": [("times", "best", 2), ("megabytes", None, 600), ("growth", "bucketize-snappy", 11)],
    },
    "embed": {
        "title": "Bucketize and embed, API without latency",
        "about": f"Bucketize, embed and save: {BATCH} rows a partition and a request, {WORKERS} at a time, {DIMENSIONS} "
        "dimensions. The API has no latency and no limit, so this measures overhead. It runs on the same cores.",
        "rows": 100_000,
        "api": INSTANT,
        "contenders": ["flow", "asyncio", "kedro", "daft"],
        "once": ["kedro", "daft"],
        "goals": [("times", "kedro", 20), ("times", "asyncio", 12)],
    },
    "embed-wide": {
        "title": "Embed with 1,536 dimensions",
        "about": "2,000 rows a partition and a request.",
        "rows": 100_000,
        "batch": 2000,
        "dimensions": 1536,
        "api": INSTANT,
        "contenders": ["flow", "asyncio"],
        "goals": [("times", "asyncio", 8)],
        "note": "40 % is system time: 614 MB of vectors are written twice, to the cache and to the dataset, and memory is mapped; the "
        "rest is receiving responses, base64 and checksums. Memory: partitions in progress together reserve up to half of "
        "`--memory-limit`, here the default of 512 MiB.",
    },
    "embed-wide-limited": {
        "title": "Embed with 1,536 dimensions in 256 MB",
        "about": "With `--memory-limit 256MB`. The program itself takes about 80 MB more.",
        "rows": 100_000,
        "batch": 2000,
        "dimensions": 1536,
        "api": INSTANT,
        "memory_limit": "256MB",
        "contenders": ["flow"],
        "goals": [("megabytes", None, 336)],
    },
    "bucketize-limited": {
        "title": "Bucketize 10 M rows in 256 MB",
        "about": "With `--memory-limit 256MB` and snappy. The program itself counts for about 80 MB more.",
        "rows": 10_000_000,
        "compression": "snappy",
        "memory_limit": "256MB",
        "contenders": ["flow"],
        "repeats": 1,
        "goals": [("megabytes", None, 336)],
    },
    "limited": {
        "title": "Bucketize and embed, API with a rate limit",
        "about": "At most 600 requests a minute with a burst of one second, 50 ms latency; more is refused with 429 and "
        "`Retry-After`. 200 requests are needed, so no client can be faster than 19 seconds.",
        "rows": 100_000,
        "api": ["--latency-ms", "50", "--rpm", "600", "--burst-seconds", "1"],
        "contenders": ["flow", "asyncio", "kedro"],
    },
    "local": {
        "title": "Bucketize and embed, local providers",
        "about": "The providers that need no API: `static`, the built-in model with 128 dimensions, and `hash`, which measures "
        "everything but the embedding. model2vec is the same model in Python.",
        "rows": 1_000_000,
        "dimensions": 128,
        "contenders": ["flow static", "flow hash", "model2vec"],
        "once": ["model2vec"],
        "goals": [("texts a core", "flow hash", 500_000)],
        "note": "Texts per core are computed from the difference between the CPU times of `static` and `hash`, so they vary with both: "
        "600,000 were measured on the same machine when it was idle. Of `static`'s CPU time (perf), 20 % is tokenizing and 12 % "
        "summing vectors; it also writes 128 numbers per row, `hash` writes 100.",
    },
    "seed": {
        "title": "Bucketize and embed 12 M rows",
        "about": "24,000 partitions, API without latency, then one query over the result as a table, in one run; then the same "
        "command with nothing to do.",
        "rows": 12_000_000,
        "api": INSTANT,
        "contenders": ["flow", "flow unchanged"],
        "repeats": 1,
        "goals": [("seconds", "flow", 180), ("megabytes", "flow", 600), ("seconds", "flow unchanged", 1)],
        "note": "Peak memory is that of the final query over 24,000 files. With nothing to do, most of the time is system calls "
        "for 48,000 folders.",
    },
    "again": {
        "title": "Run again",
        "about": "With nothing changed, and with all outputs removed but every vector in the cache.",
        "rows": 200_000,
        "api": ["--latency-ms", "20"],
        "contenders": ["flow", "flow unchanged", "flow from cache"],
    },
    "memory": {
        "title": "Memory by number of rows",
        "about": "Peak memory of bucketize alone, and of bucketize and embed with `hash`, at three sizes.",
        "rows": [1_000_000, 3_000_000, 12_000_000],
        "contenders": ["flow bucketize", "flow hash"],
        "repeats": 1,
        "goals": [("flat", "flow bucketize", 0.15), ("flat", "flow hash", 0.15)],
        "note": "Sorted runs stay in memory up to a share of `--memory-limit`; the more runs are on disk, the fewer stay in memory, "
        "because merging needs a few batches of each. What still grows is the metadata of each partition, about one kilobyte. "
        "Repeated runs differ by up to 10 %.",
    },
}

# Contender → requirements file, script, and the package whose version is shown.
PEER = {
    "duckdb": ("duckdb", "duckdb_bucketize.py", "duckdb"),
    "polars": ("polars", "polars_bucketize.py", "polars"),
    "spark": ("spark", "spark_bucketize.py", "pyspark"),
    "asyncio": ("asyncio", "asyncio_openai.py", "openai"),
    "kedro": ("kedro", "kedro_pipeline.py", "kedro"),
    "daft": ("daft", "daft_embed.py", "daft"),
    "model2vec": ("model2vec", "model2vec_embed.py", "model2vec"),
}
