"""One nlu.yml, edited three times as its assistant learns: the same submission after every edit, no other flag."""

import json
from typing import Any

from tests.e2e.inside import Inside
from trainer.tasks.nlu import load

GREET = ("greet", "hello", "hi there", "good morning", "hey")
PAY = ("pay", "pay [Anna](person)", "send money to [Bob](person)", "pay [Tom](person)")
HOURS = ("hours", "when do you open", "until when are you open", "your opening hours")
CARD = ("lost_card", "I lost my card", "my card is gone", "card stolen")
MEANT = {
    "good morning": "greet",
    "send money to Bob": "pay",
    "when do you open": "hours",
    "my card is gone": "lost_card",
}


def nlu(*intents: tuple[str, ...]) -> str:
    """A file in Rasa's form."""
    lines = ['version: "3.1"', "nlu:"]
    for name, *examples in intents:
        lines += [f"- intent: {name}", "  examples: |", *(f"    - {example}" for example in examples)]
    return "\n".join(lines) + "\n"


def test_one_file_edited_three_times(job: Inside) -> None:
    """Each edit is a round of its new messages; in the end all intents are known, and the first round's entity."""
    for path in job.data.iterdir():
        path.unlink()
    job.arguments = ("--task", "nlu")
    file = job.data / "nlu.yml"
    file.write_text(nlu(GREET, PAY))
    assert "7 examples, 2 new labels 'greet', 'pay'" in job.trained().out
    file.write_text(nlu(GREET, HOURS, PAY))
    assert "1 edited shard: 3 new examples, 0 vanished, new label 'hours'" in job.trained().out
    file.write_text(nlu(CARD, GREET[:-1], HOURS, PAY))
    third = job.trained()
    assert "1 edited shard: 3 new examples, 1 vanished, new label 'lost_card'" in third.out
    assert "3 new + 9 old" in third.out
    assert job.trained().outcome["outcome"] == "nothing_new"
    answers = load(job.run / "model").predict([*MEANT])
    assert {text: answer["intent"] for text, answer in zip(MEANT, answers, strict=True)} == MEANT
    assert [(one["entity"], one["start"], one["end"]) for one in answers[1]["entities"]] == [("person", 14, 17)]


def test_evaluation_may_be_ahead_of_training(job: Inside) -> None:
    """An intent that comes later counts as wrong until it is there, and never as one that was known before."""
    for path in job.data.iterdir():
        path.unlink()
    job.arguments = ("--task", "nlu")
    (job.data / "eval").mkdir()
    (job.data / "eval" / "test.yml").write_text(nlu(*((intent, text) for text, intent in MEANT.items())))
    (job.data / "1.yml").write_text(nlu(GREET, HOURS))
    words = "eval/test.yml: labels that no training example has: 'lost_card', 'pay' (2 of 4 evaluation examples); they"
    assert words in job.trained().err
    assert _last_scores(job)["intent_accuracy"] == 0.5
    assert _last_scores(job)["by_label_round"].keys() == {"1"}
    (job.data / "2.yml").write_text(nlu(PAY))
    assert "'lost_card' (1 of 4 evaluation examples); they count as wrong" in job.trained().err
    scores = _last_scores(job)
    assert [scores[group]["num_examples"] for group in ("old_labels", "new_labels", "before")] == [2, 1, 2]
    assert scores["by_label_round"].keys() == {"1", "2"}
    (job.data / "3.yml").write_text(nlu(CARD))
    assert job.trained().err == ""
    assert _last_scores(job)["intent_accuracy"] == 1.0
    assert _last_scores(job)["flips"]["num_compared"] == 3


def _last_scores(job: Inside) -> dict[str, Any]:
    lines = max((job.run / "metrics").iterdir()).read_text().splitlines()
    scores: dict[str, Any] = [line["metrics"] for line in map(json.loads, lines) if line["kind"] == "epoch"][-1]
    return scores
