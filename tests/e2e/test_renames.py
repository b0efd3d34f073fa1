"""Intents renamed and merged between two submissions of task `nlu`."""

import json

import pytest

from tests.e2e.submit import newest

NLU = ("--task", "nlu", "--epochs", "8", "--threads", "1")
TEXTS = {
    "greet": ["hello", "hi there", "good morning", "hey you"],
    "bye": ["bye bye", "see you later", "good night", "farewell then"],
    "ask": ["what is the time", "how late is it", "what time is it now", "tell me the time"],
}


@pytest.fixture
def assistant(bench):
    """A file of messages, and two of each intent held back to evaluate with."""
    bench.inside.arguments = NLU
    write(bench, "nlu.jsonl", {intent: texts[:3] for intent, texts in TEXTS.items()})
    write(bench, "eval/test.jsonl", {intent: texts[:1] for intent, texts in TEXTS.items()})
    bench.submit()
    return bench


def write(bench, name, texts):
    """A shard of messages by intent."""
    path = bench.inside.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text, "intent": intent}) + "\n" for intent, some in texts.items() for text in some]
    path.write_text("".join(lines))


def accuracy(bench, attempt):
    """Of the last epoch of an attempt."""
    return [line["metrics"]["intent_accuracy"] for line in bench.metrics(attempt) if "metrics" in line][-1]


def test_a_renamed_intent_keeps_what_it_learned_and_old_files_go_on_to_mean_it(assistant):
    before = newest(assistant.store())
    write(assistant, "new.jsonl", {"hello": ["hello again"], "ask": TEXTS["ask"][3:]})
    told = assistant.submit("--set", "rename=greet=hello", "--old_data", "all").said
    assert "new label" not in told.out
    assert [line["new_labels"] for line in assistant.metrics(2, kind="round")] == [[]]
    after = newest(assistant.store())
    assert before["vocabulary"]["intent"] == [["ask", "bye", "greet"]]
    assert after["vocabulary"]["intent"] == [["ask", "bye", "hello"]], "no new row"
    assert accuracy(assistant, 2) == 1.0, "evaluation still says greet"
    again = assistant.submit("--set", "rename=greet=hello")
    assert again.said.outcome["outcome"] == "nothing_new"


def test_a_merged_intent_is_never_said_again(assistant):
    write(assistant, "new.jsonl", {"ask": TEXTS["ask"][3:]})
    assistant.submit("--set", "rename=greet=bye", "--old_data", "all")
    assert newest(assistant.store())["vocabulary"]["intent"] == [["ask", "bye", "greet"]]
    labels = assistant.metrics(2)[0]["metrics"]["per_label"]
    assert {intent: scores["num_examples"] for intent, scores in labels.items()} == {"ask": 1, "bye": 2}
    assert accuracy(assistant, 2) == 1.0


def test_a_renaming_without_a_new_example_is_said_to_wait(assistant):
    rename = ("--set", "rename=greet=hello")
    said = assistant.submit(*rename).said
    assert said.outcome["outcome"] == "nothing_new"
    waits = "--set rename=greet=hello: waits for the next round, which one new example starts"
    assert said.err == f"perdure: warning: {waits}\n"
    assert "did you mean 'greet'?" in assistant.submit("--set", "rename=gret=hello", code=78).said.error
    write(assistant, "new.jsonl", {"hello": ["hello again"]})
    told = assistant.submit(*rename).said
    assert "1 example\n" in told.out, "the name is new, what it means is not"
    assert assistant.submit(*rename).said.err == ""


def test_evaluation_may_say_either_name(assistant):
    rename = ("--set", "rename=greet=hello")
    write(assistant, "new.jsonl", {"ask": TEXTS["ask"][3:]})
    write(assistant, "eval/new.jsonl", {"hello": TEXTS["greet"][:1], "ask": TEXTS["ask"][:1]})
    assistant.submit(*rename, "--old_data", "all")
    found = assistant.metrics(2)[0]["metrics"]
    assert accuracy(assistant, 2) == 1.0
    assert found["by_label_round"]["1"]["num_examples"] == 5, "all labels are of round 1, under any name"
    write(assistant, "eval/other.jsonl", {"hullo": ["hullo"]})
    write(assistant, "more.jsonl", {"ask": ["how late"]})
    words = "eval/other.jsonl: labels that no training example has: 'hullo' (1 of 1 evaluation examples); they"
    assert words in assistant.submit(*rename).said.err


def test_a_renaming_of_nothing_is_refused_and_nothing_is_lost(assistant):
    checkpoints = assistant.inside.checkpoints()
    write(assistant, "new.jsonl", {"ask": TEXTS["ask"][3:]})
    assert "did you mean 'greet'?" in assistant.submit("--set", "rename=gret=hello", code=78).said.error
    assert 'must be "old=new"' in assistant.submit("--set", "rename=greet", code=78).said.error
    assert assistant.inside.checkpoints() == checkpoints
