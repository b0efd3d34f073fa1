"""The conditional random field against all paths, one by one."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.nn.crf import negative_log_likelihood, viterbi


def chain(seed: int, lengths: list[int], num_tags: int, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Emissions, transitions of which some are impossible (never the way to the first tag and back), and lengths."""
    generator = torch.Generator().manual_seed(seed)
    emissions = scale * torch.randn(len(lengths), max(lengths), num_tags, generator=generator, dtype=torch.float64)
    transitions = torch.randn(num_tags + 1, num_tags + 1, generator=generator, dtype=torch.float64)
    impossible = torch.rand(transitions.shape, generator=generator) < 0.2
    impossible[0] = impossible[:, 0] = False
    transitions[impossible] = -torch.inf
    transitions[-1, -1] = 0.0
    return emissions, transitions, torch.tensor(lengths)


def all_paths(emissions: Tensor, transitions: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The score of every path of one sequence (L, T)."""
    length, num_tags = emissions.shape
    scores = {}
    for path in itertools.product(range(num_tags), repeat=length):
        steps = itertools.pairwise((num_tags, *path, num_tags))
        parts = [transitions[pair] for pair in steps] + [emissions[i, tag] for i, tag in enumerate(path)]
        scores[path] = torch.stack(parts).sum()
    return scores


LENGTHS = st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), LENGTHS, st.integers(1, 4))
def test_loss_and_gradients_are_those_of_all_paths(seed: int, lengths: list[int], num_tags: int) -> None:
    emissions, transitions, ends = chain(seed, lengths, num_tags)
    inputs = (emissions.requires_grad_(), transitions.requires_grad_())
    scores = [all_paths(one[:end], transitions) for one, end in zip(emissions, lengths, strict=True)]
    possible = [[path for path, score in paths.items() if score.isfinite()] for paths in scores]
    golden = [paths[seed % len(paths)] for paths in possible]
    tags = torch.tensor([path + (7,) * (max(lengths) - len(path)) for path in golden])  # what is behind does not count
    weights = torch.arange(1.0, len(lengths) + 1, dtype=torch.float64)
    expected = torch.stack(
        [
            torch.stack(list(paths.values())).logsumexp(0) - paths[path]
            for paths, path in zip(scores, golden, strict=True)
        ]
    )
    losses = negative_log_likelihood(emissions, transitions, ends, tags)
    assert torch.allclose(losses, expected)
    ours = torch.autograd.grad((losses * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other.nan_to_num(), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), LENGTHS, st.integers(1, 4))
def test_the_decoded_path_is_the_best_of_all(seed: int, lengths: list[int], num_tags: int) -> None:
    emissions, transitions, ends = chain(seed, lengths, num_tags)
    decoded = viterbi(emissions, transitions, ends)
    assert decoded.shape == emissions.shape[:2]
    for one, end, path in zip(emissions, lengths, decoded.tolist(), strict=True):
        scores = all_paths(one[:end], transitions)
        assert tuple(path[:end]) == max(scores, key=lambda path: float(scores[path]))
        assert not any(path[end:])


def test_a_sequence_is_scored_alike_in_any_batch() -> None:
    emissions, transitions, ends = chain(1, [5, 2, 0, 4], 3)
    tags = torch.zeros(emissions.shape[:2], dtype=torch.long)
    together = negative_log_likelihood(emissions, transitions, ends, tags)
    for i, end in enumerate(ends.tolist()):
        alone = negative_log_likelihood(emissions[i : i + 1, :end], transitions, ends[i : i + 1], tags[i : i + 1, :end])
        assert torch.allclose(alone, together[i : i + 1])
        path = viterbi(emissions[i : i + 1, :end], transitions, ends[i : i + 1])
        assert torch.equal(path, viterbi(emissions, transitions, ends)[i : i + 1, :end])


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_scores_far_apart_stay_finite(scale: float) -> None:
    """A place whose best tag cannot be reached, thousands of logits ahead: float32 holds no such odds."""
    emissions, transitions, ends = chain(3, [30, 17], 6, scale)
    emissions, transitions = emissions.float().requires_grad_(), transitions.float().requires_grad_()
    tags = torch.zeros(emissions.shape[:2], dtype=torch.long)
    loss = negative_log_likelihood(emissions, transitions, ends, tags).sum()
    loss.backward()
    assert loss.isfinite()
    assert emissions.grad is not None and emissions.grad.isfinite().all()
    assert transitions.grad is not None and transitions.grad.isfinite().all()


def test_many_tags_are_decoded_a_few_sequences_at_a_time() -> None:
    emissions, transitions, ends = chain(2, [3, 1, 4], 600)
    together = viterbi(emissions, transitions, ends)
    for one, end, path in zip(emissions, ends, together, strict=True):
        best, came_from = transitions[-1, :-1] + one[0], []
        for place in one[1:end]:
            score, pointer = (best.unsqueeze(1) + transitions[:-1, :-1]).max(dim=0)
            best, came_from = score + place, [*came_from, pointer]
        tags = [int((best + transitions[:-1, -1]).argmax())]
        for pointer in reversed(came_from):
            tags.insert(0, int(pointer[tags[0]]))
        assert path[:end].tolist() == tags
