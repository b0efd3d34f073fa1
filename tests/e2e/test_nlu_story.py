"""One nlu.yml, edited three times as its assistant learns: the same submission after every edit, no other flag."""

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
