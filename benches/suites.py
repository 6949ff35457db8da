"""What is measured: the jobs, who does them, and what `flow` is held to.

A suite has a number of rows, how they are cut and embedded, the options of the mock API (None: no API), and contenders; the
first is the measure of all others. `goals` are held against medians: see `page.py`. `note` says where the time goes.
"""

DIMENSIONS = 100
BATCH = 500
WORKERS = 10
# Same answer whatever the texts, at once and without limits: a server that costs next to nothing.
INSTANT = ["--canned"]

SUITES = {
    "bucketize": {
        "title": "Cutting a table into buckets",
        "about": f"A table in one parquet file, in no order, becomes hive directories of {BATCH} rows each, ordered by id; "
        "every contender writes zstd.",
        "rows": 1_000_000,
        "contenders": ["flow", "duckdb", "polars", "spark"],
        "compression": "zstd",
        # Spark takes as long as all others together, again and again.
        "once": ["spark"],
        "goals": [("times", "best", 3), ("memory", "duckdb", 0.5)],
        "note": "Where the time goes, of `flow`'s processor time (perf): a quarter is zstd, a quarter the system's, most of it for "
        "making folders and files, a tenth copying, a tenth reading, another what does not fit into memory; the rest is sorting, "
        "checksums and the making of 2,000 small files. Compressing and making folders alone are most of a third of DuckDB's time.",
    },
    "bucketize-snappy": {
        "title": "Cutting a table into buckets, lightly compressed",
        "about": "The same with snappy, which `flow`, DuckDB and Spark choose for such files when nobody says otherwise.",
        "rows": 1_000_000,
        "contenders": ["flow", "duckdb", "polars"],
        "compression": "snappy",
        "goals": [("times", "best", 3), ("memory", "duckdb", 0.5)],
        "note": "A quarter of the processor time is snappy's compressor, a fifth the system's, most of it for making folders and "
        "files, a tenth each reading, sorting, what does not fit into memory, and copying. Two cores have a second and a half of "
        "processor time in a third of DuckDB's time, and `flow` takes two to two and a half.",
    },
    "bucketize-10m": {
        "title": "Cutting ten million rows into buckets",
        "about": "The same, with zstd again, at ten times the size: 20,000 partitions.",
        "rows": 10_000_000,
        "contenders": ["flow", "duckdb", "polars"],
        "compression": "zstd",
        "repeats": 1,
        "goals": [("times", "best", 2), ("megabytes", None, 600), ("growth", "bucketize", 11)],
        "note": "Of ten million rows nearly all go to the disk once more while they are sorted, of a million not half.",
    },
    "bucketize-10m-snappy": {
        "title": "Cutting ten million rows into buckets, lightly compressed",
        "about": "The same with snappy.",
        "rows": 10_000_000,
        "contenders": ["flow", "duckdb", "polars"],
        "compression": "snappy",
        "repeats": 1,
        "goals": [("times", "best", 2), ("megabytes", None, 600), ("growth", "bucketize-snappy", 11)],
    },
    "embed": {
        "title": "The whole job, through an API that answers at once",
        "about": f"Bucketize, embed and save: {BATCH} rows a partition and a request, {WORKERS} at a time, {DIMENSIONS} "
        "dimensions. The API has no latency and no limit, so what is measured is overhead. It runs on the same cores.",
        "rows": 100_000,
        "api": INSTANT,
        "contenders": ["flow", "asyncio", "kedro", "daft"],
        "once": ["kedro", "daft"],
        "goals": [("times", "kedro", 20), ("times", "asyncio", 12)],
    },
    "embed-wide": {
        "title": "The same with 1,536 dimensions",
        "about": "2,000 rows a partition and a request.",
        "rows": 100_000,
        "batch": 2000,
        "dimensions": 1536,
        "api": INSTANT,
        "contenders": ["flow", "asyncio"],
        "goals": [("times", "asyncio", 8)],
        "note": "Where the time goes: two fifths is the system's, for copying 614 MB of vectors into files twice, once into the "
        "cache and once into the dataset, and for pages of memory; the rest is receiving answers, base64 and checksums. "
        "Memory: partitions in work together keep to half of `--memory-limit`, here the default of 512 MiB.",
    },
    "embed-wide-limited": {
        "title": "The same within 256 MB",
        "about": "With `--memory-limit 256MB`. The program itself counts for about 80 MB more.",
        "rows": 100_000,
        "batch": 2000,
        "dimensions": 1536,
        "api": INSTANT,
        "memory_limit": "256MB",
        "contenders": ["flow"],
        "goals": [("megabytes", None, 336)],
    },
    "bucketize-limited": {
        "title": "Cutting ten million rows within 256 MB",
        "about": "With `--memory-limit 256MB` and snappy. The program itself counts for about 80 MB more.",
        "rows": 10_000_000,
        "compression": "snappy",
        "memory_limit": "256MB",
        "contenders": ["flow"],
        "repeats": 1,
        "goals": [("megabytes", None, 336)],
    },
    "limited": {
        "title": "The whole job, through an API with a limit",
        "about": "600 requests a minute at most and a burst of one second, 50 ms an answer; more is refused with 429 and "
        "`Retry-After`. 200 requests are needed: no client can be faster than 19 seconds.",
        "rows": 100_000,
        "api": ["--latency-ms", "50", "--rpm", "600", "--burst-seconds", "1"],
        "contenders": ["flow", "asyncio", "kedro"],
    },
    "local": {
        "title": "Without an API",
        "about": "The whole job with the providers that compute here: `static`, the built-in model with 128 dimensions, and "
        "`hash`, which measures everything but the embedding. model2vec is the same model in Python.",
        "rows": 1_000_000,
        "dimensions": 128,
        "contenders": ["flow static", "flow hash", "model2vec"],
        "once": ["model2vec"],
        "goals": [("texts a core", "flow hash", 500_000)],
        "note": "Texts a core come from the difference between the processor times of `static` and `hash`, so they move with both: "
        "600,000 were measured on the same machine at a quieter hour. Of `static`'s processor time (perf) a fifth cuts texts into "
        "pieces of words and an eighth sums their vectors; of 128 numbers a row more is written, too, than of `hash`'s 100.",
    },
    "seed": {
        "title": "Twelve million texts",
        "about": "24,000 partitions, through the API that answers at once, and read back as one table by a query, in one "
        "run; and the same command again, with nothing to do.",
        "rows": 12_000_000,
        "api": INSTANT,
        "contenders": ["flow", "flow unchanged"],
        "repeats": 1,
        "goals": [("seconds", "flow", 180), ("megabytes", "flow", 600), ("seconds", "flow unchanged", 1)],
        "note": "Memory: the peak is the query over 24,000 files at the end; cutting and embedding stay below it. Nothing to do: "
        "most of it is system calls for 48,000 folders.",
    },
    "again": {
        "title": "Running again",
        "about": "When nothing has changed; and when all outputs are gone, but the cache has every vector.",
        "rows": 200_000,
        "api": ["--latency-ms", "20"],
        "contenders": ["flow", "flow unchanged", "flow from cache"],
    },
    "memory": {
        "title": "Memory and rows",
        "about": "Peak memory of bucketize alone, and of bucketize and embed with `hash`, at three sizes.",
        "rows": [1_000_000, 3_000_000, 12_000_000],
        "contenders": ["flow bucketize", "flow hash"],
        "repeats": 1,
        "goals": [("flat", "flow bucketize", 0.15), ("flat", "flow hash", 0.15)],
        "note": "Sorted runs stay in memory up to a share of `--memory-limit`, and the more of them lie on the disk, the fewer "
        "stay: merging takes a few batches of each. What still grows is what is known of each partition, about a kilobyte. The "
        "same run differs by a tenth from time to time.",
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
