"""The network is the published one: it agrees with torch's own transformer, and refuses what it does not know."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.tasks.nlu.encoders import CONFIG, published, reference
from trainer.nn.bert import Bert, BertSizes


def torchs(net: nn.ModuleDict, ids: Tensor, mask: Tensor) -> Tensor:
    """What torch's own parts make of the same weights."""
    places = net["position"].weight[: ids.shape[1]] + net["kind"].weight[0]
    states: Tensor = net["layers"](net["norm"](net["word"](ids) + places), src_key_padding_mask=~mask)
    return states


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_agrees_with_torch(prefix: str) -> None:
    net = reference()
    own = Bert.of(BertSizes.of(CONFIG), {prefix + name: tensor for name, tensor in published(net).items()})
    ids, mask = torch.randint(0, 13, (4, 9)), torch.arange(9) < torch.tensor([[9], [5], [1], [8]])
    with torch.no_grad():
        expected, found = torchs(net, ids, mask), own(ids, mask)[-1]
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-5, atol=1e-5)
    assert expected[mask].std() > 0.1


def test_making_it_draws_nothing() -> None:
    weights = published(reference())
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    Bert.of(BertSizes.of(CONFIG), weights)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "roberta"}, "'roberta'"),
        ({"model_type": None}, "model_type"),
        ({"hidden_act": "relu"}, "'relu'"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"hidden_size": "8"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": 3}, "no multiple"),
    ],
)
def test_other_networks_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BertSizes.of({**CONFIG, **change})


def test_weights_that_do_not_fit_are_named() -> None:
    weights = published(reference())
    with pytest.raises(ValueError, match=r"layers\.1\.widen\.bias: found shape None, expected \(12,\)"):
        Bert.of(BertSizes.of(CONFIG), {name: weights[name] for name in weights if "1.intermediate.dense.b" not in name})
    with pytest.raises(ValueError, match="found shape"):
        Bert.of(BertSizes.of({**CONFIG, "intermediate_size": 13}), weights)
