"""The job in Daft, with its own function for embedding through OpenAI-compatible servers."""

import common
import daft
from daft import col
from daft.functions import embed_text


def work(arguments):
    daft.set_provider("openai", base_url=arguments.base_url, api_key="none")
    table = daft.read_parquet(str(arguments.input)).select("id", "category", "name").sort("id")
    text = (col("category").fill_null("") + col("name").fill_null("")).left(common.MAX_CHARS)
    table = table.with_column("text_to_embed", text)
    table = table.with_column(
        "embedding",
        embed_text(
            col("text_to_embed"),
            provider="openai",
            model=common.MODEL,
            dimensions=arguments.dimensions,
            batch_size=arguments.batch,
            # Daft takes a server of another address for one that cannot do this.
            supports_overriding_dimensions=True,
        ),
    )
    table.exclude("text_to_embed").write_parquet(str(arguments.output))
    return daft.read_parquet(f"{arguments.output}/**/*.parquet").count_rows()


if __name__ == "__main__":
    common.main(work, __doc__)
