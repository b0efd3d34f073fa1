"""Training that is interrupted anywhere ends bit for bit where undisturbed training ends."""

import io
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.toy import FolderShards, Toy, census, first_round, vocabulary_of, write_shard
from trainer import checkpoint, data
from trainer.data import Loader
from trainer.errors import NonFinite
from trainer.evaluate import Evaluation
from trainer.ledger import Ledger
from trainer.loop import Training
from trainer.opened import OpenShards
from trainer.plan import Progress, next_round, target
from trainer.settings import TrainSettings
from trainer.snapshot import HostCopy
from trainer.state import TrainState, grown, new_state, restored
from trainer.vocabulary import Vocabulary
from trainer.world import World

CPU = torch.device("cpu")
SETTINGS = TrainSettings(epochs=3, batch_size=8, micro_batch_size=5, learning_rate=0.01, schedule="cosine")


class Bench:
    """Two rounds of real files: the second brings a label and draws old examples."""

    def __init__(self, folder: Path, settings: TrainSettings = SETTINGS) -> None:
        self.settings = settings
        for number in range(4):
            write_shard(folder, f"{number}.jsonl", "abcab" * 3 + "c" * number)
        write_shard(folder, "eval/0.jsonl", "abc" * 4)
        write_shard(folder, "new/4.jsonl", "dddab" * 2)
        self.task = Toy()
        self.shards = FolderShards(folder)
        self.opened = OpenShards(self.task, self.shards, 0)
        keys = [f"{number}.jsonl" for number in range(4)] + ["eval/0.jsonl"]
        first = first_round([census(self.opened, self.shards, key) for key in keys], settings)
        ledger = Ledger().with_round(first.to_lines)
        second = next_round(ledger, [census(self.opened, self.shards, "new/4.jsonl")], [], settings, 2000)
        assert second is not None
        assert second.num_old > 0
        self.rounds = [first, second]
        self.ledger = ledger.with_round(second.to_lines)

    def start(self) -> TrainState:
        state = new_state(self.task, vocabulary_of(self.rounds[0]), self.settings, CPU)
        state.progress = state.progress.in_round(1)
        return state

    def training(self, state: TrainState, settings: TrainSettings | None = None) -> Training:
        round = self.rounds[state.progress.round - 1]
        settings = settings or self.settings
        goal = target(round, settings, state.progress)
        loader = Loader(round, goal, self.opened, state.vocabulary, settings.seed, World())
        return Training(self.task, state, loader, settings)

    def evaluate(self, state: TrainState) -> Any:
        return Evaluation(self.ledger, self.opened, self.settings).scores(state, lambda: False)

    def second(self, state: TrainState) -> TrainState:
        state = grown(state, self.task, vocabulary_of(*self.rounds), self.settings)
        state.progress = state.progress.in_round(2)
        return state

    def undisturbed(self) -> TrainState:
        state = self.start()
        list(self.training(state).run(self.evaluate, lambda: False))
        state = self.second(state)
        list(self.training(state).run(self.evaluate, lambda: False))
        return state

    def interrupted(self, every: int) -> TrainState:
        """Both rounds, going on from a checkpoint in a task of its own after every few steps."""
        state, count = self.start(), 0
        for number in (1, 2):
            if number == 2:
                state = self.second(state)
            training = self.training(state)
            while not training.is_done():
                for _ in training.run(self.evaluate, lambda: False):
                    count += 1
                    if count % every == 0:
                        break
                self.task = type(self.task)()
                state = self.reloaded(training)
                training = self.training(state)
        return state

    def reloaded(self, training: Training) -> TrainState:
        """Through the bytes of a checkpoint and back, into a new network."""
        training.settle()
        file = io.BytesIO()
        checkpoint.write(HostCopy().take({**training.state.state_dict(), "format": 1}), file)
        path = self.shards.folder / "_checkpoint"
        path.write_bytes(file.getvalue())
        payload = checkpoint.read(path)
        return restored(self.task, payload, Vocabulary.from_dict(payload.vocabulary), self.settings, CPU)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(bench):
    return bench.undisturbed()


def same(one: TrainState, other: TrainState) -> None:
    """Equal bit for bit, network and optimizer, and in what the progress says."""
    for name, tensor in one.net.state_dict().items():
        assert torch.equal(tensor, other.net.state_dict()[name]), name
    states = [state.optimizer.state_dict()["state"] for state in (one, other)]
    assert states[0].keys() == states[1].keys()
    for number, fields in states[0].items():
        for field, value in fields.items():
            assert torch.equal(value, states[1][number][field]), (number, field)
    untimed = [replace(state.progress, seconds=0, train_seconds=0) for state in (one, other)]
    assert untimed[0] == untimed[1]


@pytest.mark.parametrize("every", [1, 3, 7])
def test_reloaded_every_few_steps_it_ends_bit_for_bit_the_same(bench, undisturbed, every):
    """Through both rounds: in the middle of epochs, at their ends, before evaluation, with old data mixed in."""
    same(bench.interrupted(every), undisturbed)


def test_a_stop_in_evaluation_saves_that_evaluation_comes_next(bench, undisturbed):
    state, refusals = bench.start(), 2

    def interrupted(state: TrainState) -> Any:
        nonlocal refusals
        refusals -= 1
        return None if refusals >= 0 else bench.evaluate(state)

    training = bench.training(state)
    list(training.run(interrupted, lambda: False))
    assert state.progress.waits_for == "evaluate"
    assert state.progress.epoch == 0
    state = bench.reloaded(training)
    while not (training := bench.training(state)).is_done():
        list(training.run(interrupted, lambda: False))
    state = bench.second(state)
    list(bench.training(state).run(bench.evaluate, lambda: False))
    same(state, undisturbed)


def test_every_example_is_trained_once_in_an_epoch_with_the_old_ones_drawn(bench):
    state = bench.second(bench.start())
    loader = bench.training(state).loader
    seen = [example for batch in loader.batches(0) for micro in batch.micro_batches for example in micro["y"].tolist()]
    assert len(seen) == loader.goal.num_examples
    names = state.vocabulary.names("label")
    per_epoch = {name: seen.count(number) / loader.goal.num_epochs for number, name in enumerate(names)}
    old = {label: len(picks) for replay in bench.rounds[1].replay for label, picks in (replay.picks or {}).items()}
    assert per_epoch == {name: {"d": 6, "a": 2, "b": 2}.get(name, 0) + old.get(name, 0) for name in names}


def test_any_block_of_batches_holds_what_single_ones_hold(bench, monkeypatch):
    """From any step on, over windows, epochs and passes: what is made at once has no say in what is made."""

    def walk(loader: Loader, start: int) -> list[Any]:
        return [(batch.end, batch.num_examples, batch.parts.tolist(), micro["x"].tolist(), micro["y"].tolist())
                for batch in loader.batches(start) for micro in batch.micro_batches]  # fmt: skip

    state, round = bench.start(), replace(bench.rounds[0], window_bytes=3000)
    goal = target(round, bench.settings, state.progress)
    loader = Loader(round, goal, bench.opened, state.vocabulary, 0, World())
    assert loader.order(0).num_windows > 1
    monkeypatch.setattr(data, "MAX_BLOCK_STEPS", 1)
    single = walk(loader, 0)
    monkeypatch.setattr(data, "MAX_BLOCK_STEPS", 64)
    monkeypatch.setattr(data, "BLOCK_SECONDS", 10.0)
    assert any(len(block) > 1 for block in loader.blocks(0))
    for start in dict.fromkeys([0, *(end for end, *_ in single)]):
        assert walk(loader, start) == [one for one in single if one[0] > start]


def test_ranks_share_each_batch_whatever_is_made_at_once(bench):
    state = bench.second(bench.start())
    whole = bench.training(state).loader
    worlds = [World(rank=rank, world_size=3) for rank in range(3)]
    ranks = [Loader(whole.round, whole.goal, bench.opened, state.vocabulary, 0, world) for world in worlds]
    of_ranks = [list(loader.batches(0)) for loader in ranks]
    for batch, *shares in zip(whole.batches(0), *of_ranks, strict=True):
        assert np.concatenate([share.parts for share in shares]).tolist() == batch.parts.tolist()
        labels = [micro["y"] for share in shares for micro in share.micro_batches]
        assert torch.cat(labels).tolist() == torch.cat([micro["y"] for micro in batch.micro_batches]).tolist()


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    """Without what depends on the micro-batch (BatchNorm, dropout), any accumulation is the same but for rounding."""
    whole, parts = (Bench(tmp_path, SETTINGS.model_copy(update={"micro_batch_size": size})) for size in (0, 5))
    nets = []
    for bench in (whole, parts):
        state = bench.start()
        for module in state.net.modules():
            module.training = False
        state.net.train = partial(lambda net, mode=True: net, state.net)  # type: ignore[method-assign]
        for count, _ in enumerate(bench.training(state).run(bench.evaluate, lambda: False)):
            if count == 4:
                break
        nets.append(state.net.state_dict())
    for name, tensor in nets[0].items():
        assert torch.allclose(tensor, nets[1][name], atol=1e-5), name


def test_a_stray_draw_between_steps_changes_nothing(bench, undisturbed):
    state = bench.start()
    for _ in bench.training(state).run(bench.evaluate, lambda: False):
        torch.rand(3)
    state = bench.second(state)
    for _ in bench.training(state).run(bench.evaluate, lambda: False):
        torch.manual_seed(5)
    same(state, undisturbed)


def test_a_loss_that_is_no_number_names_step_and_shards(bench):
    state = bench.start()
    training = bench.training(state)
    with pytest.raises(NonFinite, match=r"step 4: the loss is nan, of examples in [0-3]\.jsonl"):
        for count, _ in enumerate(training.run(bench.evaluate, lambda: False)):
            if count == 2:
                with torch.no_grad():
                    next(state.net.parameters())[0, 0] = float("nan")


def test_the_learning_rate_and_weight_decay_are_todays(bench):
    state = bench.start()
    training = bench.training(state)
    next(iter(training.run(bench.evaluate, lambda: False)))
    changed = bench.settings.model_copy(update={"weight_decay": 0.5, "learning_rate_factor": 0.1})
    training.settle()
    before = bench.settings
    bench.settings = changed
    try:
        again = bench.reloaded(training)
    finally:
        bench.settings = before
    assert [group["weight_decay"] for group in again.optimizer.param_groups] == [0.5, 0.0]


class Apart(Toy):
    def clipped_apart(self, net: nn.Module) -> tuple[str, ...]:
        assert self.round is not None
        return ("0.", "1.") if self.round.labels == ("d",) else ()


def norms(state: TrainState) -> tuple[float, float]:
    """Those of the last step's gradients, of the parameters whose names begin with "0." or "1." and of the others."""
    grads = {name: parameter.grad for name, parameter in state.net.named_parameters() if parameter.grad is not None}
    begins, others = ([grad for name, grad in grads.items() if (name[0] in "01") == side] for side in (True, False))
    return float(nn.utils.get_total_norm(begins)), float(nn.utils.get_total_norm(others))


def test_what_a_task_names_has_half_of_the_norm_in_later_rounds_alone(tmp_path):
    bench = Bench(tmp_path, SETTINGS.model_copy(update={"max_grad_norm": 1e-3}))
    bench.task = Apart()
    undisturbed = bench.undisturbed()
    same(bench.interrupted(3), undisturbed)
    state = bench.start()
    for _ in bench.training(state).run(bench.evaluate, lambda: False):
        assert math.hypot(*norms(state)) == pytest.approx(1e-3, rel=1e-2)
    state = bench.second(state)
    for _ in bench.training(state).run(bench.evaluate, lambda: False):
        assert norms(state) == pytest.approx((5e-4, 5e-4), rel=1e-2)


def test_early_stopping_ends_a_round_whose_score_does_not_rise(tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 50, "early_stopping_epochs": 2})
    bench = Bench(tmp_path, settings)
    state = bench.start()
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.9])
    training = bench.training(state)
    ends = [end for end in training.run(lambda state: {"accuracy": next(scores)}, lambda: False) if end]
    assert len(ends) == 4
    assert training.is_done()
    assert (state.progress.best, state.progress.best_epoch) == (0.5, 2)


def test_a_virtual_epoch_is_a_fixed_number_of_examples_over_several_passes(tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 5, "examples_per_epoch": 20})
    bench = Bench(tmp_path, settings)
    state = bench.start()
    training = bench.training(state)
    ends = [end for end in training.run(bench.evaluate, lambda: False) if end]
    assert len(ends) == 5
    assert state.progress.num_examples == 100
    assert bench.rounds[0].num_new == 66
    keys = [batch.num_examples for batch in training.loader.batches(0)]
    assert keys == [8, 8, 4] * 5


def test_progress_of_a_new_round_keeps_the_counts_and_begins_anew():
    done = Progress(round=1, epoch=3, global_step=9, num_examples=70, example=70, best=0.5, best_epoch=2)
    assert done.in_round(2) == Progress(round=2, epoch=3, global_step=9, num_examples=70, best_epoch=3)


def test_progress_of_an_older_file_is_read():
    older = {"round": 2, "epoch": 3, "example": 5, "waits_for": "train"}
    assert Progress.from_dict(older) == Progress(round=2, epoch=3, example=5)


def test_what_was_promoted_is_remembered_from_round_to_round_and_what_was_not_is_not():
    one = Progress(round=1, scores={"accuracy": 0.5})
    two = one.in_round(2)
    two.scores, two.kept_because = {"accuracy": 0.4}, "too low"
    three = two.in_round(3)
    three.scores = {"accuracy": 0.75}
    three.note_promoted()
    assert three.in_round(4).promoted_scores == {"accuracy": [0.5, 0.75]}
    assert three.in_round(1).promoted_scores == {}, "another folder begins with it"


def test_the_time_of_a_round_is_that_of_waiting_for_its_data_too(tmp_path):
    bench = Bench(tmp_path)
    bench.task.collate = partial(_slowly, bench.task.collate)
    state = bench.start()
    list(bench.training(state).run(lambda state: {}, lambda: False))
    num_batches = 2 * state.progress.global_step  # each step's examples come in two micro-batches
    assert 0.9 * num_batches * SLOW_SECONDS < state.progress.train_seconds


SLOW_SECONDS = 0.01


def _slowly(collate: Any, *arguments: Any) -> Any:
    time.sleep(SLOW_SECONDS)
    return collate(*arguments)
