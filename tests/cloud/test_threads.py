"""Which thread goes first where cores are few."""

import os
import sys
from threading import get_native_id

import pytest

from cloud.threads import in_background, result_of, step_aside


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives each thread a priority of its own")
def test_a_thread_that_steps_aside_never_takes_a_core_from_one_that_runs() -> None:
    def aside() -> tuple[int, int]:
        step_aside()
        return os.getpriority(os.PRIO_PROCESS, get_native_id()), os.sched_getscheduler(get_native_id())

    before = os.getpriority(os.PRIO_PROCESS, get_native_id()), os.sched_getscheduler(get_native_id())
    niceness, policy = result_of(in_background(aside, "aside"), lambda: None)
    assert niceness == min(19, before[0] + 10)
    assert policy in (os.SCHED_BATCH, before[1]), "where no other policy is known, the one before"
    assert before == (os.getpriority(os.PRIO_PROCESS, get_native_id()), os.sched_getscheduler(get_native_id()))
