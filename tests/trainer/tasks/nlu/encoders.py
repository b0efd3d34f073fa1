"""A pretrained encoder small enough to be made in a test: random weights, and a tokenizer of a few words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "send", "money", "to", "my", "friend", "##ly", "##s", "hello", "card"]
CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "vocab_size": len(WORDS), "max_position_embeddings": 20,
    "type_vocab_size": 2, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2,
    "layer_norm_eps": 1e-12,
}  # fmt: skip


def write_encoder(folder: Path, config: Mapping[str, Any] = CONFIG, prefix: str = "") -> Path:
    """The files of a tiny encoder in `folder`, alike each time; `prefix` stands before the names of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {prefix + name: tensor.contiguous() for name, tensor in published(reference()).items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    write_tokenizer(folder / "tokenizer.json")
    return folder


def reference() -> nn.ModuleDict:
    """The same network out of torch's own parts, with weights that do not vanish."""
    torch.manual_seed(3)
    width, inner, words = (int(CONFIG[name]) for name in ("hidden_size", "intermediate_size", "vocab_size"))  # type: ignore[call-overload]
    layer = nn.TransformerEncoderLayer(width, 2, inner, 0.0, "gelu", 1e-12, batch_first=True)
    parts = {"word": nn.Embedding(words, width), "position": nn.Embedding(20, width), "kind": nn.Embedding(2, width)}
    net = nn.ModuleDict({**parts, "norm": nn.LayerNorm(width, 1e-12)})
    net["layers"] = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net.eval()


def published(net: nn.ModuleDict) -> dict[str, Tensor]:
    """The weights under the names in which encoders are published."""
    own = net.state_dict()
    found = {f"embeddings.{name}_embeddings.weight": own[f"{name}.weight"] for name in ("word", "position")}
    found["embeddings.token_type_embeddings.weight"] = own["kind.weight"]
    found |= {f"embeddings.LayerNorm.{part}": own[f"norm.{part}"] for part in ("weight", "bias")}
    names = {
        "self_attn.out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense", "linear2": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip
    for i in range(2):
        theirs, ours = f"encoder.layer.{i}.", f"layers.layers.{i}."
        for part in ("weight", "bias"):
            found |= {f"{theirs}{name}.{part}": own[f"{ours}{torchs}.{part}"] for torchs, name in names.items()}
            rows = own[f"{ours}self_attn.in_proj_{part}"].chunk(3)
            qkv = zip(("query", "key", "value"), rows, strict=True)
            found |= {f"{theirs}attention.self.{name}.{part}": tensor for name, tensor in qkv}
    return found


def write_tokenizer(path: Path) -> None:
    """A tokenizer as BERT's, which pads everything to 128 and cuts at 10, as published files may say."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(max_length=10)
    tokenizer.save(str(path))
