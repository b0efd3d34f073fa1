"""The transformer: sequences do not see each other, nor what is behind their end, and places differ."""

import pytest
import torch

from trainer.nn.transformer import Transformer, sinusoids

WIDTH = 16


def transformer() -> Transformer:
    torch.manual_seed(0)
    return Transformer(WIDTH, num_layers=2, num_heads=4, dropout=0.5).eval()


def test_what_is_behind_the_end_and_in_other_sequences_does_not_matter() -> None:
    places, lengths = torch.randn(3, 6, WIDTH), torch.tensor([6, 2, 1])
    changed = places.clone()
    changed[1, 2:] = changed[2] = 100.0
    net = transformer()
    before, after = net(places, lengths), net(changed, lengths)
    assert torch.allclose(before[0], after[0], atol=1e-5)
    assert torch.allclose(before[1, :2], after[1, :2], atol=1e-5)
    assert torch.allclose(net(places[1:2, :2], lengths[1:2])[0], before[1, :2], atol=1e-5)


def test_every_place_sees_every_other_and_their_order() -> None:
    places, lengths, net = torch.randn(1, 5, WIDTH), torch.tensor([5]), transformer()
    moved = places[:, [1, 0, 2, 3, 4]]
    differs = (net(places, lengths) - net(moved, lengths)).abs().amax(dim=2)[0]
    assert (differs > 1e-3).all()


def test_sinusoids_tell_places_apart() -> None:
    table = sinusoids(50, WIDTH)
    assert table.shape == (50, WIDTH)
    assert torch.pdist(table).min() > 0.1
    assert torch.allclose(table[0], torch.tensor([0.0, 1.0]).repeat_interleave(WIDTH // 2))


def test_everything_in_it_learns() -> None:
    net = transformer().train()
    (net(torch.randn(4, 5, WIDTH), torch.tensor([5, 3, 2, 1])) * torch.randn(WIDTH)).sum().backward()
    assert not [
        name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        Transformer(WIDTH, num_layers=1, num_heads=3, dropout=0.0)
