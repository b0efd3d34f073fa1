"""A transformer for short sequences: pre-normalised layers over sinusoidal places.

Vaswani et al., "Attention Is All You Need", 2017; with the normalisation ahead of each part, as in Xiong et al., "On
Layer Normalization in the Transformer Architecture", 2020.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDENING = 4
"""How much wider the inner layer is."""
LONGEST_WAVE = 10_000.0


class Transformer(nn.Module):
    """(n, L, width) to the same, each place in view of all others of its own sequence; the end is normalised."""

    def __init__(self, width: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if width % (2 * num_heads):
            raise ValueError(f"a width of {width} is no multiple of twice the number of heads, {num_heads}")
        self.layers = nn.ModuleList(_Layer(width, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = dropout

    def forward(self, places: Tensor, lengths: Tensor) -> Tensor:
        """`lengths`, int64 (n,), are at least 1; what is behind a sequence's end is not seen by the rest of it."""
        n, length, width = places.shape
        states = places * math.sqrt(width) + sinusoids(length, width).to(places)
        states = functional.dropout(states, self.dropout, self.training)
        visible = (torch.arange(length, device=lengths.device) < lengths.unsqueeze(1)).view(n, 1, 1, length)
        for layer in self.layers:
            states = layer(states, visible)
        result: Tensor = self.norm(states)
        return result


def sinusoids(length: int, width: int) -> Tensor:
    """What tells places apart, (length, width): sines and cosines of wave lengths from 2 pi to 10,000 times that."""
    waves = torch.exp(torch.arange(0, width, 2) * (-math.log(LONGEST_WAVE) / width))
    angles = torch.arange(length).unsqueeze(1) * waves
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Layer(nn.Module):
    """Attention of several heads and a wider inner layer, each added to what it is given."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.inner_norm = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.widen = nn.Linear(width, WIDENING * width)
        self.narrow = nn.Linear(WIDENING * width, width)

    def forward(self, states: Tensor, visible: Tensor) -> Tensor:
        states = states + self._dropped(self.mix(self._attended(self.attention_norm(states), visible)))
        inner = self._dropped(functional.gelu(self.widen(self.inner_norm(states))))
        return states + self._dropped(self.narrow(inner))

    def _attended(self, states: Tensor, visible: Tensor) -> Tensor:
        n, length, width = states.shape
        queries, keys, values = self.attention(states).view(n, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        return heads.transpose(1, 2).reshape(n, length, width)

    def _dropped(self, states: Tensor) -> Tensor:
        return functional.dropout(states, self.dropout, self.training)
