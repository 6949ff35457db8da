"""Embeds the texts of the shipped project with OpenAI's own client and four threads, and compares `flow`'s vectors.

Run by the Python of the environment `client`, which has `openai` and `pyarrow`:

    embed_with_openai.py embed PARTITIONS BASE_URL MODEL OUT.json
    embed_with_openai.py compare PARTITIONS OUT.json

The first prints seconds and texts, the second rows, missing vectors and the largest difference, each as JSON.
"""

import concurrent.futures
import json
import sys
import time

import openai
import pyarrow.dataset

THREADS = 4
TEXTS_A_REQUEST = 100


def rows_of(folder, columns):
    return pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table(columns=columns).to_pylist()


def embed(folder, base_url, model, out):
    rows = rows_of(folder, ["id", "text_to_embed"])
    texts = [row["text_to_embed"] for row in rows]
    batches = [texts[start : start + TEXTS_A_REQUEST] for start in range(0, len(texts), TEXTS_A_REQUEST)]
    client = openai.OpenAI(base_url=base_url, api_key="none")

    def vectors(batch):
        answer = client.embeddings.create(model=model, input=batch)
        return [item.embedding for item in answer.data]

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        found = [vector for batch in pool.map(vectors, batches) for vector in batch]
    seconds = time.monotonic() - begin
    with open(out, "w", encoding="utf-8") as file:
        json.dump({row["id"]: vector for row, vector in zip(rows, found, strict=True)}, file)
    return {"seconds": seconds, "texts": len(texts)}


def unit(vector):
    length = sum(number * number for number in vector) ** 0.5
    return [number / length for number in vector]


def compare(folder, reference):
    with open(reference, encoding="utf-8") as file:
        expected = json.load(file)
    rows = rows_of(folder, ["id", "embedding", "embedding_error"])
    missing = [row["embedding_error"] for row in rows if row["embedding"] is None]
    largest = 0.0
    for row in rows:
        if row["embedding"] is not None:
            pair = zip(unit(row["embedding"]), unit(expected[row["id"]]), strict=True)
            largest = max(largest, max(abs(ours - theirs) for ours, theirs in pair))
    return {"rows": len(rows), "missing": len(missing), "errors": missing[:3], "largest": largest}


if __name__ == "__main__":
    print(json.dumps({"embed": embed, "compare": compare}[sys.argv[1]](*sys.argv[2:])))
