"""A token's neighbours: as far as it sees, and the same in any batch."""

import torch

from trainer.tasks.nlu.window import REACH, Window

WIDTH, LENGTH = 4, 10


def window() -> Window:
    torch.manual_seed(0)
    layer = Window(WIDTH, 6, dropout=0.5).eval()
    torch.nn.init.normal_(layer.edges)
    return layer


def test_a_token_sees_its_neighbours_and_no_further() -> None:
    tokens = torch.randn(1, LENGTH, WIDTH)
    changed = tokens.clone()
    changed[0, 5] += 1
    layer, lengths = window(), torch.tensor([LENGTH])
    differs = (layer(tokens, lengths) != layer(changed, lengths)).any(dim=2)[0]
    assert differs.nonzero().flatten().tolist() == list(range(5 - REACH, 5 + REACH + 1))


def test_what_stands_beside_a_text_in_a_batch_does_not_matter() -> None:
    tokens, lengths = torch.randn(3, LENGTH, WIDTH), torch.tensor([LENGTH, 3, 0])
    tokens *= (torch.arange(LENGTH) < lengths[:, None]).unsqueeze(2)
    layer = window()
    together, alone = layer(tokens, lengths), layer(tokens[1:2, :3], lengths[1:2])
    assert torch.allclose(together[1, :3], alone[0], atol=1e-6)


def test_the_ends_of_a_text_are_seen() -> None:
    layer, lengths = window(), torch.tensor([3])
    before = layer(torch.zeros(1, 3, WIDTH), lengths)
    with torch.no_grad():
        layer.edges[1] += 1
    differs = (layer(torch.zeros(1, 3, WIDTH), lengths) != before).any(dim=2)
    assert differs.tolist() == [[True, True, True]]
    layer.train()(torch.zeros(1, 3, WIDTH), lengths).sum().backward()
    assert layer.edges.grad is not None and layer.edges.grad.any(dim=1).all()
