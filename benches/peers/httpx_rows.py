"""Asks a service about rows with asyncio and httpx, and checks every answer: what people write without `call_api` and `generate`.

Usage: httpx_rows.py call_api|generate URL SECONDS CONCURRENCY BATCH. Prints requests a second. `api_bench` runs it against its server.
"""

import asyncio
import itertools
import json
import sys
import time

import httpx
import jsonschema

BATCHES = 256
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "confidence", "tags"],
    "properties": {
        "kind": {"enum": ["database", "ontology", "vocabulary", "tool"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
    },
}
NODE = {
    "type": ["object", "null"],
    "required": ["id", "type"],
    "properties": {
        "id": {"type": "object", "required": ["identifier"], "properties": {"identifier": {"type": "string"}}},
        "type": {"type": "array", "items": {"type": "string"}},
        "information_content": {"type": "number"},
    },
}


def call_api(number, batch):
    first = number % BATCHES * batch
    keys = [f"CHEBI:{key:07}" for key in range(first, first + batch)]
    return keys, {"curies": keys, "conflate": True}


def generate(number, _):
    prompt = f"Which kind of thing is item {number}?"
    answer = {"name": "answer", "schema": SCHEMA, "strict": True}
    return prompt, {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": prompt}],
        "response_format": {"type": "json_schema", "json_schema": answer},
        "max_completion_tokens": 60,
    }


def rows_of_api(keys, reply, check):
    rows = []
    for key in keys:
        node = reply[key]
        check(node)
        rows.append(None if node is None else (node["id"]["identifier"], node["type"], node.get("information_content")))
    return rows


def rows_of_model(_, reply, check):
    choice = reply["choices"][0]
    if choice["finish_reason"] != "stop" or choice["message"].get("refusal"):
        raise ValueError(choice)
    answer = json.loads(choice["message"]["content"])
    check(answer)
    return [(answer["kind"], answer["confidence"], answer["tags"])]


async def main(function, url, seconds, concurrency, batch):
    make, rows, schema = (call_api, rows_of_api, NODE) if function == "call_api" else (generate, rows_of_model, SCHEMA)
    check = jsonschema.Draft202012Validator(schema).validate
    numbers, done = itertools.count(), 0
    begun = time.perf_counter()

    async def work(client):
        nonlocal done
        while time.perf_counter() - begun < seconds:
            items, body = make(next(numbers), batch)
            response = await client.post(url, json=body)
            response.raise_for_status()
            rows(items, response.json(), check)
            done += 1

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        await asyncio.gather(*(work(client) for _ in range(concurrency)))
    print(done / (time.perf_counter() - begun))


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
