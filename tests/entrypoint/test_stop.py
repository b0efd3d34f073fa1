import os
import signal
import subprocess
import sys
import time

import pytest

from entrypoint.errors import Stopped
from entrypoint.stop import Stop


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_first_reason_stays():
    clock = Clock()
    stop = Stop(clock)
    stop.check()
    assert stop.requested is None
    clock.now = 105.0
    stop.request("SIGTERM")
    clock.now = 106.0
    stop.request("SIGINT")
    assert (stop.requested, stop.at) == ("SIGTERM", 105.0)
    with pytest.raises(Stopped, match=r"^SIGTERM$"):
        stop.check()


def test_the_time_limit_counts_from_the_start():
    clock = Clock()
    stop = Stop(clock)
    clock.now += 50
    stop.limit(60)
    clock.now += 9.9
    assert stop.requested is None
    clock.now += 0.1
    assert stop.requested == "--max_run_seconds 60 reached"
    assert stop.at == 160.0


def test_no_limit():
    clock = Clock()
    stop = Stop(clock)
    stop.limit(0)
    clock.now += 1e9
    assert stop.requested is None


def test_asking_is_cheap_enough_for_every_step():
    stop = Stop()
    stop.limit(3600)
    best = min(_seconds_of_1000(stop) for _ in range(20))
    assert best / 1000 < 5e-6  # measured 0.2 us; the bound only catches a change of kind


def _seconds_of_1000(stop):
    started = time.perf_counter()
    for _ in range(1000):
        stop.requested  # noqa: B018 - the property is what is measured
    return time.perf_counter() - started


WAITER = """
import sys, time
from entrypoint.stop import Stop
stop = Stop()
stop.install()
{more}
print("ready", flush=True)
while stop.requested is None:
    time.sleep(0.01)
print(stop.requested, flush=True)
{after}
"""


def start(more="", after=""):
    code = WAITER.format(more=more, after=after)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_nothing_else(number):
    process = start()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (out, process.returncode) == (f"{number.name}\n", 0)
    assert ("second SIGINT" in err) == (number == signal.SIGINT)


@pytest.mark.parametrize(("more", "code"), [("", 143), ("stop.leave_with(200)", 200)])
def test_a_second_sigint_leaves_at_once(more, code):
    process = start(more, after="time.sleep(60)")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "SIGINT\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert err.splitlines()[-1].startswith("perdure: left at once")


HANGING = "with stop.grace({seconds}): time.sleep({sleeps})"


@pytest.mark.parametrize(("more", "code"), [("", 143), ("stop.leave_with(200)", 200)])
def test_what_hangs_after_a_stop_is_left_at_the_end_of_the_grace_period(more, code):
    process = start(more, after=HANGING.format(seconds=0.5, sleeps=60))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (out, process.returncode) == ("SIGTERM\n", code)
    assert err == (
        "perdure: error: stopped by SIGTERM, and not done within --grace_seconds 0.5: "
        "only what was published before is saved; submit again to continue\n"
    )


def test_what_is_done_in_time_is_not_disturbed():
    process = start(after=HANGING.format(seconds=0.5, sleeps=0.1) + "\ntime.sleep(1)")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == ("SIGTERM\n", "", 0)


def test_the_grace_period_of_a_time_limit_needs_nobody_who_asks():
    process = start(
        "stop.request('x')", after="again = Stop(); again.limit(0.3)\nwith again.grace(0.3): time.sleep(60)"
    )
    _, err = process.communicate(timeout=10)
    assert process.returncode == 143
    assert "stopped by --max_run_seconds 0.3 reached, and not done within --grace_seconds 0.3" in err


def test_sigint_after_sigterm_is_the_first_sigint():
    process = start(after="time.sleep(0.3)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "SIGTERM\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_signal_while_the_interpreter_ends_changes_nothing():
    after = """
import os
class Late:
    def __del__(self, write=os.write, kill=os.kill, pid=os.getpid()):
        write(1, b"late\\n")  # modules are torn down, and the interpreter gave the signals back before
        kill(pid, 15)
late = Late()
"""
    process = start(after=after)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert out == "SIGTERM\nlate\n", err
    assert process.returncode == 0


STUCK = """
import hashlib, os, time
from entrypoint.stop import Stop
stop = Stop()
stop.install()
{more}
with stop.grace({seconds}):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, where no Python handler runs
"""


def stuck(seconds, more=""):
    code = STUCK.format(seconds=seconds, more=more)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("sent", [(signal.SIGTERM,), (signal.SIGTERM, signal.SIGTERM)])
def test_one_long_operation_in_the_main_thread_is_left_at_the_end_of_the_grace_period(sent):
    process = stuck(0.6, "stop.newest = 'ckpt_3-a2'; stop.last_words = lambda: print('words', flush=True)")
    for number in sent:
        process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - started < 3
    assert (out, process.returncode) == ("words\n", 143)
    assert err == (
        "perdure: error: stopped by SIGTERM, and not done within --grace_seconds 0.6: only what was published before "
        "is saved (the newest: ckpt_3-a2); submit again to continue\n"
    )


def test_a_second_sigint_leaves_a_long_operation_at_once():
    process = stuck(30)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("perdure: stopping at the next step")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 143
    assert err.startswith("perdure: left at once")


def test_nobody_who_reads_our_stderr_or_last_words_that_hang_do_not_keep_us():
    process = stuck(0.5, "os.write(2, b'x' * 65536); stop.last_words = lambda: time.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    process.stdout.close()
    process.stderr.close()


def test_the_time_that_is_left_is_infinite_until_a_stop():
    clock = Clock()
    stop = Stop(clock)
    with stop.grace(25):
        assert stop.seconds_left == float("inf")
        stop.request("SIGTERM")
        clock.now += 10
        assert stop.seconds_left == 25 - 2 - 10


def test_signals_go_back_to_whoever_had_them():
    receiver, sender = os.pipe2(os.O_NONBLOCK)
    earlier = signal.set_wakeup_fd(sender)
    try:
        with Stop().grace(25):
            pass
        assert signal.set_wakeup_fd(earlier) == sender
    finally:
        os.close(receiver)
        os.close(sender)


FORKED = """
import multiprocessing, os, signal, time
from entrypoint.stop import Stop
stop = Stop()
stop.install()
with stop.grace(30):
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    time.sleep(0.3)
    worker.terminate()
    worker.join(10)
    time.sleep(0.5)
    print(worker.exitcode, stop.requested)
"""


def test_a_forked_workers_signals_are_its_own():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert done.stdout == "-15 None\n"
