"""A trained assistant, asked from the command line and from Python."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from tests.demo_nlu import MESSAGES
from tests.e2e.inside import Inside
from tests.e2e.test_use import use
from tests.trainer.tasks.nlu.encoders import write_encoder
from trainer.errors import CheckpointError, SettingError
from trainer.exported import BadRequest
from trainer.tasks.nlu import load

TEXTS = ["hi there", "book an e-bike for Friday, please", "how much does a tandem cost?", "😀", "x" * 5000, "hi there"]


@pytest.fixture
def assistant(job: Inside, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """A job over the messages of the demo, trained for a little while."""
    shutil.rmtree(job.data)
    job.data.mkdir()
    shutil.copy(MESSAGES / "nlu.yml", job.data)
    job.arguments = ("--task", "nlu", "--epochs", "8")
    monkeypatch.chdir(job.data.parent)
    job.trained()
    return job


def test_python_and_the_command_say_the_same(assistant: Inside) -> None:
    Path("r.jsonl").write_text("".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(TEXTS)))
    code, out, err = use(assistant, "predict", "--model", assistant.run, "--input", "r.jsonl")
    assert (code, err) == (0, "")
    said = [json.loads(line) for line in out.splitlines()]
    assert [one.pop("id") for one in said] == list(range(len(TEXTS)))
    model = load(assistant.run / "model")
    assert model.predict(TEXTS) == said
    assert [one["text"] for one in said] == TEXTS
    assert [one["intent"] for one in said[:3]] == ["greet", "book_bike", "faq"]
    assert said[2]["response_key"] == "faq/ask_price"
    assert said[2]["answer"].startswith("A city bike is 12")
    assert said[0] == said[5]
    assert model.predict([]) == []
    for text, one in zip(TEXTS, said, strict=True):
        alone = model.predict([text])[0]
        assert (alone["intent"], alone["entities"]) == (one["intent"], one["entities"])
        assert alone["confidence"] == pytest.approx(one["confidence"], abs=1e-5)


def test_what_an_encoder_says_is_kept_for_the_next_time(assistant: Inside) -> None:
    pytest.importorskip("tokenizers", reason="the extra 'encoder' is not installed")
    encoder = write_encoder(Path("encoder"))
    Path("r.jsonl").write_text(json.dumps({"text": "a text that no job has read"}) + "\n")
    assistant.trained("--set", f"encoder={encoder}", "--train_url", "other", "--epochs", "1")
    for word, rest in (("predict", ("--input", "r.jsonl")), ("evaluate", ("--data_url", assistant.data))):
        cache = Path(f"cache-{word}")
        code, _, err = use(assistant, word, "--model", "other", *rest, "--cache_dir", cache)
        assert (code, err) == (0, "")
        assert [path.stat().st_size > 0 for path in cache.glob("task/encoder/*")] == [True]


def test_threads_may_ask_at_once(assistant: Inside) -> None:
    model = load(assistant.run / "model")
    expected, wrong = model.predict(TEXTS), []

    def work() -> None:
        wrong.extend(one for _ in range(20) if (one := model.predict(TEXTS)) != expected)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_bad_requests_and_other_models_are_refused(assistant: Inside, tmp_path: Path) -> None:
    folder = assistant.run / "model"
    with pytest.raises(BadRequest, match="the text is empty") as caught:
        load(folder).predict(["hello", ""])
    assert caught.value.number == 1
    with pytest.raises(CheckpointError, match="no exported model there"):
        load(tmp_path / "nowhere")
    config = json.loads((folder / "config.json").read_text())
    settings = {"image_size": 8, "channels": 1, "width": 4, "stages": 1, "blocks": 1}
    (folder / "config.json").write_text(json.dumps({**config, "task": "images", "set": settings}))
    with pytest.raises(SettingError, match="the model was trained by task images"):
        load(folder)


def test_scores_are_told_by_intent_and_entity(assistant: Inside) -> None:
    shutil.copytree(MESSAGES, assistant.data / "eval", ignore=lambda _, names: [n for n in names if n != "eval.yml"])
    code, out, err = use(assistant, "evaluate", "--model", assistant.run, "--data_url", "data", "--output", "s.json")
    assert (code, err) == (0, "")
    scores = json.loads(Path("s.json").read_text())["scores"]
    assert scores["num_examples"] == 22
    assert scores["intent_f1_weighted"] > 0.7
    assert set(scores["per_label"]) == {"greet", "thank", "book_bike", "return_bike", "report_damage", "faq"}
    assert "per_entity" in out


def test_an_intent_that_the_model_never_saw_counts_as_missed(assistant: Inside) -> None:
    text = 'version: "3.1"\nnlu:\n' + (MESSAGES / "eval_cancel.yml").read_text()
    (assistant.data / "eval").mkdir()
    (assistant.data / "eval" / "new.yml").write_text(text)
    code, _, err = use(assistant, "evaluate", "--model", assistant.run, "--data_url", "data", "--output", "s.json")
    assert (code, err) == (0, "")
    scores = json.loads(Path("s.json").read_text())["scores"]
    assert scores["intent_accuracy"] == 0
    assert scores["num_examples"] == 3
