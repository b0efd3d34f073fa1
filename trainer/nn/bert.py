"""The encoder of BERT, to run weights that others trained. Evaluation only: there is no dropout.

Devlin et al., 2019, https://arxiv.org/abs/1810.04805; MiniLM is the same network, only smaller.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_RENAMED = (
    (re.compile(r"^(bert|model)\."), ""),
    (re.compile(r"^encoder\.layer\."), "layers."),
    (re.compile(r"attention\.output\.dense"), "mix"),
    (re.compile(r"attention\.output\.LayerNorm"), "mix_norm"),
    (re.compile(r"attention\.self\."), ""),
    (re.compile(r"intermediate\.dense"), "widen"),
    (re.compile(r"output\.dense"), "narrow"),
    (re.compile(r"output\.LayerNorm"), "norm"),
    (re.compile(r"^embeddings\.LayerNorm"), "norm"),
    (re.compile(r"^embeddings\.(\w+)_embeddings"), r"\1"),
)
_SIZES = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_size", "intermediate_size",
    "num_attention_heads", "num_hidden_layers",
)  # fmt: skip
_QKV = re.compile(r"(layers\.\d+\.)(query|key|value)\.(weight|bias)")


class BertSizes(NamedTuple):
    """What makes one network of the family: the sizes, and the small number in its normalisations."""

    num_words: int
    num_positions: int
    num_types: int
    width: int
    inner_width: int
    num_heads: int
    num_layers: int
    epsilon: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "BertSizes":
        """From a published config.json; ValueError where it is of another family or incomplete."""
        expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for name, value in expected.items():
            if (found := config.get(name, value if name != "model_type" else None)) != value:
                raise ValueError(f"{name} is {found!r}, expected {value!r}: only the BERT family can be used")
        numbers = {name: config.get(name) for name in _SIZES}
        if not all(isinstance(number, int) and number > 0 for number in numbers.values()):
            raise ValueError(f"sizes that are no positive integers: {numbers}")
        sizes = cls._make([*numbers.values(), float(config.get("layer_norm_eps", 1e-12))])
        if sizes.width % sizes.num_heads:
            raise ValueError(f"hidden_size {sizes.width} is no multiple of num_attention_heads {sizes.num_heads}")
        return sizes


class Bert(nn.Module):
    """Token ids of padded texts to their hidden states."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.word = nn.Embedding(sizes.num_words, sizes.width)
        self.position = nn.Embedding(sizes.num_positions, sizes.width)
        self.token_type = nn.Embedding(sizes.num_types, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.layers = nn.ModuleList(_Layer(sizes) for _ in range(sizes.num_layers))

    @classmethod
    def of(cls, sizes: BertSizes, published: Mapping[str, Tensor]) -> "Bert":
        """With published weights, whose memory it shares; ValueError where they do not fit the sizes."""
        with torch.device("meta"):  # draws nothing from the generator that a task's networks are made with
            net = cls(sizes)
        own, found = net.state_dict(), _renamed(published)
        for name, expected in own.items():
            shape = tuple(found[name].shape) if name in found else None
            if shape != tuple(expected.shape):
                raise ValueError(f"{name}: found shape {shape}, expected {tuple(expected.shape)}")
        net.load_state_dict({name: found[name].float() for name in own}, assign=True)
        return net.eval().requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """`ids`: int64 (n, L); `mask`: bool (n, L), False where padded.

        Returns float32 (n, L, width) of the embeddings and then of each layer, the last one's last.
        """
        places = self.position.weight[: ids.shape[1]] + self.token_type.weight[0]
        states: list[Tensor] = [self.norm(self.word(ids) + places)]
        visible = mask[:, None, None, :]
        for layer in self.layers:
            states.append(layer(states[-1], visible))
        return states


class _Layer(nn.Module):
    """Attention and a feed-forward layer, each added to its input and normalised."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.num_heads = sizes.num_heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.mix = nn.Linear(sizes.width, sizes.width)
        self.mix_norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.widen = nn.Linear(sizes.width, sizes.inner_width)
        self.narrow = nn.Linear(sizes.inner_width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)

    def forward(self, states: Tensor, visible: Tensor) -> Tensor:
        states = self.mix_norm(states + self._attended(states, visible))
        result: Tensor = self.norm(states + self.narrow(functional.gelu(self.widen(states))))
        return result

    def _attended(self, states: Tensor, visible: Tensor) -> Tensor:
        n, length, width = states.shape
        q, k, v = self.qkv(states).view(n, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        mixed: Tensor = self.mix(heads.transpose(1, 2).reshape(n, length, width))
        return mixed


def _renamed(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names to ours; the three projections of attention become one."""
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in published.items():
        for pattern, ours in _RENAMED:
            name = pattern.sub(ours, name)
        if match := _QKV.fullmatch(name):
            parts.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2]] = tensor
        else:
            found[name] = tensor
    whole = {name: part for name, part in parts.items() if len(part) == 3}
    return found | {name: torch.cat([part[one] for one in ("query", "key", "value")]) for name, part in whole.items()}
