"""The first half of the job in Polars: sorted, numbered, and one file written for each bucket."""

import common
import polars as pl


def work(arguments):
    text = pl.concat_str("category", "name", ignore_nulls=True).str.slice(0, common.MAX_CHARS)
    table = (
        pl.scan_parquet(arguments.input)
        .select("id", "category", "name", text.alias("text_to_embed"))
        .sort("id", maintain_order=True)
        .with_row_index("bucket")
        .with_columns(pl.col("bucket") // arguments.batch)
        .collect(engine="streaming")
    )
    for start in range(0, len(table), arguments.batch):
        folder = arguments.output / f"bucket={start // arguments.batch}"
        folder.mkdir()
        table.slice(start, arguments.batch).drop("bucket").write_parquet(folder / "part.parquet", compression=arguments.compression)
    return len(table)


if __name__ == "__main__":
    common.main(work, __doc__)
