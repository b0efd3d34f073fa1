"""What a round did: whether its model is promoted, and the facts, as one JSON object and as a table."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from entrypoint.errors import SettingsError
from entrypoint.phrases import count, duration, new_labels
from entrypoint.promote import Measured, parse, reason_against, unknown_scores
from entrypoint.settings import JobConfig
from trainer.comparison import Before, flips, forgetting, named_scores, numbers
from trainer.ledger import Ledger, Round
from trainer.plan import Progress, Target

WIDTH = 108
"""Of a table: with its indent it fits a log of 120 columns."""


def check_promotion(config: JobConfig, before: Before | None, *, can_evaluate: bool) -> None:
    """SettingsError where --promote_if can never hold: without evaluation data, or for a score that there is not."""
    clauses = parse(config.promote_if)
    if clauses and not can_evaluate:
        raise SettingsError(
            f"--promote_if {config.promote_if!r}: there is no evaluation data to judge by; "
            "put shards into eval/ of --data_url, or leave it out"
        )
    if before is None:
        return
    scores: dict[str, Any] = dict(before.scores)
    own = {**scores, "flips": flips([True], [True])}
    groups = {"old_labels": scores, "new_labels": scores, "forgetting": forgetting(scores, scores)}
    if unknown := unknown_scores(clauses, list(named_scores({**own, **groups}))):
        raise SettingsError(
            f"--promote_if: no score is called {unknown[0]}; there are: {', '.join(named_scores(own))}; of some labels "
            f"only {', '.join(f'{group}.NAME' for group in groups)}"
        )


def judge(config: JobConfig, progress: Progress, metrics: Mapping[str, Any]) -> None:
    """Note the scores of an epoch's end, and why its network may not be exported. The first round's always may."""
    progress.scores = named_scores(metrics)
    before = metrics.get("before", {})
    measured = Measured(scores=progress.scores, before=before, promoted=progress.promoted_scores)
    progress.kept_because = "" if progress.round == 1 else reason_against(parse(config.promote_if), measured)


def facts(round: Round, labels: Sequence[str], progress: Progress, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to know of a round that has ended, as JSON. `labels` are those that it brought."""
    return {
        "kind": "round",
        "round": round.number,
        "epoch": progress.epoch,
        "global_step": progress.global_step,
        "num_examples": progress.num_examples,
        "num_new": round.num_new,
        "num_old": round.num_old,
        "new_labels": list(labels),
        "oov_rate": progress.oov_rate,
        "metrics": {name: value for name, value in metrics.items() if name not in ("by_round", "by_label_round")},
        "promoted": not progress.kept_because,
        "kept_because": progress.kept_because,
    }


def advice(config: JobConfig, ledger: Ledger, progress: Progress, goal: Target) -> str:
    """What to do when the model was not promoted, with what it would cost, at the speed measured so far; else ""."""
    if not progress.kept_because:
        return ""
    gone = ledger.removed()
    total = sum(shard.num_examples for shard in ledger.known() if shard.split == "train" and shard.key not in gone)
    num_examples = config.epochs * (config.examples_per_epoch or total)
    takes = duration(num_examples * progress.train_seconds / max(1, progress.num_examples))
    what = f"{count(config.epochs, 'epoch')} of {num_examples // config.epochs} examples, about {takes}"
    return (
        f"train from scratch in another --train_url ({what}), or relax --promote_if and add an epoch "
        f"(--finetune_epochs {goal.num_epochs + 1}), after which it is judged anew"
    )


def headline(end: Mapping[str, Any]) -> str:
    """What the round was about, in a line."""
    old = f" and {end['num_old']} old" if end["num_old"] else ""
    oov = end["oov_rate"]
    words = "" if oov is None else f", {100 * oov:.1f} % of its words were new"
    labels = new_labels([str(label) for label in end["new_labels"]])
    return f"{end['round']}: {end['num_new']} new{old} examples{labels}{words}; on the evaluation data:"


def lines(metrics: Mapping[str, Any]) -> list[str]:
    """Scores before and now, of old, new and all labels, and how many predictions flipped; a line each."""
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, color_system=None, force_terminal=False).print(_table(metrics))
    return [*(line.rstrip() for line in buffer.getvalue().splitlines()), *_flipped(metrics.get("flips", {}))]


def _table(metrics: Mapping[str, Any]) -> Table:
    old, new, before = (metrics.get(name, {}) for name in ("old_labels", "new_labels", "before"))
    own = numbers(metrics)
    columns: dict[str, Mapping[str, str]] = {"before": _texts(before, own)}
    if new:
        columns |= {"old labels": _texts(old, own), "change": _changes(before, old), "new labels": _texts(new, own)}
    columns |= {"all labels": _texts(metrics, own), "change ": _changes(before, own)}
    shown = {name: texts for name, texts in columns.items() if texts}
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("score", overflow="fold")
    for name in shown:
        table.add_column(name.strip(), justify="right")
    for name in own:
        table.add_row(Text(name), *(texts.get(name, "") for texts in shown.values()))
    groups = {"before": before, "old labels": old, "new labels": new, "all labels": metrics}
    table.add_row("examples", *(str(groups.get(name, {}).get("num_examples", "")) for name in shown))
    return table


def _texts(scores: Mapping[str, Any], names: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}" for name, value in numbers(scores).items()
            if name in names}  # fmt: skip


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    known = numbers(before)
    return {name: f"{value - known[name]:+.4f}" for name, value in numbers(now).items() if name in known}


def _flipped(found: Mapping[str, Any]) -> list[str]:
    if not found:
        return []
    num, wrong, right = (found[name] for name in ("num_compared", "negative_flips", "positive_flips"))
    share = f"{100 * found['negative_flip_rate']:.1f} %, {100 * found['positive_flip_rate']:.1f} %"
    return [f"of {num} examples of old labels, {wrong} went from right to wrong, {right} from wrong to right ({share})"]
