"""Task `nlu` with the frozen features of a pretrained encoder beside its own."""

from pathlib import Path

import pytest
import torch

from entrypoint.config import read
from tests.trainer.tasks.nlu.encoders import write_encoder
from trainer.settings import TrainSettings
from trainer.task import make_task, with_defaults
from trainer.tasks.nlu.encoder import Encoder
from trainer.tasks.nlu.messages import Entity, Message
from trainer.tasks.nlu.task import NLU
from trainer.vocabulary import Vocabulary

pytest.importorskip("tokenizers", reason="the extra 'encoder' is not installed")

MESSAGES = [
    Message("send money to my friend", "send", None, (Entity(17, 23, "person"),)),
    Message("hello", "greet"),
    Message("my card", "send"),
]


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "encoder")


def test_messages_and_tokens_bring_what_the_encoder_says_of_them(encoder, tmp_path):
    task = make_task("nlu", {"encoder": str(encoder)})
    task.cache_directory = tmp_path / "cache"
    vocabulary = task.grow(Vocabulary(), [], MESSAGES)
    batch = task.collate(MESSAGES, vocabulary, None).inputs
    assert batch.dense.shape == (3, 2 * 8) and batch.dense_tokens.shape == (8, 8)
    for rows in (batch.dense, batch.dense_tokens):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)), atol=1e-2, rtol=0)
    net = task.build(vocabulary)
    task.loss(net, task.collate(MESSAGES, vocabulary, None)).backward()
    for head in (net.labels["intent"].logits, net.tags["entity"].emissions):
        assert head.rows()[0].shape[1] > 8
        assert head.blocks[0].weight.grad[:, -8:].abs().sum() > 0, "they go straight to the heads"
    again = make_task("nlu", {"encoder": str(encoder)})
    again.cache_directory = tmp_path / "cache"
    assert torch.equal(again.collate(MESSAGES[::-1], vocabulary, None).inputs.dense.flip(0), batch.dense)


def test_a_rounds_messages_are_encoded_before_it_begins(encoder, tmp_path, monkeypatch):
    task = make_task("nlu", {"encoder": str(encoder)})
    task.cache_directory = tmp_path
    vocabulary = task.grow(Vocabulary(), [], iter([*MESSAGES, *MESSAGES]))
    monkeypatch.setattr(Encoder, "_compute", lambda self, asked, spans_of: {} if not asked else pytest.fail("computed"))
    assert task.collate(MESSAGES, vocabulary, None).inputs.dense_tokens.shape == (8, 8)


def test_without_tags_no_token_is_encoded(encoder):
    task = make_task("nlu", {"encoder": str(encoder)})
    told = [message._replace(entities=()) for message in MESSAGES]
    vocabulary = task.grow(Vocabulary(), [], told)
    batch = task.collate(told, vocabulary, None).inputs
    assert batch.dense_tokens.shape[0] == 0
    assert len(task.predict(task.build(vocabulary).eval(), task.collate(told, vocabulary, None))) == 3


def test_a_transformer_reads_them_with_the_others(encoder):
    task = make_task("nlu", {"encoder": str(encoder), "architecture": "diet", "width": "8", "hidden": "8"})
    vocabulary = task.grow(Vocabulary(), [], MESSAGES)
    net = task.build(vocabulary)
    task.loss(net, task.collate(MESSAGES, vocabulary, None)).backward()
    assert net.dense.weight.grad.abs().sum() > 0 and net.dense_tokens.weight.grad.abs().sum() > 0


def test_without_an_encoder_there_is_nothing_of_it():
    task = make_task("nlu", {})
    vocabulary = task.grow(Vocabulary(), [], MESSAGES)
    assert task.collate(MESSAGES, vocabulary, None).inputs.dense.shape == (3, 0)
    assert not [name for name in task.build(vocabulary).state_dict() if name.startswith("dense")]


def test_an_encoder_has_defaults_of_its_own_and_show_settings_says_so(encoder):
    plain, encoded = make_task("nlu", {}), make_task("nlu", {"encoder": str(encoder)})
    assert with_defaults(TrainSettings(), plain).epochs == NLU.defaults["epochs"]
    assert with_defaults(TrainSettings(), encoded).epochs == NLU.with_encoder["epochs"] < NLU.defaults["epochs"]
    assert with_defaults(TrainSettings(epochs=3), encoded).epochs == 3
    told = read(["--task", "nlu", "--set", f"encoder={encoder}", "--show_settings"], {}).table()
    rows = {line.split()[0]: line.split() for line in told.splitlines()}
    assert rows["epochs"] == ["epochs", str(NLU.with_encoder["epochs"]), "round", "default", "of", "task", "nlu"]
