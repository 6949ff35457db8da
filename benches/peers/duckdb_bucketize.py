"""The first half of the job in DuckDB: one SQL statement that writes hive partitions."""

import common
import duckdb


def work(arguments):
    con = duckdb.connect()
    # The defaults refuse to write this many files at once, or keep every one of them open.
    con.execute("SET partitioned_write_max_open_files = 100")
    con.execute(
        f"""
        COPY (
            SELECT id, category, name,
                   left(coalesce(category, '') || coalesce(name, ''), {common.MAX_CHARS}) AS text_to_embed,
                   (row_number() OVER (ORDER BY id) - 1) // {arguments.batch} AS bucket
            FROM read_parquet('{arguments.input}')
        ) TO '{arguments.output}' (FORMAT parquet, COMPRESSION {arguments.compression}, PARTITION_BY (bucket), OVERWRITE_OR_IGNORE)
        """
    )
    return con.execute(f"SELECT count(*) FROM read_parquet('{arguments.output}/**/*.parquet')").fetchone()[0]


if __name__ == "__main__":
    common.main(work, __doc__)
