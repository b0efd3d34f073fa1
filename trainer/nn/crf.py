"""A linear-chain conditional random field: sequences of tags scored as a whole, trained and decoded in batches.

Source: Lafferty, McCallum and Pereira, "Conditional Random Fields", 2001; the scaled recursions are those of
Rabiner, "A Tutorial on Hidden Markov Models", 1989, section V.A.

Shapes: n sequences of up to L places, T tags. `emissions` is float (n, L, T), `lengths` int64 (n,), `transitions`
(T + 1, T + 1): the score of tag j after tag i, -inf where it may not follow. Its last row and column stand for the
edge: the scores of beginning and of ending with a tag; their corner must be 0. All sequences are computed as if they
had L + 1 places, where what is behind the end is edge, so that no step has to ask which of them have ended.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOWEST = -50.0
"""Emissions further below the best of their place count as this far below it in the sum over all paths: float32."""

PAIRS_AT_ONCE = 2**18
"""How many pairs of tags are looked at together on a CPU: as many as stay in a processor's cache."""

PAIRS_AT_ONCE_ON_GPU = 2**26
"""The same on a GPU, where fewer launches are quicker: 256 MB of float32."""


def negative_log_likelihood(emissions: Tensor, transitions: Tensor, lengths: Tensor, tags: Tensor) -> Tensor:
    """-log p(tags) of each sequence, (n,): the log of the sum over all paths, minus the score of `tags`.

    `tags` is int64 (n, L), of any value behind the end.
    """
    loss: Tensor = _NegativeLogLikelihood.apply(emissions, transitions, lengths, tags)  # type: ignore[no-untyped-call]  # torch's
    return loss


@torch.no_grad()
def viterbi(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """The best path of each sequence, int64 (n, L), 0 behind the end; of equally good ones that of the lowest tags.

    On the way there only the scores of the best paths are kept: where each came from is asked on the way back, of one
    tag per place instead of all. With 337 tags that takes a CPU a sixth of the time.
    """
    n, length, num_tags = emissions.shape
    places, into = _with_edge(emissions, lengths, -torch.inf, 0.0), transitions.t().contiguous()
    some = max(1, (PAIRS_AT_ONCE if into.device.type == "cpu" else PAIRS_AT_ONCE_ON_GPU) // into.numel())
    best = torch.empty_like(places)
    best[0] = transitions[-1] + places[0]
    for before, after, scores in zip(best[:-1].unbind(), best[1:].unbind(), places[1:].unbind(), strict=True):
        for first in range(0, n, some):
            torch.amax(before[first : first + some].unsqueeze(1) + into, dim=2, out=after[first : first + some])
        after += scores
    path = torch.full((length + 1, n), num_tags, device=emissions.device)
    for place in range(length, 0, -1):
        path[place - 1] = (best[place - 1] + into[path[place]]).argmax(dim=1)
    return path[:length].t() * _inside(lengths, length)


class _NegativeLogLikelihood(torch.autograd.Function):
    """Forward and backward recursion written out: autograd's record of every step would cost several times as much."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, lengths: Tensor, tags: Tensor) -> Tensor:
        inside = _inside(lengths, emissions.shape[1])
        top = emissions.amax(dim=2)
        odds = _with_edge((emissions - top.unsqueeze(2)).clamp_(min=LOWEST).exp_(), lengths, 0.0, 1.0)
        factors = transitions.exp()
        masses, sums = _sweep(odds, factors)
        path = _path(tags, inside, emissions.shape[2])
        ctx.save_for_backward(odds, factors, masses, sums, path)
        all_paths = sums.log().sum(dim=0).squeeze(1) + (top * inside).sum(dim=1)
        return all_paths - _score(emissions, transitions, path, inside)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        odds, factors, masses, sums, path = ctx.saved_tensors
        weight = gradients[0].unsqueeze(1)
        ahead, reached = _sweep_back(odds / sums, factors)
        weighted = masses[:-1] * weight
        pairs = factors * weighted.flatten(0, 1).t().mm(reached.flatten(0, 1))
        pairs.view(-1).index_add_(0, _pairs(path, len(factors)), -weight.t().expand(len(path) - 1, -1).flatten())
        tags = masses[1:-1] * ahead[:-1]
        tags.scatter_add_(2, path[1:-1].unsqueeze(2), tags.new_full((), -1.0).expand(*path[1:-1].shape, 1))
        return (tags * weight)[..., :-1].transpose(0, 1), pairs, None, None


def _sweep(odds: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """How likely each tag is given what is up to its place, (L + 2, n, S) from the edge on; and the scaling sums."""
    steps, n, states = odds.shape
    masses, sums = odds.new_zeros((steps + 1, n, states)), odds.new_empty((steps, n, 1))
    masses[0, :, -1] = 1
    rows = masses.unbind()
    for before, after, odd, total in zip(rows[:-1], rows[1:], odds.unbind(), sums.unbind(), strict=True):
        torch.mm(before, factors, out=after)
        after.mul_(odd)
        torch.sum(after, 1, keepdim=True, out=total)
        after.div_(total)
    return masses, sums


def _sweep_back(scaled: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """What follows each tag at each place, (L + 1, n, S), scaled likewise; and that with the place's own odds."""
    ahead, back = torch.ones_like(scaled), factors.t()
    reached = torch.empty_like(scaled)
    places = list(zip(ahead.unbind(), reached.unbind(), scaled.unbind(), strict=True))
    for (before, _, _), (after, here, odd) in zip(places[-2::-1], places[:0:-1], strict=True):
        torch.mul(odd, after, out=here)
        torch.mm(here, back, out=before)
    torch.mul(scaled[0], ahead[0], out=reached[0])
    return ahead, reached


def _with_edge(places: Tensor, lengths: Tensor, never: float, always: float) -> Tensor:
    """(n, L, T) as (L + 1, n, T + 1): `never` and `always` are what is given to tags and to the edge behind the end."""
    n, length, num_tags = places.shape
    behind = ~_inside(lengths, length + 1).t()
    result = places.new_empty((length + 1, n, num_tags + 1))
    result[:-1, :, :-1] = places.transpose(0, 1)
    result[-1] = never
    result[..., :-1].masked_fill_(behind.unsqueeze(2), never)
    result[..., -1] = torch.where(behind, always, never)
    return result


def _inside(lengths: Tensor, length: int) -> Tensor:
    """Whether a place is in its sequence, bool (n, L)."""
    return torch.arange(length, device=lengths.device) < lengths.unsqueeze(1)


def _path(tags: Tensor, inside: Tensor, edge: int) -> Tensor:
    """The tags as (L + 2, n), with the edge before, behind, and wherever a sequence has ended."""
    path = tags.new_full((tags.shape[1] + 2, len(tags)), edge)
    path[1:-1] = torch.where(inside, tags, edge).t()
    return path


def _pairs(path: Tensor, states: int) -> Tensor:
    """The places in the flattened transitions that the paths use, one after the other: ((L + 1) * n,)."""
    return (path[:-1] * states + path[1:]).flatten()


def _score(emissions: Tensor, transitions: Tensor, path: Tensor, inside: Tensor) -> Tensor:
    """The score of the given paths, (n,)."""
    steps = transitions.view(-1)[_pairs(path, len(transitions))].view(len(path) - 1, -1).sum(dim=0)
    tags = path[1:-1].t().clamp(max=emissions.shape[2] - 1).unsqueeze(2)
    return steps + (emissions.gather(2, tags).squeeze(2) * inside).sum(dim=1)
