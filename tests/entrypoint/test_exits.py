import errno
import io
import json

import pytest

from cloud import errors as cloud_errors
from entrypoint.console import Console
from entrypoint.errors import SettingsError, Stopped
from entrypoint.exits import ExitCode, exit_code, explain, report, submitted_code
from trainer import errors as trainer_errors

CODES = {
    cloud_errors.UrlError: 78,
    cloud_errors.NoSuchBucket: 78,
    cloud_errors.CacheTooSmall: 78,
    cloud_errors.StoreError: 74,
    cloud_errors.Unreachable: 74,
    cloud_errors.AccessDenied: 74,
    cloud_errors.StoreFull: 74,
    cloud_errors.Damaged: 65,
    cloud_errors.Gone: 65,
    cloud_errors.ClaimError: 75,
    cloud_errors.ClaimHeld: 75,
    cloud_errors.ClaimLost: 75,
    trainer_errors.DataError: 65,
    trainer_errors.BadExample: 65,
    trainer_errors.NotAShard: 65,
    trainer_errors.Incomparable: 70,
    trainer_errors.CheckpointError: 65,
    trainer_errors.NonFinite: 65,
    trainer_errors.SettingError: 78,
    trainer_errors.Incompatible: 78,
    SettingsError: 78,
    Stopped: 143,
    KeyboardInterrupt: 143,
    RuntimeError: 70,
    FileNotFoundError: 70,
    MemoryError: 70,
    SystemExit: 70,
}


def test_every_error_of_the_packages_has_its_code():
    bases = (cloud_errors.CloudError, trainer_errors.TrainerError)
    ours = {
        value
        for module in (cloud_errors, trainer_errors)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, bases) and value not in bases
    }
    assert ours <= set(CODES)


@pytest.mark.parametrize(("error", "code"), CODES.items())
def test_exit_codes(error, code):
    assert exit_code(error("x")) == code
    assert exit_code(error("x"), retry_exit_code=200) == (200 if code in (74, 75, 143) else code)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ECONNRESET])
def test_a_disk_that_refuses_is_a_store_that_refuses(number):
    error = OSError(number, "No space left on device", "/mnt/run/ckpt")
    assert exit_code(error) == 74
    assert explain(error).startswith("/mnt/run/ckpt: No space left on device; ")


def test_only_what_may_be_mended_by_another_submission_is_replaced():
    assert [submitted_code(code, 130) for code in (0, 65, 70, 74, 75, 78, 143)] == [0, 65, 70, 130, 130, 78, 130]
    assert [submitted_code(code, None) for code in (0, 74, 143)] == [0, 74, 143]


def said(error, tmp_path, *, debug=False, log_format="text"):
    err = io.StringIO()
    code = report(error, Console(log_format, err=err), debug=debug, failure_file=tmp_path / "failure")
    return code, err.getvalue(), (tmp_path / "failure").read_text()


def test_an_error_is_one_line_also_for_the_platform(tmp_path):
    code, err, failure = said(cloud_errors.AccessDenied("s3://b/x: access denied; check the key"), tmp_path)
    assert code == ExitCode.STORE
    assert err == "perdure: error: s3://b/x: access denied; check the key\n"
    assert failure == "s3://b/x: access denied; check the key"


def test_a_traceback_only_for_the_unforeseen_and_for_debug(tmp_path):
    code, err, failure = said(KeyError("x"), tmp_path)
    assert code == ExitCode.UNFORESEEN
    assert err.splitlines()[0] == "KeyError: 'x'"
    assert err.splitlines()[-1].startswith("perdure: error: unforeseen KeyError: 'x'; submit again")
    assert failure.startswith("unforeseen KeyError")
    assert said(SettingsError("x"), tmp_path, debug=True)[1].startswith("entrypoint.errors.SettingsError: x\n")


def test_the_unforeseen_is_one_line_after_its_traceback(tmp_path):
    _, err, failure = said(RuntimeError("first\nsecond\nthird"), tmp_path)
    assert err.splitlines()[-1].startswith("perdure: error: unforeseen RuntimeError: first; submit again")
    assert failure.count("\n") == 0


def test_errors_as_json(tmp_path):
    _, err, _ = said(KeyError("x"), tmp_path, log_format="json")
    traceback, error = (json.loads(line) for line in err.splitlines())
    assert traceback["event"] == "traceback"
    assert (error["event"], error["exit_code"]) == ("error", 70)


def test_a_failure_file_is_short_and_never_in_the_way(tmp_path):
    assert len(said(SettingsError("x" * 5000), tmp_path)[2]) == 1024
    console = Console(err=io.StringIO())
    assert report(SettingsError("x"), console, debug=False, failure_file=tmp_path / "no/such/folder") == 78


def test_the_log_says_the_code_that_the_process_exits_with(tmp_path):
    err = io.StringIO()
    console = Console("json", err=err)
    error = cloud_errors.Unreachable("no answer")
    code = report(error, console, debug=False, failure_file=None, retry_exit_code=200)
    assert (code, json.loads(err.getvalue())["exit_code"]) == (200, 200)
    assert json.loads(console.error_line("late", 200))["exit_code"] == 200
