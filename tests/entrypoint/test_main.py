import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ["--train_url", "run", "--data_url", "data", "--task", "images"]


def perdure(*argv, environ=None):
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
    environ = {**plain, "PYTHONPATH": str(ROOT), **(environ or {})}
    return subprocess.run(
        [sys.executable, "-m", "entrypoint", *argv],
        env=environ, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--epochs", "-1"], "perdure: error: --epochs -1: must be at least 1 (from the command line)"),
        (["train", "--epocs=3"], "perdure: error: --epocs: no such setting; did you mean --epochs?"),
        (["--config", "/no/such/job.yaml"], "perdure: error: --config /no/such/job.yaml: No such file or directory"),
        ([*NEEDED, "--keep_last", "1"], "perdure: error: --keep_last 1: must be at least 2 (from the command line)"),
    ],
)
def test_wrong_settings_are_one_line_and_78(argv, line):
    done = perdure(*argv)
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_help_comes_within_a_second():
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = perdure("--help")
        seconds.append(time.monotonic() - started)
    assert done.returncode == 0
    assert "--train_url URL" in done.stdout
    assert "default 10, at least 1; round" in " ".join(done.stdout.split())
    assert min(seconds) < 1


def test_help_of_a_command_shows_what_it_reads():
    done = perdure("index", "--help")
    assert "--data_url" in done.stdout
    assert "--epochs" not in done.stdout


def test_early_answers_need_no_torch():
    code = "import sys; from entrypoint.__main__ import main; main(['--epochs', '-1']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_claim_does_not_wait_for_torch():
    code = "import sys, entrypoint.job; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_version():
    done = perdure("--version")
    assert done.stdout.startswith("perdure ")
    assert done.returncode == 0


def test_show_settings_ends_well_or_says_what_lacks():
    done = perdure(*NEEDED, "--show_settings", environ={"PERDURE_EPOCHS": "4"})
    assert done.returncode == 0
    assert "PERDURE_EPOCHS" in done.stdout
    done = perdure("--show_settings", "--data_url", "data")
    assert done.returncode == 78
    assert "required, not given" in done.stdout
    assert done.stderr.startswith("perdure: error: --train_url: is required")


@pytest.mark.parametrize("argv", [["--help"], [*NEEDED, "--show_settings"], ["--epochs", "-1"]])
def test_a_closed_pipe_gives_no_traceback(argv):
    read_end, write_end = os.pipe()
    command = f'"$0" -m entrypoint "$@" 2>&{write_end} | true'
    subprocess.run(["bash", "-c", command, sys.executable, *argv], pass_fds=[write_end], cwd=ROOT, check=True)
    os.close(write_end)
    with os.fdopen(read_end) as err:
        said = err.read()
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("importing", flush=True)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                pass
sys.meta_path.insert(0, Slow())
from entrypoint.__main__ import main
sys.exit(main({argv!r}))
"""


@pytest.mark.parametrize(
    ("module", "more", "code"),
    [
        ("pydantic", [], 143),
        ("pydantic", ["--retry_exit_code", "200"], 200),
        ("entrypoint.config", [], 143),
        ("torch", [], 143),
    ],
)
def test_sigterm_during_the_imports_is_a_stop(module, more, code, tmp_path):
    (tmp_path / "data").mkdir()
    argv = ["--train_url", str(tmp_path / "run"), "--data_url", str(tmp_path / "data"), "--task", "images", *more]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_IMPORT.format(name=module, argv=argv)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = iter(process.stdout.readline, "")
    assert "importing\n" in said
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.splitlines()[-1] == "perdure: error: stopped by SIGTERM: submit again to continue"


UNFORESEEN = """
import sys
from entrypoint import commands
from entrypoint.__main__ import main
def run(config, stop, console):
    {body}
commands.COMMANDS["ours"] = commands.Command(help="x", required=(), reads=frozenset(), run=run)
sys.exit(main(["ours", *sys.argv[1:]], root=__import__("pathlib").Path({root!r})))
"""


def ours(body, root, *argv):
    return subprocess.run(
        [sys.executable, "-c", UNFORESEEN.format(body=body, root=str(root)), *argv],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_unforeseen_is_70_with_its_traceback(tmp_path):
    done = ours("raise KeyError('x')", tmp_path)
    assert done.returncode == 70
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith("perdure: error: unforeseen KeyError: 'x'")


def test_what_is_no_exception_is_70_too(tmp_path):
    done = ours("raise type('PanicException', (BaseException,), {})('out of a library in Rust')", tmp_path)
    assert done.returncode == 70
    assert "unforeseen PanicException: out of a library in Rust" in done.stderr


def test_an_exit_in_a_task_is_no_success(tmp_path):
    assert ours("sys.exit(0)", tmp_path).returncode == 70


@pytest.mark.parametrize(("code", "argv", "expected"), [(0, [], 0), (143, [], 143), (143, ["--retry_exit_code=9"], 9)])
def test_what_a_command_returns_is_the_exit_code(code, argv, expected, tmp_path):
    assert ours(f"return {code}", tmp_path, *argv).returncode == expected


def test_a_stop_that_comes_when_all_is_done_changes_nothing(tmp_path):
    body = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); return 0"
    assert ours(body, tmp_path).returncode == 0


def test_max_run_seconds_is_a_stop(tmp_path):
    body = "import time; time.sleep(0.6); stop.check(); return 0"
    done = ours(body, tmp_path, "--max_run_seconds", "0.5")
    assert done.returncode == 143
    assert done.stderr == "perdure: error: stopped by --max_run_seconds 0.5 reached: submit again to continue\n"


def test_debug_shows_the_traceback_of_a_known_error(tmp_path):
    body = "from cloud.errors import AccessDenied; raise AccessDenied('s3://b: refused')"
    assert ours(body, tmp_path).stderr == "perdure: error: s3://b: refused\n"
    assert ours(body, tmp_path, "--debug").stderr.startswith("Traceback")


def test_json_for_errors_too(tmp_path):
    done = ours("from cloud.errors import ClaimHeld; raise ClaimHeld('held')", tmp_path, "--log_format=json")
    line = json.loads(done.stderr)
    assert (line["event"], line["message"], line["exit_code"], done.returncode) == ("error", "held", 75, 75)


def test_sagemaker_learns_the_reason(tmp_path):
    for folder in ("input/config", "output"):
        (tmp_path / "opt/ml" / folder).mkdir(parents=True)
    (tmp_path / "opt/ml/input/config/hyperparameters.json").write_text('{"epochs": "-1"}')
    done = ours("return 0", tmp_path)
    assert done.returncode == 78
    line = "--epochs -1: must be at least 1 (from SageMaker's hyperparameters)"
    assert done.stderr == f"perdure: error: {line}\n"
    assert (tmp_path / "opt/ml/output/failure").read_text() == line
