"""The job as a Kedro pipeline: a partitioned dataset whose partitions are computed while they are saved.

The usual way of doing it in Kedro: one node cuts the table, the next returns a function for each partition, and a dataset
of the project's own runs those functions on an event loop, so many at a time, and saves what they give.
"""

import asyncio
import logging

import common
import openai
import pandas as pd
from kedro.io import DataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.partitions import PartitionedDataset
from tenacity import retry, stop_after_attempt, wait_exponential


class ConcurrentPartitions(PartitionedDataset):
    """Partitions given as functions that return coroutines; at most `workers` of them run at once."""

    def __init__(self, *, workers, **kwargs):
        super().__init__(**kwargs)
        self._workers = workers

    def save(self, data):
        async def save_one(gate, name, compute):
            async with gate:
                frame = await compute()
                # Saving blocks, as it does in the datasets that Kedro has.
                ParquetDataset(filepath=f"{self._path}/{name}{self._filename_suffix}").save(frame)

        async def save_all():
            gate = asyncio.Semaphore(self._workers)
            await asyncio.gather(*(save_one(gate, name, compute) for name, compute in sorted(data.items())))

        asyncio.run(save_all())


def bucketize(table, batch):
    table = table[["id", "category", "name"]].sort_values("id", kind="stable", ignore_index=True)
    text = table["category"].fillna("") + table["name"].fillna("")
    table["text_to_embed"] = text.str.slice(0, common.MAX_CHARS)
    return {
        f"bucket={start // batch}/part": table.iloc[start : start + batch] for start in range(0, len(table), batch)
    }


def compute_embeddings(partitions, model):
    @retry(wait=wait_exponential(multiplier=1, min=2, max=10), stop=stop_after_attempt(3), reraise=True)
    async def embed(load):
        frame = load()
        client = openai.AsyncOpenAI(base_url=model["base_url"], api_key="none", timeout=60)
        async with client:
            response = await client.embeddings.create(
                model=common.MODEL, input=frame["text_to_embed"].tolist(), dimensions=model["dimensions"]
            )
        return frame.drop(columns="text_to_embed").assign(embedding=[item.embedding for item in response.data])

    return {name: (lambda load=load: embed(load)) for name, load in partitions.items()}


def work(arguments):
    logging.getLogger("kedro").setLevel(logging.WARNING)
    folder = str(arguments.output)
    parquet = {"type": "pandas.ParquetDataset"}
    catalog = DataCatalog(
        {
            "nodes": ParquetDataset(filepath=str(arguments.input)),
            "bucketized": PartitionedDataset(path=f"{folder}/bucketized", dataset=parquet, filename_suffix=".parquet"),
            "embedded": ConcurrentPartitions(
                path=f"{folder}/embedded", dataset=parquet, filename_suffix=".parquet", workers=arguments.workers
            ),
        }
    )
    catalog["params:batch"] = arguments.batch
    catalog["params:model"] = {"base_url": arguments.base_url, "dimensions": arguments.dimensions}
    nodes = pipeline(
        [
            node(bucketize, ["nodes", "params:batch"], "bucketized", name="bucketize_nodes"),
            node(compute_embeddings, ["bucketized", "params:model"], "embedded", name="add_node_embeddings"),
        ]
    )
    SequentialRunner().run(nodes, catalog)
    return sum(len(pd.read_parquet(path, columns=["id"])) for path in (arguments.output / "embedded").rglob("*.parquet"))


if __name__ == "__main__":
    common.main(work, __doc__)
