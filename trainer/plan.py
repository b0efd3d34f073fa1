"""What remains to be done: pure functions of settings and ledger."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from trainer.comparison import Before
from trainer.draw import sample, stream
from trainer.errors import CheckpointError
from trainer.heading import Heading
from trainer.ledger import Ledger, Replay, Round, Shard, total_labels, without_new
from trainer.settings import TrainSettings, fields_of

MAX_WINDOW_EXAMPLES = 2**20
"""More are not shuffled together: their order would take a second to make, and much memory to hold."""

TARGETS = ("epochs", "epoch_fraction", "finetune_epochs", "new_label_epochs")
"""Round settings that may still change for the newest round: they only say how long it lasts."""


@dataclass(kw_only=True)
class Progress:
    """A place in the training. `epoch`, `global_step` and `num_examples` count from the beginning and are never reset.

    `example` is the place within the round: how many of its examples were trained. `loss_sum` and `seconds` are those
    of the epoch under way, `train_seconds` those of all steps ever, waiting for their data included. `waits_for` is
    what comes next. `best` is the best score of the round, reached in `best_epoch`.

    What the round did: `before` is the network before it on the same evaluation data, `oov_rate` the share of the new
    examples that the vocabulary lacked, `scores` the numbers of the newest evaluation. `kept_because` says why the
    network as of that evaluation may not replace the exported model; "": it may. `promoted_scores` are the lowest and
    the highest of each score over the models that might.
    """

    round: int = 0
    epoch: int = 0
    global_step: int = 0
    num_examples: int = 0
    example: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    train_seconds: float = 0.0
    waits_for: Literal["train", "evaluate"] = "train"
    best: float | None = None
    best_epoch: int = 0
    before: Before | None = None
    oov_rate: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    kept_because: str = ""
    promoted_scores: dict[str, list[float]] = field(default_factory=dict)

    def note_promoted(self) -> None:
        """The network as it is may be exported: its scores are among those that later ones are compared with."""
        if not self.kept_because:
            self.promoted_scores = widened(self.promoted_scores, self.scores)

    def note_score(self, score: float | None) -> None:
        """Remember the best score of the round (higher is better) and the epoch that reached it."""
        if score is not None and (self.best is None or score > self.best):
            self.best, self.best_epoch = score, self.epoch

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Progress":
        """The inverse of dataclasses.asdict; CheckpointError when it is not one."""
        try:
            before = Before(**plain["before"]) if plain.get("before") else None
            return cls(**{**plain, "before": before})
        except TypeError as error:
            raise CheckpointError(f"progress: {error}") from error

    def in_round(self, number: int) -> "Progress":
        """The beginning of round `number`."""
        self.note_promoted()
        return Progress(
            round=number,
            epoch=self.epoch,
            global_step=self.global_step,
            num_examples=self.num_examples,
            train_seconds=self.train_seconds,
            best_epoch=self.epoch,
            promoted_scores=self.promoted_scores if number > 1 else {},  # another run's are none of this folder's
        )


def widened(ranges: Mapping[str, Sequence[float]], scores: Mapping[str, float]) -> dict[str, list[float]]:
    """Lowest and highest of each score, with those of one more model; again with the same model they stay."""
    known = {name: list(pair) for name, pair in ranges.items()}
    for name, value in scores.items():
        low, high = known.get(name, (value, value))
        known[name] = [min(low, value), max(high, value)]
    return known


@dataclass(frozen=True, kw_only=True)
class Target:
    """How long a round lasts: `num_epochs` epochs of `epoch_examples` examples, over passes of `pass_examples`."""

    num_epochs: int
    epoch_examples: int
    pass_examples: int

    @property
    def num_examples(self) -> int:
        """Examples to train in the whole round."""
        return self.num_epochs * self.epoch_examples


def settings_of(fixed: Mapping[str, Any], settings: TrainSettings) -> TrainSettings:
    """The settings that hold for a round: those of class "round" as they were when it started, but its length.

    One that did not exist then has its default, which changes nothing.
    """
    names, fields = fields_of(settings, "round").keys() - TARGETS, type(settings).model_fields
    held = {name: fixed.get(name, fields[name].default) for name in names}
    return type(settings).model_validate({**settings.model_dump(), **held})


def target(round: Round | Heading, settings: TrainSettings, done: Progress) -> Target:
    """How long `round` lasts under today's settings: never shorter than the epoch that is under way."""
    pass_examples = round.num_new + round.num_old
    epoch_examples = int(round.settings.get("examples_per_epoch", 0)) or pass_examples
    started = math.ceil(done.example / epoch_examples) if done.round == round.number and epoch_examples else 0
    at_least = math.ceil(_min_round_steps(round, settings) / max(1, _epoch_steps(round, epoch_examples)))
    num_epochs = max(started, at_least, epochs_of(round, settings))
    return Target(num_epochs=num_epochs, epoch_examples=epoch_examples, pass_examples=pass_examples)


def trains_anew(round: Round | Heading) -> bool:
    """Whether it trains a new network: the first round does, unless it starts from another run's."""
    return round.number == 1 and not round.starts_from


def epochs_of(round: Round | Heading, settings: TrainSettings) -> int:
    """Epochs that the settings ask of a round."""
    if trains_anew(round):
        return settings.epochs
    more = settings.new_label_epochs if round.labels else 0
    return settings.finetune_epochs or math.ceil(settings.epochs * settings.epoch_fraction) + more


def _epoch_steps(round: Round | Heading, epoch_examples: int) -> int:
    return math.ceil(epoch_examples / int(round.settings.get("batch_size", 1)))


def _min_round_steps(round: Round | Heading, settings: TrainSettings) -> int:
    """What `--min_round_steps` asks of a round: nothing of one whose epochs are given by their number."""
    by_number = trains_anew(round) or settings.finetune_epochs
    return 0 if by_number else int(round.settings.get("min_round_steps", 0))


def is_done(progress: Progress, goal: Target, patience: int) -> bool:
    """Whether a round is trained and evaluated, or its score has not risen for `patience` epochs (0: never early)."""
    if progress.waits_for == "evaluate":
        return False
    early = 0 < patience <= progress.epoch - progress.best_epoch and progress.best is not None
    return early or progress.example >= goal.num_examples


def next_round(
    ledger: Ledger,
    new: Sequence[Shard],
    removed: Iterable[str],
    settings: TrainSettings,
    window_bytes: int,
    sets: Mapping[str, Any] | None = None,
) -> Round | None:
    """The round that `new` shards form after those of the ledger; None when they bring nothing to train.

    `sets` are the task's own settings of class "round".
    """
    number = len(ledger) + 1
    gone = frozenset(removed) - ledger.removed()
    train = [shard for shard in new if shard.split == "train"]
    if not sum(shard.num_new for shard in train):
        return None
    known = ledger.rounds_of_labels()
    labels = sorted(label for label in total_labels(train) if label and label not in known)
    fixed = Round(
        number=number,
        settings={**fields_of(settings, "round"), **({"set": dict(sets)} if sets else {})},
        window_bytes=window_bytes,
        labels=tuple(labels),
        removed=tuple(sorted(gone)),
        shards=tuple(new),
    )
    old_labels = _old_labels(ledger, fixed)
    whole = replace(fixed, old_labels=old_labels, replay=tuple(_replay(ledger, fixed, old_labels, settings)))
    return _with_window(_with_batch_size(whole, settings))


def _old_labels(ledger: Ledger, round: Round) -> dict[str, int]:
    """How many old examples of each label are still there, where some of them are to be trained along."""
    if round.settings["old_data"] == "none":
        return {}
    is_as_it_was = not round.removed and all(shard.new is None for shard in round.shards)
    known = ledger.label_totals() if is_as_it_was else None
    if known is not None:  # else a million shards are read for it
        return dict(sorted(known.items()))
    totals = Counter[str]()
    for shard in _old(ledger, round):
        for label, num in shard.old_labels().items():
            totals[label] += num
    return dict(sorted(totals.items()))


def _with_window(round: Round) -> Round:
    """The round with windows of no more examples than are shuffled together, as long as its shards are alike."""
    num_examples = round.num_new + round.num_old
    if num_examples <= MAX_WINDOW_EXAMPLES:
        return round
    num_bytes = sum(shard.size for shard in round.shards if shard.split == "train" and shard.num_new)
    num_bytes += sum(replay.shard.size for replay in round.replay)
    at_most = max(1, num_bytes * MAX_WINDOW_EXAMPLES // num_examples)
    return replace(round, window_bytes=min(round.window_bytes, at_most))


def _with_batch_size(round: Round, settings: TrainSettings) -> Round:
    """The round with the batches asked for, or with ones just so small that it has the steps asked for.

    Few examples are to be learned too.
    """
    fraction = 1 if trains_anew(round) else settings.batch_size_fraction
    largest = math.ceil(settings.batch_size * fraction)
    num_examples = settings.examples_per_epoch or round.num_new + round.num_old
    of_all = num_examples * epochs_of(round, settings)
    asked = ((num_examples, settings.min_epoch_steps), (of_all, _min_round_steps(round, settings)))
    at_most = [max(1, (examples - 1) // (steps - 1)) for examples, steps in asked if steps > 1]
    return replace(round, settings={**round.settings, "batch_size": min([largest, *at_most])})


def _replay(ledger: Ledger, round: Round, totals: Mapping[str, int], settings: TrainSettings) -> Iterator[Replay]:
    """The old examples of a round, by the rule of `--old_data`; `totals` are how many there are of each label."""
    if settings.old_data == "none" or not len(ledger):
        return
    if settings.old_data == "all":
        yield from (Replay(shard=shard, picks=None) for shard in _old(ledger, round) if shard.old_labels())
        return
    replay = settings.replay * (settings.new_label_replay if round.labels else 1)
    at_least = _lacking(round, totals, settings.min_replay) if replay else {}
    shares = balanced(totals, round.num_new * replay, at_least)
    chosen = {
        label: sample(stream(settings.seed, "replay", round.number, *label.encode()), num, totals[label])
        for label, num in shares.items()
    }
    yield from _assign(_old(ledger, round), chosen)


def _old(ledger: Ledger, round: Round) -> Iterator[Shard]:
    """Training shards of earlier rounds that are still there, an edited one as it is now."""
    edited = {shard.key: shard for shard in round.shards}
    gone = ledger.removed() | frozenset(round.removed)
    for shard in ledger.known():
        if shard.split == "train" and shard.key not in gone:
            yield edited.get(shard.key, without_new(shard))


def _lacking(round: Round, totals: Mapping[str, int], at_least: int) -> dict[str, int]:
    """How many old examples of each label it takes for the round to have `at_least` with those it brings."""
    new = round.labels_of_new()
    return {label: max(0, min(at_least - new[label], total)) for label, total in totals.items()}


def balanced(totals: Mapping[str, int], wanted: float, at_least: Mapping[str, int]) -> dict[str, int]:
    """Shares of `wanted` examples, equal over labels as far as each has that many; what is left over goes by name.

    No share is below that of `at_least`, which may come to more than is wanted.
    """

    def shares_at(level: int) -> dict[str, int]:
        return {label: min(total, max(level, at_least.get(label, 0))) for label, total in sorted(totals.items())}

    num = round(min(wanted, sum(totals.values())))
    levels = range(1, max(totals.values(), default=0) + 1)
    level = bisect_right(levels, num, key=lambda level: sum(shares_at(level).values()))
    shares = shares_at(level)
    left = max(0, num - sum(shares.values()))
    for label in [label for label in shares if shares[label] == level < totals[label]][:left]:
        shares[label] += 1
    return shares


def _assign(shards: Iterable[Shard], chosen: Mapping[str, Sequence[int]]) -> Iterator[Replay]:
    """Turn ordinals over all old examples of a label into ordinals within each shard, reading the shards once."""
    seen = dict.fromkeys(chosen, 0)
    places = dict.fromkeys(chosen, 0)
    for shard in shards:
        picks: dict[str, tuple[int, ...]] = {}
        for label, num in shard.old_labels().items():
            start, first = places[label], seen[label]
            while places[label] < len(chosen[label]) and chosen[label][places[label]] < first + num:
                places[label] += 1
            if places[label] > start:
                picks[label] = tuple(ordinal - first for ordinal in chosen[label][start : places[label]])
            seen[label] = first + num
        if picks:
            yield Replay(shard=shard, picks=picks)
