"""Growing and restoring: what is kept to the bit, and what is refused by name."""

import io
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainer.toy import NUM_FEATURES, Toy
from trainer import checkpoint, contents, optim
from trainer.errors import CheckpointError, Incompatible, NonFinite
from trainer.optim import learning_rate_at
from trainer.settings import TrainSettings
from trainer.snapshot import HostCopy
from trainer.state import TrainState, grown, new_state, restored
from trainer.vocabulary import Vocabulary

CPU = torch.device("cpu")
SMALL = Vocabulary().add("label", "abc")
LARGE = SMALL.add("label", "xyz")


def trained(settings: TrainSettings, vocabulary: Vocabulary = SMALL, num_steps: int = 20) -> TrainState:
    state = new_state(Toy(), vocabulary, settings, CPU)
    x = torch.randn(16, NUM_FEATURES, generator=torch.Generator().manual_seed(1))
    y = torch.arange(16) % len(vocabulary.names("label"))
    for _ in range(num_steps):
        state.optimizer.zero_grad()
        Toy().loss(state.net, {"x": x, "y": y}).backward()
        state.optimizer.step()
    return state


def through_file(state: TrainState, path: Path) -> checkpoint.Payload:
    with path.open("wb") as file:
        checkpoint.write(HostCopy().take({"format": 1, **state.state_dict()}), file)
    return checkpoint.read(path)


def test_with_rests_the_file_is_the_one_that_torch_writes():
    payload = {"format": 1, **trained(TrainSettings()).state_dict()}
    plain, rested, rests = io.BytesIO(), io.BytesIO(), []
    with checkpoint._without_crc():
        torch.save(payload, plain)
    checkpoint.write(payload, rested, lambda: rests.append(rested.tell()))
    assert rested.getvalue() == plain.getvalue()
    num_described = rests.count(0)
    assert num_described >= 3 * len(payload["net"]), "before each tensor, also of the optimizer"
    assert len(set(rests)) > len(payload["net"]), "and between writes"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_growth_keeps_every_old_parameter_and_moment_to_the_bit(optimizer):
    settings = TrainSettings(optimizer=optimizer)
    state = trained(settings)
    larger = grown(state, Toy(), LARGE, settings)
    for name, tensor in state.net.state_dict().items():
        assert torch.equal(larger.net.state_dict()[name], tensor), name
    before = optim.named_state(state.optimizer.state_dict(), state.net)
    after = optim.named_state(larger.optimizer.state_dict(), larger.net)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name][field], value) for name in before for field, value in before[name].items())
    new = larger.net.state_dict().keys() - state.net.state_dict().keys()
    assert len(new) == 2


def test_growth_leaves_the_outputs_for_old_labels_as_they_were():
    settings = TrainSettings()
    state = trained(settings)
    larger = grown(state, Toy(), LARGE, settings)
    x = torch.randn(50, NUM_FEATURES)
    before, after = state.net.eval()(x), larger.net.eval()(x)[:, :3]
    assert torch.allclose(before, after, atol=1e-5)
    assert torch.equal(before.argsort(), after.argsort())


def test_another_optimizer_in_a_new_round_begins_without_moments():
    state = trained(TrainSettings(optimizer="adamw"))
    larger = grown(state, Toy(), LARGE, TrainSettings(optimizer="sgd"))
    assert larger.optimizer.state_dict()["state"] == {}
    assert torch.equal(larger.net.state_dict()["0.weight"], state.net.state_dict()["0.weight"])


def test_a_restored_state_is_the_saved_one(tmp_path):
    settings = TrainSettings()
    state = trained(settings)
    optim.set_learning_rate(state.optimizer, 1e-5)  # that of the last step, after which only an evaluation may come
    again = restored(Toy(), through_file(state, tmp_path / "x.pth"), SMALL, settings, CPU)
    assert again.optimizer.state_dict()["param_groups"] == state.optimizer.state_dict()["param_groups"]
    for name, tensor in state.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], tensor)
    assert again.progress == state.progress


def test_a_restored_state_takes_the_memory_of_its_payload_and_keeps_no_file(tmp_path):
    settings = TrainSettings()
    payload = through_file(trained(settings), tmp_path / "x.pth")
    pointers = [state["exp_avg"].data_ptr() for state in payload.optimizer["state"].values()]
    again = restored(Toy(), payload, SMALL, settings, CPU)
    assert [state["exp_avg"].data_ptr() for state in again.optimizer.state_dict()["state"].values()] == pointers
    assert payload.net == {}, "what was copied is given up"
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path) not in maps.read_text()


def test_a_grown_state_shares_nothing_with_the_one_before():
    settings = TrainSettings()
    state = trained(settings)
    before = {tensor.data_ptr() for one in state.optimizer.state.values() for tensor in one.values()}
    larger = grown(state, Toy(), LARGE, settings)
    assert before.isdisjoint(tensor.data_ptr() for one in larger.optimizer.state.values() for tensor in one.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["net"].pop("0.weight"), r"net: found no 0\.weight, expected it with shape \(16, 6\)"),
        (
            lambda content: content["net"].update(extra=torch.zeros(1)),
            "net: found extra, expected a network without it",
        ),
        (
            lambda content: content["net"].update({"0.bias": torch.zeros(7)}),
            r"net: 0\.bias: found shape \(7,\), expected \(16,\)",
        ),
        (
            lambda content: content["optimizer"]["state"][0].update(exp_avg=torch.zeros(2)),
            r"optimizer: exp_avg of 0\.weight: found shape \(2,\)",
        ),
        (
            lambda content: content["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(16, 6)),
            "optimizer: found momentum_buffer for 0.weight, expected the state of --optimizer adamw",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_applied(tmp_path, change, message):
    settings = TrainSettings()
    content = HostCopy().take({"format": 1, **trained(settings).state_dict()})
    change(content)
    torch.save(content, tmp_path / "x.pth")
    payload = checkpoint.read(tmp_path / "x.pth")
    with pytest.raises(Incompatible, match=message):
        restored(Toy(), payload, SMALL, settings, CPU)


def test_a_snapshot_is_not_reached_by_steps_or_batchnorm():
    state = trained(TrainSettings())
    host = HostCopy()
    taken = host.take(state.state_dict())
    before = {name: tensor.clone() for name, tensor in taken["net"].items()}
    moments = taken["optimizer"]["state"][0]["exp_avg"].clone()
    x = torch.randn(16, NUM_FEATURES)
    for _ in range(3):
        state.optimizer.zero_grad()
        state.net(x).square().sum().backward()
        state.optimizer.step()
    assert all(torch.equal(taken["net"][name], tensor) for name, tensor in before.items())
    assert torch.equal(taken["optimizer"]["state"][0]["exp_avg"], moments)
    assert not torch.equal(state.net.state_dict()["1.running_mean"], before["1.running_mean"])
    pointers = {tensor.data_ptr() for tensor in taken["net"].values()}
    again = host.take(state.state_dict())
    assert {tensor.data_ptr() for tensor in again["net"].values()} == pointers


class Money(float):
    """A float that `weights_only` would refuse."""


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, Money(1.0), object()])
def test_what_weights_only_would_refuse_is_refused_when_saving(value):
    with pytest.raises(CheckpointError, match=r"checkpoint\['a'\]\[0\]: \w+ cannot be saved"):
        HostCopy().take({"a": [value]})


def test_a_parameter_that_is_no_number_is_never_saved():
    state = trained(TrainSettings())
    with torch.no_grad():
        next(state.net.parameters())[0, 0] = float("inf")
    with pytest.raises(NonFinite, match=r"step 0: parameter 0\.weight is not finite"):
        contents.check_finite(state.state_dict())


def test_the_learning_rate_rises_falls_and_is_a_function_of_the_place():
    base = {"learning_rate": 1.0, "warmup_fraction": 0.1, "batch_size": 10}
    for schedule, end in (("constant", 1.0), ("cosine", 0.0), ("linear", 0.0)):
        settings = TrainSettings(schedule=schedule, **base)
        rates = [learning_rate_at(settings, place, 1000) for place in range(0, 1000, 10)]
        assert rates[0] < rates[5] < rates[9] <= 1.0
        assert rates[10] == pytest.approx(1.0, abs=1e-6)
        assert all(one >= other for one, other in pairwise(rates[10:]))
        assert rates[-1] == pytest.approx(end, abs=0.02)
    held = TrainSettings(schedule="cosine", min_learning_rate=0.1, learning_rate_factor=0.5, **base)
    assert learning_rate_at(held, 999, 1000) == pytest.approx(0.05, abs=1e-4)
    later = TrainSettings(schedule="constant", learning_rate_fraction=0.5, **base)
    assert [learning_rate_at(later, 500, 1000, anew=anew) for anew in (True, False)] == [1.0, 0.5]


def test_biases_and_norms_do_not_decay():
    state = new_state(Toy(), SMALL, TrainSettings(weight_decay=0.3), CPU)
    decays = {name: group["weight_decay"] for group in state.optimizer.param_groups for name in group["param_names"]}
    assert {name for name, decay in decays.items() if decay} == {"0.weight", "4.blocks.0.weight"}
    assert isinstance(state.net, nn.Sequential)
