"""Converts a BERT in a folder of Hugging Face's layout to GGUF, for llama.cpp: `make_gguf.py FOLDER OUT`.

Needs `gguf`, `safetensors` and `numpy`. Weights stay 32-bit floats, so that vectors can be compared with the original's.
"""

import json
import pathlib
import sys

import gguf
import numpy
from safetensors.numpy import load_file


def piece(token):
    """A WordPiece as llama.cpp stores it: words begin with a blank's mark, continuations have none."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def vocabulary(writer, folder):
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    special = {"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"}
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([piece(token) for token in tokens])
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_eos_token_id(tokens.index("[SEP]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_mask_token_id(tokens.index("[MASK]"))


def dimensions(writer, config):
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def weights(writer, folder, blocks):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, blocks)
    for name, values in load_file(folder / "model.safetensors").items():
        # The pooler is of no use with mean pooling, and positions are counted.
        if name.endswith("position_ids") or "pooler" in name:
            continue
        target = names.get_name(name.removeprefix("bert."), try_suffixes=(".weight", ".bias"))
        if target is None:
            sys.exit(f"no place for the weights {name!r}")
        writer.add_tensor(target, values.astype(numpy.float32))


def main():
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "bert")
    dimensions(writer, config)
    vocabulary(writer, folder)
    weights(writer, folder, config["num_hidden_layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
