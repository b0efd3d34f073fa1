"""Task `nlu` given what users have: other YAML beside it, mistakes in one line, odd sets of intents."""

import json
from pathlib import Path

import pytest

from tests.e2e.inside import Inside

TWO = "- intent: greet\n  examples: |\n    - hi\n    - hello you\n- intent: bye\n  examples: |\n    - see you\n"
SMALL = ("--epochs", "1", "--set", "width=4", "--set", "hidden=4")


@pytest.fixture
def nlu(job: Inside) -> Inside:
    for path in job.data.iterdir():
        path.unlink()
    job.arguments = ("--task", "nlu", *SMALL)
    return job


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(lines))


def test_other_yaml_is_named_once_and_passed_over(nlu):
    write(nlu.data / "nlu.yml", "nlu:\n", TWO)
    write(nlu.data / "stories.yml", "stories:\n- story: happy\n  steps: [{intent: greet}]\n")
    write(nlu.data / "domain.yml", "intents: [greet]\nresponses:\n  utter_greet:\n  - text: Hi\n")
    said = nlu.trained()
    assert said.out.count("no shards of task nlu, passed over: domain.yml, stories.yml") == 1
    assert said.outcome["num_examples_trained"] == 3
    assert "passed over" not in nlu.trained().out


def test_a_mistake_in_one_line_is_said_with_its_place_or_passed_over(nlu):
    write(nlu.data / "nlu.yml", "nlu:\n", TWO, "    - to [Rome](city\n")
    said = "nlu.yml: line 9, column 16: the annotation does not end with ')'; put a backslash before a bracket that "
    assert nlu.refused(65).startswith(said)
    passed = nlu.trained("--on_bad_example", "skip")
    assert passed.err.startswith(f"perdure: warning: passed over {said}")
    assert passed.outcome["num_examples_trained"] == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yml", "nlu:\n- intent: &a [*a]\n", "a.yml: line 2, column 11: intent: expected a text, found a list"),
        ("a.yml", "nlu:\n  - a: [\n", "a.yml: line 3, column 1: is no valid YAML"),
        ("a.jsonl", '{"text": "x", "entities": [{"start": 0, "end": 2, "entity": "y"}]}',
         "a.jsonl: line 1, column 38: an entity from 0 to 2, in a text of 1 characters; mend it"),
        ("a.csv", "text,label\nx,y\n", "a.csv: line 1, column 6: unknown column 'label'; expected text, category"),
        ("a.yml", "nul:\n- intent: a\n", "a.yml: line 1, column 1: unknown section 'nul'; did you mean 'nlu'?"),
        ("a.yml", "stories: []\n", "no data of task nlu in a.yml; mend --data_url"),
        ("a.csv", "text,category\n", "a.csv: holds no examples; remove it"),
        ("a.jsonl", '{"text": "%s"}' % ("x" * 10_001), "a.jsonl: line 1, column 10: the example has 10,001 characters"),
        ("a.jsonl", '{"text": "x"}', "no message has an intent or an entity, so there is nothing to learn"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(nlu, name, content, words):
    write(nlu.data / name, content)
    assert nlu.refused(65).startswith(words)


def test_a_retrieval_intent_without_an_answer_is_learned_and_said(nlu):
    faq = [f"- intent: faq/{key}\n  examples: |\n    - what about {key}\n" for key in ("ask_a", "ask_b")]
    answer = "responses:\n  utter_faq/ask_a:\n  - text: yes\n"
    write(nlu.data / "nlu.yml", "nlu:\n", *faq, answer)
    said = nlu.trained()
    text = "retrieval intents without a text to answer with: faq/ask_b; add utter_faq/ask_b to responses:"
    assert said.err == f"perdure: warning: {text}\n"
    assert nlu.trained().err == ""


def test_a_single_intent_is_learned_and_said(nlu):
    write(nlu.data / "nlu.yml", "nlu:\n", TWO.partition("- intent: bye")[0])
    said = nlu.trained()
    assert said.outcome["num_examples_trained"] == 2
    text = "'greet' is the only intent so far: every message will be said to have it; add messages of another intent"
    assert said.err == f"perdure: warning: {text}\n"


def test_a_regex_that_may_never_end_is_refused_with_its_place(nlu):
    write(nlu.data / "nlu.yml", "nlu:\n", TWO, "- regex: code\n  examples: |\n    - (\\w+\\s?)*x\n")
    assert nlu.refused(65).startswith("nlu.yml: line 11, column 7: may take forever on some messages: what is repeated")


def test_an_edit_without_a_new_example_is_said_to_wait(nlu):
    answers = "- intent: faq/when\n  examples: |\n    - when?\nresponses:\n  utter_faq/when:\n  - text: "
    write(nlu.data / "nlu.yml", "nlu:\n", TWO, answers, "At 8.\n")
    nlu.trained()
    write(nlu.data / "nlu.yml", "nlu:\n", TWO, answers, "At 9.\n")
    said = nlu.trained()
    waits = "nlu.yml: edited, but without a new example: what else changed waits for the next round, which one new"
    assert said.outcome["outcome"] == "nothing_new" and waits in said.out
    write(nlu.data / "nlu.yml", "nlu:\n", TWO, "    - bye\n", answers, "At 9.\n")
    assert waits not in nlu.trained().out
    assert json.loads((nlu.run / "model/config.json").read_text())["vocabulary"]["answer"][-1] == ["faq/when\tAt 9."]
    assert "waits" not in nlu.trained().out


def test_a_thousand_intents_in_one_round(nlu):
    write(nlu.data / "a.csv", "text,category\n", *(f"message {i},label_{i}\n" for i in range(1000)))
    assert nlu.trained().outcome["num_examples_trained"] == 1000
