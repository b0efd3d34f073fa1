"""The state that a round begins with: vocabulary and network grown for what is new, and how well it did before."""

from collections.abc import Iterator
from typing import Any

import torch

from entrypoint.report import Report
from entrypoint.resume import adopted
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.checkpoint import Payload
from trainer.comparison import Before
from trainer.errors import Incomparable
from trainer.evaluate import Evaluation
from trainer.ledger import Ledger, Round
from trainer.opened import OpenShards
from trainer.parts import new_examples
from trainer.plan import Progress, target
from trainer.state import TrainState, grown, new_state
from trainer.task import Task, in_round
from trainer.vocabulary import Vocabulary


class Growth:
    """Begins rounds. Afterwards the task has the settings of today, with which it was given."""

    def __init__(
        self, task: Task, opened: OpenShards, config: JobConfig, device: torch.device, report: Report, stop: Stop
    ) -> None:
        self._task, self._opened, self._config, self._device = task, opened, config, device
        self._report, self._stop = report, stop
        self._todays_sets = task.settings

    def new_labels(self, round: Round, known: Vocabulary) -> list[str]:
        """The labels that the ledger does not know and the network neither, which may be another run's."""
        names = (name for kind in self._task.label_kinds for name in known.names(kind))
        today = {self._task.label_today(known, name) for name in names}
        return [label for label in round.labels if self._task.label_today(known, label) not in today]

    def begin(
        self,
        ledger: Ledger,
        round: Round,
        known: Vocabulary,
        state: TrainState | None,
        other: TrainState | Payload | None,
    ) -> TrainState:
        """The state at the beginning of `round`, the last of `ledger`, from that at the end of the one before.

        The first round has no `state`; `other` is then the one of another run, or somebody's own checkpoint. `known` is
        the vocabulary so far.
        Raises what labels or examples that do not fit raise.
        """
        evaluation = Evaluation(ledger, self._opened, self._config)
        start = other if isinstance(other, TrainState) else state
        evaluation.check_labels(known)
        before = None if state is None else self._before(state, ledger.header(round.number - 1), evaluation)
        self._task.settings = self._todays_sets
        oov_rate = self._task.oov_rate(known, self._new_examples(round)) if start else None
        vocabulary = self._task.grow(known, round.labels, self._new_examples(round, with_resources=True))
        if isinstance(other, Payload):
            num_examples = target(round, self._config, Progress()).epoch_examples
            begun = adopted(other, self._task, self._config, self._device, vocabulary, num_examples)
        else:
            begun = self._grown(start, vocabulary)
            begun.progress = begun.progress.in_round(round.number)
        self._task.begin_round(begun.net, vocabulary, self._new_examples(round))
        begun.progress.before, begun.progress.oov_rate = before, oov_rate
        return begun

    def _before(self, state: TrainState, header: dict[str, Any], evaluation: Evaluation) -> Before | None:
        """What the network says of today's evaluation data before another round; None where it can say nothing."""
        self._task.settings = in_round(self._todays_sets, header["settings"].get("set", {}))
        with self._report.phase("train"), self._report.phase("evaluate"):
            try:
                before = evaluation.before(state, lambda: self._stop.requested is not None)
            except Incomparable as error:
                text = f"the network as it was cannot be judged on today's evaluation data: {error}"
                self._report.console.warning(f"{text}; forgetting and flips are not told")
                return None
        self._stop.check()
        return before

    def _grown(self, start: TrainState | None, vocabulary: Vocabulary) -> TrainState:
        if start is None:
            return new_state(self._task, vocabulary, self._config, self._device)
        return grown(start, self._task, vocabulary, self._config)

    def _new_examples(self, round: Round, *, with_resources: bool = False) -> Iterator[Any]:
        """What the round brings, example by example."""
        return new_examples(round, self._opened, self._stop.check, with_resources=with_resources)
