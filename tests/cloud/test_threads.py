"""Which thread goes first where cores are few."""

import os
import sys
from contextlib import suppress
from threading import get_native_id

import pytest

from cloud.threads import in_background, result_of, step_aside


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives each thread a priority of its own")
def test_a_thread_that_steps_aside_never_takes_a_core_from_one_that_runs() -> None:
    def rank() -> tuple[int, int]:
        return os.getpriority(os.PRIO_PROCESS, get_native_id()), os.sched_getscheduler(get_native_id())

    def aside() -> tuple[int, int]:
        step_aside()
        return rank()

    before = rank()
    expected = min(19, before[0] + 10), result_of(in_background(_batch_if_known, "policy"), lambda: None)
    assert result_of(in_background(aside, "aside"), lambda: None) == expected
    assert rank() == before, "of the thread itself alone"


def _batch_if_known() -> int:
    """The policy of a thread that asks for this one: some sandboxes know no other than that before."""
    with suppress(OSError):
        os.sched_setscheduler(get_native_id(), os.SCHED_BATCH, os.sched_param(0))
    return os.sched_getscheduler(get_native_id())
