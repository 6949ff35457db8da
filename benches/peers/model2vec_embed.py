"""The job with the same local model in Python: pandas, model2vec, and one file written for each bucket."""

import asyncio_openai
import common
from model2vec import StaticModel


def work(arguments):
    model = StaticModel.from_pretrained(arguments.model)
    rows = 0
    for number, frame in asyncio_openai.bucketize(arguments.input, arguments.batch):
        vectors = model.encode(frame["text_to_embed"].tolist())
        frame = frame.drop(columns="text_to_embed").assign(embedding=list(vectors))
        folder = arguments.output / f"bucket={number}"
        folder.mkdir()
        frame.to_parquet(folder / "part.parquet")
        rows += len(frame)
    return rows


if __name__ == "__main__":
    common.main(work, __doc__)
