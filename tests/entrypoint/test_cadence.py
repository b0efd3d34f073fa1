"""When a checkpoint within an epoch is due, under a clock that the test moves."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.history import History
from entrypoint.cadence import LEAST_SECONDS, MAX_SHARE, Cadence, balanced
from entrypoint.console import Console
from entrypoint.grace import Costs
from entrypoint.settings import JobConfig

positive = st.floats(1e-6, 1e6)
costs = st.floats(0, 1e5)


@given(cost=costs, more=costs, publishing=costs, between=positive, max_lost=positive)
def test_what_costs_more_is_not_done_more_often(cost, more, publishing, between, max_lost):
    seconds = balanced(cost, publishing, between, max_lost).seconds
    assert seconds <= balanced(cost + more, publishing, between, max_lost).seconds


@given(cost=costs, publishing=costs, between=positive, more=positive, max_lost=positive)
def test_what_is_interrupted_more_often_is_not_saved_more_seldom(cost, publishing, between, more, max_lost):
    seconds = balanced(cost, publishing, between, max_lost).seconds
    assert seconds <= balanced(cost, publishing, between + more, max_lost).seconds


@given(cost=costs, publishing=costs, between=positive, max_lost=positive)
def test_bounds(cost, publishing, between, max_lost):
    seconds = balanced(cost, publishing, between, max_lost).seconds
    assert cost <= MAX_SHARE * seconds * (1 + 1e-9)
    assert seconds >= publishing
    yields = max(cost / MAX_SHARE, publishing)
    assert seconds + publishing <= max(max_lost, yields + publishing) * (1 + 1e-9)


def test_between_the_bounds_it_is_the_formula_of_young_and_daly():
    assert balanced(0.1, 0.5, 10_000, 300).seconds == pytest.approx(math.sqrt(2 * 0.1 * 10_000))


@pytest.mark.parametrize(
    ("arguments", "seconds", "because"),
    [
        ((0.05, 2.0, 1e6, 60.0), 58.0, "no more than --max_lost_seconds 60 shall be lost"),
        ((0.001, 0.1, 1000.0, 60.0), LEAST_SECONDS, "saving costs next to nothing"),
        ((0.3, 0.1, 600.0, 60.0), 30.0, "saving takes no more than 1% of the time"),
        (
            (2.0, 5.0, 1e6, 60.0),
            200.0,
            "saving takes no more than 1% of the time, which comes before --max_lost_seconds 60",
        ),
        ((0.1, 90.0, 1e6, 60.0), 90.0, "publishing takes that long, which comes before --max_lost_seconds 60"),
    ],
)
def test_the_reason_is_the_bound_that_decided(arguments, seconds, because):
    chosen = balanced(*arguments)
    assert (chosen.seconds, chosen.because) == (pytest.approx(seconds), because)


class Job:
    """A job whose steps take a second, or `busy_seconds` while it publishes, for so many steps after a save."""

    def __init__(self, history: History | None = None, *, copying=0.01, busy=1.0, num_busy=2, **settings) -> None:
        self.now, self.saves, self._busy, self._num_busy, self._left = 0.0, [], busy, num_busy, 0
        self.costs, self._copying = Costs(), copying
        self.cadence = Cadence(
            JobConfig(**settings), self.costs, lambda: history or History(0, 0.0), Console(), lambda: self.now
        )

    def run(self, num_steps: int) -> list[float]:
        """The seconds between the saves."""
        for _ in range(num_steps):
            self.now += self._busy if self._left else 1.0
            self._left = max(0, self._left - 1)
            if self._left == 0 and self.saves:
                self.costs.publish_seconds = self._num_busy * self._busy
            if self.cadence.is_due(self._left > 0):
                self._save()
        return [after - before for before, after in zip([0.0, *self.saves], self.saves, strict=False)]

    def _save(self) -> None:
        self.now += self._copying
        self.costs.copy_seconds = self._copying
        self.saves.append(self.now)
        self._left = self._num_busy
        self.cadence.saved()


def test_the_first_save_comes_early_and_the_others_as_its_cost_says(capsys):
    gaps = Job().run(400)
    assert gaps[0] == pytest.approx(LEAST_SECONDS, abs=1.1)
    assert gaps[1:] == pytest.approx([math.sqrt(2 * 0.01 * 24 * 3600)] * len(gaps[1:]), abs=4)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("saving")]
    assert len(told) == 1
    assert told[0].startswith("saving      every 42 s: what is lost and what saving takes balance (a save takes 0.01 s")


def test_steps_that_publishing_slows_are_a_cost_of_the_save(capsys):
    gaps = Job(busy=1.5).run(2000)
    assert gaps[-1] == pytest.approx(100 * (0.01 + 2 * 0.5), abs=4)
    assert "1% of the time, which comes before --max_lost_seconds 60 (a save takes 1 s" in capsys.readouterr().out


def test_what_is_no_step_does_not_hide_that_publishing_slows_them(capsys):
    job = Job(busy=1.5)
    job.now = 1000.0  # a census
    gaps = job.run(2000)
    assert gaps[0] == pytest.approx(1000 + LEAST_SECONDS, abs=1.1), "one step alone is not worth a save"
    assert gaps[-1] == pytest.approx(100 * (0.01 + 2 * 0.5), abs=4)


def test_what_an_interruption_loses_has_the_rests_in_it():
    seconds = []
    for costs in (Costs(0.01, 20.0), Costs(0.01, 10.0, 10.0)):
        now = [0.0]
        cadence = Cadence(JobConfig(), costs, lambda: History(0, 0.0), Console(), lambda now=now: now[0])
        cadence.saved()
        while not cadence.is_due(is_publishing=False):
            now[0] += 1
        seconds.append(now[0])
    assert seconds == [40.0, 40.0], "with the time under way no more than --max_lost_seconds"


def test_as_long_as_nothing_was_published_it_saves_as_often_as_one_may_lose():
    now, due = [0.0], []
    cadence = Cadence(JobConfig(), Costs(copy_seconds=0.01), lambda: History(0, 0.0), Console(), lambda: now[0])
    while len(due) < 4:
        now[0] += 1
        if cadence.is_due(is_publishing=False):  # nothing is under way: the store fails
            due.append(now[0])
            cadence.saved()
    assert due == [11.0, 71.0, 131.0, 191.0]


def test_interruptions_that_were_seen_make_it_save_more_often(capsys):
    rare, often = Job(copying=0.05), Job(History(12, 3600.0), copying=0.05)
    time.sleep(0.05)  # the history is read in the background
    assert often.run(500)[-1] < 0.5 * rare.run(500)[-1]


def test_a_history_that_cannot_be_read_is_none():
    def fails():
        raise OSError

    cadence = Cadence(JobConfig(), Costs(copy_seconds=0.01, publish_seconds=0.1), fails, Console())
    cadence.saved()
    time.sleep(0.05)
    assert cadence.is_due(False) is False


def test_a_fixed_time_and_none(capsys):
    assert Job(save_every_seconds=5).run(60) == pytest.approx([5.0] * 11, abs=1.1)
    assert Job(save_every="epoch").run(200) == []
    assert capsys.readouterr().out == ""
