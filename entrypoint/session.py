"""One attempt at work: the place where trainer and cloud meet."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cloud.cache import ShardCache
from cloud.errors import CacheTooSmall, CloudError, Damaged, NoSuchBucket, StoreError, Unreachable, UrlError
from cloud.records import FileDigest
from cloud.wrapped import Counted
from entrypoint.attempt import Attempt
from entrypoint.census import Census
from entrypoint.ended import advice, check_promotion, facts, judge
from entrypoint.errors import Stopped, Unpublished
from entrypoint.export import export
from entrypoint.growth import Growth
from entrypoint.initial import Initial, initial
from entrypoint.places import EVAL, Places, cache_directory
from entrypoint.rebuild import rounds_of
from entrypoint.report import Report
from entrypoint.resume import adoptable, now_settings, resume, run_settings, task_name
from entrypoint.rounds import Rounds, check_unfinished
from entrypoint.saver import Saver
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.checkpoint import Payload
from trainer.data import Loader
from trainer.device import pick_device
from trainer.errors import DataError, TrainerError
from trainer.evaluate import Evaluation, best_metric
from trainer.ledger import Ledger, Round
from trainer.loop import EpochEnd, Training
from trainer.opened import OpenShards
from trainer.outline import Outline
from trainer.plan import is_done, settings_of, target
from trainer.settings import fields_of
from trainer.state import TrainState
from trainer.task import in_round, make_task, with_defaults
from trainer.vocabulary import Vocabulary
from trainer.world import World


class Session:
    """What an attempt works with, and how far it is. Its methods are the steps of `job.run`, in their order."""

    def __init__(
        self, held: Attempt, cache: ShardCache, places: Places, config: JobConfig, report: Report, stop: Stop
    ) -> None:
        self.task = make_task(config.task, config.sets)
        self.task.cache_directory = cache_directory(config) / "task"
        self.task.max_shard_bytes = int(config.max_shard_bytes)
        self._todays_sets = self.task.settings
        config = with_defaults(config, self.task)
        self.device = pick_device(config)
        self._num_threads = torch.get_num_threads()
        self.saver = Saver(config, held.folder, report, best_metric(self.task, config), stop)
        self._config, self._folder, self._report, self._stop = config, held.folder, report, stop
        report.best_metric = best_metric(self.task, config)
        decoded = cache_directory(config) / "decoded"
        self._opened = OpenShards(
            self.task, cache, config.memory_bytes, folder=decoded, disk_bytes=int(config.decoded_bytes)
        )
        census = Census(config, places.data, cache, self._opened, report.console, stop)
        self._growth = Growth(self.task, self._opened, config, self.device, report, stop)
        self._rounds = Rounds(config, census, report, fields_of(self.task.settings, "round"))
        self._output = places.output
        self._ledger = Ledger()
        self._ledger_files: tuple[FileDigest, ...] = ()
        self._outlines: tuple[Outline, ...] = ()
        self._state: TrainState | None = None
        self._adopted: Payload | None = None
        self._initial: Initial | None = None
        self._evaluation: Evaluation | None = None
        self._training: Training | None = None

    def restore(self, held: Attempt, scratch: Path) -> None:
        """Continue from the newest good checkpoint, if there is one."""
        with self._report.phase("restore"):
            found = resume(held, self.task, self._config, self.device, self._rounds)
            if found is None:
                found = adoptable(held.reading, self._config, scratch, self._stop.check)
        self._ledger, self._ledger_files, self._adopted = found.ledger, found.ledger_files, found.adopted
        self._outlines = found.outlines
        if found.state is not None:
            self._set_state(found.state)
        elif found.adopted is None:
            self._initial = initial(self._config, self.task, self.device, self._stop.check)
        self._report.resumed(found.name, found.rejected, self._initial.origin if self._initial else "")
        if found.healed is not None and found.state is not None:
            self._publish(found.state, found.healed.metrics if found.healed.whole_epoch else None)
        if self._config.rounds_from:
            self._rounds.other = rounds_of(self._config)

    def plan(self) -> Training | None:
        """What is left of the newest round, else the round that new shards form; None when all is done."""
        round = self._unfinished()
        if round is None and self._state is not None and not self._state.progress.kept_because:
            export(self._folder, self._output, task_name(self._config), self.task, self._state)
        changes = self._rounds.look(self._ledger)
        if round is not None:
            check_unfinished(self._ledger, round, changes)
            self._report.same(changes.num_same, self._rounds.num_waiting(changes))
        else:
            round = self._rounds.next(self._ledger, changes)
            if round is None:
                self._report.same(changes.num_same, self._rounds.num_waiting(changes))
                edited = [one.key for one in self._rounds.edited(changes) if not one.key.startswith(EVAL)]
                self._report.waits(edited, self.task.waits(self._known))
                return None
            self._report.data(round, changes.num_same, self._growth.new_labels(round, self._known))
            round = replace(round, starts_from=self._initial.origin if self._initial else "")
            self._begin(round)
        return self._train(round)

    @property
    def has_begun(self) -> bool:
        """Whether there is a round, so that the data was found once."""
        return len(self._ledger) > 0

    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop.requested is not None

    def train(self, training: Training) -> Iterator[EpochEnd | None]:
        """Take the steps that are left: None after a step, an EpochEnd after an epoch; both are places to save."""
        left = training.loader.num_steps_left(training.state.progress.example)
        with (
            self._report.phase("train"),
            self._report.console.progress(left, "train", "steps", tells_end=False) as bar,
        ):
            for epoch_end in training.run(self._evaluate, self.stopping):
                if epoch_end is None:
                    bar.update()
                yield epoch_end

    def save(self, training: Training, epoch_end: EpochEnd | None) -> None:
        """Publish the state as it is now, in the background."""
        training.settle()
        if epoch_end is not None:
            self._tell(training, epoch_end)
        self._publish(training.state, None if epoch_end is None else epoch_end.metrics)

    def _publish(self, state: TrainState, metrics: Mapping[str, Any] | None) -> None:
        """Have a state saved, with all that a checkpoint says beside it; `metrics` only after an epoch."""
        settings = {
            "run": run_settings(self._config, self.task),
            "round": self._ledger.header(len(self._ledger))["settings"],
            "now": now_settings(self._config, self.task, self.device),
        }
        rounds = [vars(outline) for outline in self._outlines]
        content = {**state.state_dict(), "settings": settings, "rounds": rounds}
        self.saver.save(content, self._ledger_files, metrics, state.frozen)

    def end_round(self, training: Training) -> None:
        """See that all is published; after a stop in the middle of the round, raise Stopped."""
        # What is saved already is not saved again; of somebody's own checkpoint with no epoch left to train nothing
        # is, and without a record of our own the next shards would count as trained.
        with self._report.phase("train"):  # of which the waiting for an earlier publication is taken off
            self.save(training, None)
        self.saver.wait()
        self._training = None
        if not training.is_done():
            if self.saver.last is not None:
                self._report.saved(self.saver.last)
            self._stop.check()
        elif training.state.progress.example < training.loader.goal.num_examples:
            self._report.early(training.state.progress)

    def done(self) -> None:
        """Nothing is left: say so."""
        self._report.done()

    def rescue(self, error: Exception) -> None:
        """Save the steps taken before the data or a store failed: they are as good as any.

        Without any nothing is saved: a round whose shards were never read may be formed anew. Raises Unpublished when
        a store's failure is what the attempt ends with.
        """
        self.saver.rescue()
        try:
            if self._training is not None and self._training.num_steps_taken:
                with self._report.phase("train"):
                    self.save(self._training, None)
            self.saver.wait()
        except Unpublished as failure:
            if isinstance(error, StoreError):
                raise failure from error
            self._report.console.warning(str(failure))
        except (CloudError, TrainerError, Stopped):
            return  # what ended the attempt is what the caller must hear of

    def _evaluate(self, state: TrainState) -> Mapping[str, Any] | None:
        """Scores on the evaluation data; None when a stop came first."""
        assert self._evaluation is not None
        with self._report.phase("evaluate"):
            try:
                return self._evaluation.scores(state, self.stopping)
            except Stopped:  # it came while a shard was waited for
                return None

    def _tell(self, training: Training, epoch_end: EpochEnd) -> None:
        """Say what came of an epoch, and of the round when it was its last: what is saved now is decided now."""
        progress = training.state.progress
        judge(self._config, progress, epoch_end.metrics)
        self._report.epoch(progress, epoch_end)
        if training.is_done():
            progress.note_promoted()
            assert self._evaluation is not None
            labels = self._evaluation.new_labels(training.state.vocabulary)
            end = facts(training.loader.round, labels, progress, epoch_end.metrics)
            self._report.round(end, advice(self._config, self._ledger, progress, training.loader.goal))

    def _set_state(self, state: TrainState) -> None:
        """Go on with this state; the report follows its progress."""
        self._state = state
        self._report.progress = state.progress

    def _unfinished(self) -> Round | None:
        """The newest round, when something of it is left to train or to evaluate."""
        if self._state is None:
            return None
        newest = self._ledger.heading(len(self._ledger))
        goal = target(newest, self._config, self._state.progress)
        patience = settings_of(newest.settings, self._config).early_stopping_epochs
        return None if is_done(self._state.progress, goal, patience) else self._ledger.round(newest.number)

    def _begin(self, round: Round) -> None:
        """Make `round` the newest, with a network grown for it, and publish its ledger before the first step."""
        ledger = self._ledger.with_round(round.to_lines)
        other = self._initial.state if self._initial else self._adopted
        self._set_state(self._growth.begin(ledger, round, self._known, self._state, other))
        self._initial = self._adopted = None
        file = self._folder.write_ledger(round.number, round.to_lines())
        self._ledger, self._ledger_files = ledger, (*self._ledger_files, file)
        self._outlines = (*self._outlines, Outline.of(round))

    @property
    def _known(self) -> Vocabulary:
        """The vocabulary before the next round."""
        start = self._initial.state if self._initial else self._state
        return start.vocabulary if start else Vocabulary()

    def _train(self, round: Round) -> Training:
        """The training of what is left of `round`."""
        assert self._state is not None, "a round has begun"
        settings = settings_of(round.settings, self._config)
        self.task.settings = in_round(self._todays_sets, round.settings.get("set", {}))
        goal = target(round, self._config, self._state.progress)
        as_asked = settings.model_copy(update={"batch_size": self._config.batch_size})  # a short round's may be small
        self._evaluation = Evaluation(self._ledger, self._opened, as_asked)
        check_promotion(self._config, self._state.progress.before, can_evaluate=bool(self._evaluation))
        loader = Loader(round, goal, self._opened, self._state.vocabulary, settings.seed, World())
        self._report.plan(round, goal, self._state.progress, loader.num_steps_left(self._state.progress.example))
        if not self._config.threads:
            torch.set_num_threads(self.task.num_threads(self._state.net) or self._num_threads)
        self._training = Training(self.task, self._state, loader, settings)
        return self._training


@contextmanager
def open_session(held: Attempt, places: Places, config: JobConfig, report: Report, stop: Stop) -> Iterator[Session]:
    """An attempt's session. When it has ended nothing is being published any longer, however it ended.

    Only a publication that would outlast the grace period is not waited for: the end of the process cuts it off.
    """
    cache = ShardCache(
        Counted(places.data, report.fetched), cache_directory(config), config.cache_bytes, check=stop.check
    )
    session: Session | None = None
    try:
        session = Session(held, cache, places, config, report, stop)
        yield session
        session.saver.wait()
    except Stopped:
        if session is not None:
            session.saver.wait()  # only what is committed may be called saved
        raise
    except (DataError, Damaged, CacheTooSmall, StoreError, UrlError) as error:
        if session is not None:
            session.rescue(error)
        if isinstance(error, NoSuchBucket) and (held.chosen is not None or (session is not None and session.has_begun)):
            raise _gone(error) from error
        raise
    finally:
        if session is not None:
            session.saver.abandon()
        cache.close()


def _gone(error: NoSuchBucket) -> Unreachable:
    """Data was found when the first round was formed, so this is hardly a wrong setting: it may come back."""
    what = str(error).partition(";")[0]
    return Unreachable(f"{what}, though data was found before: bring it back (is it mounted?), or mend the path")
