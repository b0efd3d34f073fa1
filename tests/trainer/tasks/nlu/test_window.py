"""A token's neighbours: as far as it sees, and the same in any batch."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.tasks.nlu.window import GAIN, REACH, Window

WIDTH, LENGTH = 4, 10


def window() -> Window:
    torch.manual_seed(0)
    layer = Window(WIDTH, 6, dropout=0.5).eval()
    torch.nn.init.normal_(layer.edges)
    return layer


def test_a_token_sees_its_neighbours_and_no_further() -> None:
    tokens = torch.randn(LENGTH, WIDTH)
    changed = tokens.clone()
    changed[5] += 1
    layer, lengths = window(), torch.tensor([LENGTH])
    differs = (layer(tokens, lengths) != layer(changed, lengths)).any(dim=1)
    assert differs.nonzero().flatten().tolist() == list(range(5 - REACH, 5 + REACH + 1))


@given(st.lists(st.integers(0, LENGTH), min_size=1, max_size=5))
def test_a_text_is_seen_as_if_it_were_alone(lengths: list[int]) -> None:
    layer, tokens = window(), torch.randn(sum(lengths), WIDTH)
    together = layer(tokens, torch.tensor(lengths)).split(lengths)
    for length, own, states in zip(lengths, tokens.split(lengths), together, strict=True):
        assert torch.allclose(layer(own, torch.tensor([length])), states, atol=1e-6)


def test_a_token_sees_the_map_of_what_stands_around_it() -> None:
    layer, tokens = window(), torch.randn(2, WIDTH)
    nothing = torch.zeros(WIDTH)
    around = [nothing, nothing, layer.edges[0], tokens[0] * GAIN, tokens[1] * GAIN, layer.edges[1], nothing]
    assert torch.allclose(layer(tokens, torch.tensor([2]))[0], layer.map(torch.cat(around)), atol=1e-6)


def test_without_tokens_there_is_nothing_to_see() -> None:
    assert window()(torch.zeros(0, WIDTH), torch.tensor([3, 0])).shape == (0, 6)


def test_the_ends_of_a_text_are_seen() -> None:
    layer, lengths = window(), torch.tensor([3])
    before = layer(torch.zeros(3, WIDTH), lengths)
    with torch.no_grad():
        layer.edges[1] += 1
    differs = (layer(torch.zeros(3, WIDTH), lengths) != before).any(dim=1)
    assert differs.tolist() == [True, True, True]
    layer.train()(torch.zeros(3, WIDTH), lengths).sum().backward()
    assert layer.edges.grad is not None and layer.edges.grad.any(dim=1).all()
