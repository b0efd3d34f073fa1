"""A model is loaded as it was trained, or refused with what is wrong."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.trainer.tars import encode
from trainer.errors import CheckpointError, Incompatible, SettingError
from trainer.exported import BadRequest, load
from trainer.task import Task
from trainer.tasks.images import Images, ImageSettings
from trainer.vocabulary import Vocabulary

SETTINGS = ImageSettings(image_size=8, channels=1, width=4, stages=1, blocks=1)
VOCABULARY = Vocabulary().add("label", ["cat", "dog"]).add("label", ["ant"]).add("label", ["bee", "fly"])


def network() -> torch.nn.Module:
    task = Images()
    task.settings = SETTINGS
    torch.manual_seed(5)
    return task.build(VOCABULARY).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The export of a network that grew twice."""
    weights = safetensors.torch.save({name: one.contiguous() for name, one in network().state_dict().items()})
    (tmp_path / "weights").write_bytes(weights)
    write(
        tmp_path, format=1, task="images", set=SETTINGS.model_dump(), vocabulary=VOCABULARY.to_dict(),
        weights={"file": "weights", "size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
    )  # fmt: skip
    return tmp_path


def write(folder: Path, **changes: Any) -> None:
    """config.json with some of it changed; what is None is left out."""
    path = folder / "config.json"
    config = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def test_outputs_are_those_of_the_network_that_grew(folder: Path) -> None:
    model, images = load(folder), torch.randn(6, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model.net(images), network()(images))
    assert [name for name in model.net.state_dict() if ".blocks.1." in name and name.startswith("head")] == []
    assert model.vocabulary == VOCABULARY


def test_answers_are_in_the_order_of_the_requests(folder: Path, tmp_path: Path) -> None:
    model, requests = load(folder), []
    for i in range(70):
        path = tmp_path / f"{'long' * (i % 3)}{i}.png"
        path.write_bytes(encode(torch.randint(0, 255, (9, 7), dtype=torch.uint8).numpy()))
        requests.append({"image": str(path)})
    together, alone = model.answers(requests), [model.answers([request])[0] for request in requests]
    assert [answer["label"] for answer in together] == [answer["label"] for answer in alone]
    assert len({answer["confidence"] for answer in together}) > 60
    answer = together[0]
    assert answer["ranking"][0] == {"label": answer["label"], "confidence": answer["confidence"]}
    assert sum(one["confidence"] for one in answer["ranking"]) == pytest.approx(1)
    assert model.answers([]) == []


def test_a_request_that_cannot_be_asked_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("text")
    for request, says in (({"text": "x"}, "no field `image`"), ({"image": "none.png"}, "no such file"),
                          ({"image": str(tmp_path / "no.png")}, "is no PNG")):  # fmt: skip
        with pytest.raises(BadRequest, match=says) as caught:
            load(folder).answers([request])
        assert caught.value.number == 0


def test_a_task_that_answers_nothing_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Images, "answers", Task.answers)
    with pytest.raises(SettingError, match="task Images: answers no requests"):
        load(folder).answers([{"image": "x"}])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, "found format 2, expected 1"),
        ({"vocabulary": None}, "vocabulary is missing"),
        ({"weights": {"file": "other"}}, "other: cannot be read"),
        ({"weights": {"file": "weights", "sha256": "0"}}, "expected 0"),
        ({"vocabulary": {"label": [["a", "a"]]}}, "not distinct"),
    ],
)
def test_what_was_not_written_so_is_refused(folder: Path, changes: dict[str, Any], says: str) -> None:
    write(folder, **changes)
    with pytest.raises(CheckpointError, match=says):
        load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 1}', "\xff"])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no exported model there"):
        load(tmp_path)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: whole[:-1] + b"\0", lambda whole: b""])
def test_damaged_weights_are_refused(folder: Path, damage: Any) -> None:
    path = folder / "weights"
    path.write_bytes(damage(path.read_bytes() + b"\1"[:0]))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load(folder)


def test_another_task_or_other_settings_are_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match="the model was trained by task images"):
        load(folder, task="./file.py:Other")
    with pytest.raises(Incompatible, match="--set width: found 4 in the model, expected 8"):
        load(folder, sets={"width": "8"})
    assert load(folder, task="images", sets={"width": "4"}).task.settings == SETTINGS
    write(folder, vocabulary={"label": [["a", "b"]]})
    with pytest.raises(Incompatible, match="net: "):
        load(folder)
    write(folder, set={"no_such": 1})
    with pytest.raises(Incompatible, match="no_such"):
        load(folder)
    write(folder, task="Mine")
    with pytest.raises(SettingError, match=r"say where it is: --task \./file\.py:Mine"):
        load(folder)
