"""The table of a round: it fits a log, and nothing that a task calls its scores breaks it."""

from typing import Any

from entrypoint.ended import WIDTH, lines

BEFORE = {"f1": 0.9, "loss": 12.5, "num_examples": 100}
NOW: dict[str, Any] = {"f1": 0.875, "loss": 10.25, "per_label": {}, "num_examples": 120}
FLIPS = {
    "num_compared": 100, "negative_flips": 4, "negative_flip_rate": 0.04, "positive_flips": 1,
    "positive_flip_rate": 0.01,
}  # fmt: skip


def cells(line: str) -> list[str]:
    return line.split()


def test_old_and_new_labels_stand_apart_beside_the_change() -> None:
    old, new = {"f1": 0.85, "loss": 11.5, "num_examples": 100}, {"f1": 1.0, "loss": 4.0, "num_examples": 20}
    metrics = {**NOW, "old_labels": old, "new_labels": new, "before": BEFORE, "flips": FLIPS}
    head, f1, loss, examples, flipped = lines(metrics)
    assert head.split("  ")[0] == "score"
    assert cells(f1) == ["f1", "0.9000", "0.8500", "-0.0500", "1.0000", "0.8750", "-0.0250"]
    assert cells(loss) == ["loss", "12.5", "11.5", "-1.0000", "4.0000", "10.25", "-2.2500"]
    assert cells(examples) == ["examples", "100", "100", "20", "120"]
    assert flipped == "of 100 examples of old labels, 4 went from right to wrong, 1 from wrong to right (4.0 %, 1.0 %)"


def test_without_new_labels_old_is_all_there_is() -> None:
    same = {**NOW, "num_examples": 100}
    head, f1, *_ = lines({**same, "old_labels": same, "before": BEFORE})
    assert cells(head) == ["score", "before", "all", "labels", "change"]
    assert cells(f1) == ["f1", "0.9000", "0.8750", "-0.0250"]


def test_without_a_network_before_there_are_the_scores() -> None:
    assert [cells(line) for line in lines(NOW)] == [
        ["score", "all", "labels"], ["f1", "0.8750"], ["loss", "10.25"], ["examples", "120"]
    ]  # fmt: skip


def test_long_and_odd_names_fit_the_line() -> None:
    names = ["x" * 200, "[bold]f1[/bold]", "größe", "a\nb"]
    scores = dict.fromkeys(names, 0.5) | {"num_examples": 9}
    told = lines({**scores, "old_labels": scores, "new_labels": scores, "before": scores, "flips": FLIPS})
    assert all(len(line) <= WIDTH for line in told)
    assert any("[bold]f1[/bold]" in line for line in told)
