"""The tagger learns spans, spells nothing that is none, and grows without touching what it knows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.tasks.nlu.tagger import TagHead
from trainer.tasks.nlu.tags import BEGIN, INSIDE, LAST, UNIT

FEATURES = 8
SIZES = st.lists(st.integers(1, 2), min_size=1, max_size=2)


def batch(seed: int, num_names: int, n: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """States whose first features tell the tag, lengths, and tags that spell spans of one to three tokens."""
    generator = torch.Generator().manual_seed(seed)
    spans = [[BEGIN, INSIDE, LAST], [BEGIN, LAST], [UNIT], [0]]
    rows = []
    for _ in range(n):
        row: list[int] = []
        for _ in range(3):
            kind, name = (int(torch.randint(size, (), generator=generator)) for size in (4, num_names))
            row += [4 * name + part if part else 0 for part in spans[kind]]
        rows.append(torch.tensor(row))
    tags = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    codes = torch.randn(4 * 6 + 1, FEATURES, generator=torch.Generator().manual_seed(0))
    states = codes[tags] + 0.3 * torch.randn(*tags.shape, FEATURES, generator=generator)
    return states, torch.tensor([len(row) for row in rows]), tags


def trained(head: TagHead, data: tuple[Tensor, Tensor, Tensor], steps: int = 80) -> TagHead:
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        (head.loss(*data) / len(data[0])).backward()
        optimizer.step()
    return head


def grown(head: TagHead, block_sizes: list[int]) -> TagHead:
    larger = TagHead(FEATURES, block_sizes)
    missing = larger.load_state_dict(head.state_dict(), strict=False)
    assert not missing.unexpected_keys
    return larger


def right(head: TagHead, data: tuple[Tensor, Tensor, Tensor]) -> float:
    """The share of tokens whose tag is found."""
    states, lengths, tags = data
    found = [tag for path in head.decode(states, lengths) for tag in path]
    expected = [tag for row, length in zip(tags.tolist(), lengths.tolist(), strict=True) for tag in row[:length]]
    return sum(one == other for one, other in zip(found, expected, strict=True)) / len(expected)


def test_tags_are_learned() -> None:
    head = TagHead(FEATURES, [2])
    assert all(set(path) == {0} for path in head.decode(*batch(1, 2)[:2]))  # nothing learned, nothing found
    assert right(trained(head, batch(1, 2)), batch(2, 2)) > 0.95


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), SIZES)
def test_what_is_decoded_spells_spans(seed: int, block_sizes: list[int]) -> None:
    torch.manual_seed(seed)
    head = TagHead(FEATURES, block_sizes)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    lengths = torch.randint(0, 7, (20,))
    for path in head.decode(torch.randn(20, 6, FEATURES), lengths):
        open_name = None
        for tag in path:
            name, part = divmod(tag - 1, 4) if tag else (None, None)
            assert (open_name is None) == (part in (None, BEGIN - 1, UNIT - 1))
            assert open_name in (None, name)
            open_name = name if part in (BEGIN - 1, INSIDE - 1) else None
        assert open_name is None


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), SIZES, SIZES)
def test_growth_changes_nothing_that_is_known(seed: int, old: list[int], new: list[int]) -> None:
    head = trained(TagHead(FEATURES, old), batch(seed, sum(old)), steps=30)
    larger = grown(head, [*old, *new])
    state = larger.state_dict()
    assert all(torch.equal(state[name], value) for name, value in head.state_dict().items())
    states, lengths, _ = batch(seed + 1, sum(old))
    tags = 4 * sum(old) + 1
    assert torch.equal(larger.emissions(states)[..., :tags], head.emissions(states))
    keep = torch.tensor([*range(tags), -1])
    assert torch.equal(larger.transitions()[keep][:, keep], head.transitions())
    assert larger.decode(states, lengths) == head.decode(states, lengths)


def test_new_names_are_learned_and_old_ones_kept() -> None:
    head = trained(TagHead(FEATURES, [2]), batch(1, 2))
    larger = trained(grown(head, [2, 1]), batch(3, 3), steps=80)
    assert right(larger, batch(4, 3)) > 0.95


def test_every_parameter_of_every_block_learns() -> None:
    head = TagHead(FEATURES, [1, 2])
    head.loss(*batch(1, 3)).backward()
    still = {name for name, parameter in head.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert not still


def test_the_loss_of_impossible_tags_is_infinite() -> None:
    head = TagHead(FEATURES, [1])
    assert head.loss(torch.zeros(1, 2, FEATURES), torch.tensor([2]), torch.tensor([[BEGIN, UNIT]])).isinf()


def test_a_head_without_names_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        TagHead(FEATURES, [])
