"""The job by hand: pandas, asyncio, and OpenAI's own client. What a careful programmer writes in an afternoon."""

import asyncio

import common
import pandas as pd


def bucketize(path, batch):
    table = pd.read_parquet(path, columns=["id", "category", "name"]).sort_values("id", kind="stable", ignore_index=True)
    text = table["category"].fillna("") + table["name"].fillna("")
    table["text_to_embed"] = text.str.slice(0, common.MAX_CHARS)
    return [(start // batch, table.iloc[start : start + batch]) for start in range(0, len(table), batch)]


async def embed_all(arguments):
    # Not at the top: another peer cuts its table with `bucketize`, and has no such client.
    import openai

    buckets = bucketize(arguments.input, arguments.batch)
    # The client retries on its own; it obeys `Retry-After`.
    client = openai.AsyncOpenAI(base_url=arguments.base_url, api_key="none", max_retries=10, timeout=60)
    gate = asyncio.Semaphore(arguments.workers)

    def save(number, frame):
        folder = arguments.output / f"bucket={number}"
        folder.mkdir()
        frame.to_parquet(folder / "part.parquet")

    async def embed(number, frame):
        async with gate:
            response = await client.embeddings.create(
                model=common.MODEL, input=frame["text_to_embed"].tolist(), dimensions=arguments.dimensions
            )
            frame = frame.drop(columns="text_to_embed").assign(embedding=[item.embedding for item in response.data])
            # Writing would hold up the event loop.
            await asyncio.to_thread(save, number, frame)
            return len(frame)

    async with client:
        return sum(await asyncio.gather(*(embed(number, frame) for number, frame in buckets)))


if __name__ == "__main__":
    common.main(lambda arguments: asyncio.run(embed_all(arguments)), __doc__)
