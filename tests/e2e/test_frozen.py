"""A part of the network that training never changes: stored once, and checked like all else.

Tables of `perdure verify` fold long names: they are compared without spaces.
"""

import json
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from entrypoint.__main__ import main
from tests.e2e.inside import Inside, write_points
from tests.e2e.points import Points
from trainer.nn.growing import GrowingLinear
from trainer.vocabulary import Vocabulary

TASK = ("--task", "tests.e2e.test_frozen:Pretrained", "--epochs", "3", "--batch_size", "8", "--threads", "1")


class Encoder(nn.Sequential):
    """Stays in evaluation mode, so that its running statistics do too."""

    def train(self, mode: bool = True) -> "Encoder":
        return super().train(False)


class Pretrained(Points):
    """Points through an encoder that came from elsewhere: its values are no function of the seed."""

    frozen = ("encoder.",)
    encoders: ClassVar[list[nn.Module]] = []

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        encoder = Encoder(nn.Linear(2, 64), nn.BatchNorm1d(64), nn.ReLU())
        torch.nn.init.constant_(encoder[0].weight, 0.1 + len(self.encoders))  # somebody exchanged the file
        self.encoders.append(encoder)
        parts = {"encoder": encoder.requires_grad_(False), "head": GrowingLinear(64, vocabulary.block_sizes("label"))}
        net = nn.ModuleDict(parts)
        net.forward = lambda x: net["head"](net["encoder"](x))  # type: ignore[method-assign]
        return net


class Unfrozen(Pretrained):
    """The same, with everything in every checkpoint."""

    frozen = ()


class Trained(Pretrained):
    """Its BatchNorm learns on."""

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        net = super().build(vocabulary)
        net["encoder"] = nn.Sequential(*net["encoder"])  # type: ignore[index, operator]
        net["encoder"].requires_grad_(False)  # type: ignore[index, operator, union-attr]
        return net


@pytest.fixture
def frozen_job(points_job: Inside) -> Inside:
    Pretrained.encoders.clear()
    points_job.arguments = TASK
    return points_job


def record_of(job: Inside, name: str) -> dict[str, Any]:
    return dict(json.loads((job.run / f"{name}.json").read_text()))


def files(job: Inside) -> list[str]:
    return sorted(path.name for path in job.run.glob("frozen/*"))


def state(job: Inside, name: str) -> dict[str, Any]:
    return dict(torch.load(job.run / f"{name}.pth", weights_only=True))


def test_it_is_stored_once_left_out_of_every_checkpoint_and_restored(frozen_job, tmp_path):
    job = frozen_job
    first = job.trained()
    (file,) = files(job)
    names = {record_of(job, f"ckpt_{epoch}-a1")["frozen"]["key"] for epoch in (2, 3)}
    assert names == {f"frozen/{file}"}
    saved = state(job, "ckpt_3-a1")
    assert set(saved["net"]) == {"head.blocks.0.weight", "head.blocks.0.bias"}
    assert file == f"{saved['frozen'][:32]}-a1.pth"
    kept = torch.load(job.run / "frozen" / file, weights_only=True)
    assert torch.equal(kept["encoder.0.weight"], torch.full((64, 2), 0.1))
    size = (job.run / "frozen" / file).stat().st_size
    assert first.outcome["bytes_left_out"] == 3 * size
    assert first.out.count(f"frozen/{file} holds what training never changes: {size:,} bytes less") == 1
    write_points(job.data / "c.jsonl", 40, 50)
    again = job.trained()  # `build` now gives another encoder: that of the run is what counts
    assert files(job) == [file]
    assert torch.equal(Pretrained.encoders[-1][0].weight, torch.full((64, 2), 0.1))
    assert again.outcome["bytes_left_out"] == size
    Pretrained.encoders.clear()
    calm = tmp_path / "calm"
    job.submit("--task", "tests.e2e.test_frozen:Unfrozen", "--rounds_from", job.run, run=calm)
    undisturbed = torch.load(calm / "ckpt_4-a1.pth", weights_only=True)
    for name, tensor in state(job, "ckpt_4-a2")["net"].items():
        assert torch.equal(tensor, undisturbed["net"][name]), name


def test_a_damaged_or_missing_one_is_named_and_nothing_is_taken_for_whole(frozen_job):
    job = frozen_job
    job.trained()
    (file,) = files(job)
    path = job.run / "frozen" / file
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert verified(job, 65, "--deep").count(f"damagedfrozen/{file}:digestofchunk1differs") == 3
    text = job.refused(65)
    assert f"none of the 2 checkpoints in {job.run} can be used: frozen/{file}: digest of chunk 1 differs" in text
    path.unlink()
    assert f"ckpt_3-a1missingfrozen/{file}:noobject" in verified(job, 65)
    assert f"frozen/{file}: no object" in job.refused(65)
    path.write_bytes(whole)
    assert "ckpt_3-a1iswhatthenextsubmissioncontinuesfrom" in verified(job, 0, "--deep")
    assert job.trained().outcome["outcome"] == "nothing_new"


def test_one_that_no_checkpoint_names_any_longer_is_removed(frozen_job):
    job = frozen_job
    old = job.run / "frozen" / f"{'0' * 32}-a1.pth"
    job.trained()
    old.write_bytes(b"of an attempt that was killed before its first record")
    assert f"frozen/{old.name}leftover" in verified(job, 0)
    write_points(job.data / "c.jsonl", 40, 60)
    job.trained("--epoch_fraction", "1")
    assert old.name not in files(job) and len(files(job)) == 1


def test_what_is_declared_and_is_not_so_is_named(frozen_job):
    job = frozen_job
    task = "tests.e2e.test_frozen:Trained"
    text = job.refused(78, "--task", task)
    assert text.startswith("frozen: the task says that training never changes encoder.1.")


def verified(job: Inside, code: int, *more: str) -> str:
    job.capfd.readouterr()
    assert main(["verify", "--train_url", str(job.run), *more], root=job.data.parent / "no platform") == code
    return "".join(job.capfd.readouterr().out.split())
