import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize

from entrypoint.arguments import SWITCHES
from entrypoint.commands import COMMANDS
from entrypoint.config import aws_key, is_amazon, read, tell_libraries
from entrypoint.describe import type_of
from entrypoint.errors import SettingsError
from entrypoint.problems import edits, near
from entrypoint.settings import FIELDS

NEEDED = ["--train_url", "run", "--data_url", "data", "--task", "images"]
KNOWN = ", ".join(COMMANDS)
MODELARTS = {"MA_JOB_DIR": "/home/ma-user/modelarts/user-job-dir"}


@pytest.fixture
def nowhere(tmp_path):
    """A file system without any platform's files."""
    return tmp_path / "root"


def config(argv=(), environ=None, root=Path("/nowhere")):
    return read([*NEEDED, *argv], environ or {}, root).config()


def problems(argv=(), environ=None, root=Path("/nowhere")):
    with pytest.raises(SettingsError) as caught:
        read([*NEEDED, *argv], environ or {}, root).config()
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "argv",
    [
        ["--eval_url", "e", "--save_every_seconds", "5"],
        ["--eval_url=e", "--save_every_seconds=5"],
        ["--eval-url", "e", "--save-every-seconds", "5"],
        ["--eval-url=e", "--save_every-seconds=5.0"],
        ['--eval_url="e"', '--save_every_seconds="5"'],
        ["--eval_url", "x", "--eval_url", "e", "--save_every_seconds", "5"],
        ["--eval_url", "e", "--save_every_seconds", "5", "train"],
    ],
)
def test_spellings_of_an_option(argv):
    found = config(argv)
    assert (found.eval_url, found.save_every_seconds) == ("e", 5.0)


@pytest.mark.parametrize("argv", [["--best_metric", "-loss"], ["--best_metric=-loss"], ["--best-metric", "-loss"]])
def test_a_value_may_begin_with_a_dash(argv):
    assert config([*argv, "--epochs", "3"]).best_metric == "-loss"
    assert problems(["--best_metric", "--epochs", "3"]) == ["--best_metric: needs a value (from the command line)"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--deterministic"], True),
        (["--deterministic", "true"], True),
        (["--deterministic=False"], False),
        (["--deterministic", "false"], False),
        (["--no-deterministic"], False),
        (["--no_deterministic"], False),
        (["--deterministic", "--no-deterministic"], False),
        (["--deterministic", "--epochs", "1"], True),
        (["--deterministic", "train"], True),
        ([], False),
    ],
)
def test_spellings_of_a_boolean(argv, expected):
    assert config(argv).deterministic is expected


def test_a_folder_may_be_called_train():
    assert read(["--data_url", "d", "--task", "t", "--train_url", "train"], {}).config().train_url == "train"


@pytest.mark.parametrize("argv", [NEEDED, ["train", *NEEDED], [*NEEDED, "train"], ["train", *NEEDED, "train"]])
def test_train_is_the_default_command(argv):
    assert read(argv, {}).command.required == ("train_url", "data_url", "task")


def test_another_command_needs_less():
    assert read(["index", "--data_url", "d", "--task", "images"], {}).config().data_url == "d"


def test_task_settings_add_up_over_the_sources(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("set:\n  blocks: 2\n  width: 64\n  names: yes\n")
    environ = {"PERDURE_SET": '{"width": 32, "depth": "7"}', "PERDURE_CONFIG": str(job)}
    found = config(["--set", "depth=8", "--set", 'title="a=b"', "--set=empty="], environ)
    assert found.sets == {"depth": "8", "title": "a=b", "empty": "", "width": "32", "blocks": "2", "names": "yes"}


def test_what_kubernetes_says_about_a_service_called_perdure_is_not_ours():
    names = """PORT SERVICE_HOST SERVICE_PORT SERVICE_PORT_HTTP PORT_80_TCP PORT_80_TCP_ADDR
    TRAIN_SERVICE_HOST TRAIN_PORT TRAIN_PORT_80_TCP_PROTO"""
    environ = {f"PERDURE_{name}": "10.0.0.1" for name in names.split()}
    assert config([], environ) == config()


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["--epochs", "-1"], {}, ["--epochs -1: must be at least 1 (from the command line)"]),
        (["--epochs=1.5"], {}, ["--epochs 1.5: must be a whole number (from the command line)"]),
        (["--epochs="], {}, ["--epochs : must be a whole number (from the command line)"]),
        (["--epochs"], {}, ["--epochs: needs a value (from the command line)"]),
        (["--replay", "much"], {}, ["--replay much: must be a number (from the command line)"]),
        (["--replay", "nan"], {}, ["--replay nan: must be a finite number (from the command line)"]),
        (["--momentum", "1"], {}, ["--momentum 1: must be below 1 (from the command line)"]),
        (["--debug=maybe"], {}, ["--debug maybe: must be true or false (from the command line)"]),
        (["--device", "gpu"], {}, ["--device gpu: must be one of auto, cpu, cuda, mps (from the command line)"]),
        (["--keep_last", "1"], {}, ["--keep_last 1: must be at least 2 (from the command line)"]),
        (["--retry_exit_code", "256"], {}, ["--retry_exit_code 256: must be at most 255 (from the command line)"]),
        (["--set", "blocks"], {}, ["--set blocks: must be name=value (from the command line)"]),
        ([], {"PERDURE_EPOCHS": "x"}, ["--epochs x: must be a whole number (from PERDURE_EPOCHS)"]),
        (["--epocs", "1"], {}, ["--epocs: no such setting; did you mean --epochs? (from the command line)"]),
        ([], {"PERDURE_EPOCS": "1"}, ["--epocs: no such setting; did you mean --epochs? (from PERDURE_EPOCS)"]),
        (["--colour=red"], {}, ["--colour: no such setting; --help lists all (from the command line)"]),
        (["red"], {}, [f"'red': neither a command ({KNOWN}) nor an option's value (from the command line)"]),
        (
            ["--cache_bytes", "big"],
            {"PERDURE_SEED": "-1"},
            [
                "--cache_bytes big: must be a size, such as 500MB or 10GiB (from the command line)",
                "--seed -1: must be at least 0 (from PERDURE_SEED)",
            ],
        ),
    ],
)
def test_problems_in_one_line_each(argv, environ, expected):
    assert sorted(problems(argv, environ)) == expected


def test_what_is_required_is_asked_for_by_name():
    with pytest.raises(SettingsError) as caught:
        read(["--data_url", "d", "--task", ""], {}).config()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["--train_url", "--task"]


def test_a_managed_platform_may_add_arguments_of_its_own(nowhere):
    argv = [*NEEDED, "--num_gpus=8", "--init_method", "tcp://x:1", "word", "--epochs", "3"]
    invocation = read(argv, MODELARTS, nowhere)
    assert invocation.config().epochs == 3
    said = " ".join(invocation.warnings)
    assert all(name in said for name in ("--num_gpus", "--init_method", "'word'"))


def test_a_slip_of_the_pen_is_refused_on_a_managed_platform_too(nowhere):
    assert problems(["--epocs", "3"], MODELARTS, nowhere)[0].startswith("--epocs: no such setting; did you mean")
    assert problems([], {**MODELARTS, "PERDURE_COLOUR": "red"}, nowhere)[0].startswith("--colour: no such setting")


def test_show_settings_tells_value_and_source(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("epochs: 3\nseed: 4\n")
    argv = [*NEEDED, "--show_settings", "--config", str(job), "--seed=5", "--endpoint_url", "https://me:secret@host/x"]
    invocation = read(argv, {"PERDURE_REPLAY": "0.5"})
    assert invocation.shows_settings
    rows = {line.split()[0]: line for line in invocation.table().splitlines()}
    assert set(rows) == {"setting", *FIELDS}
    assert rows["epochs"].split(maxsplit=3) == ["epochs", "3", "round", f"{job}, line 1"]
    assert rows["seed"].split(maxsplit=3) == ["seed", "5", "run", "the command line"]
    assert rows["replay"].split(maxsplit=3) == ["replay", "0.5", "round", "PERDURE_REPLAY"]
    assert rows["batch_size"].split(maxsplit=3) == ["batch_size", "32", "round", "default"]
    assert "secret" not in invocation.table()


STRATEGIES = {
    bool: st.booleans().map(str),
    int: st.integers(2, 60).map(str),
    ByteSize: st.integers(2, 60).map(str),
    float: st.floats(0.125, 0.875).map(repr),
    str: st.text("abc:/.-_=é ", min_size=1).filter(lambda text: text != "--"),  # which ends a command's options
}
OTHER_BOUNDS = {"micro_batch_size", "claim_timeout_seconds", "grace_seconds"}
OTHER_TEXTS = {
    "endpoint_url": st.sampled_from(["http://127.0.0.1:9000", "https://store.example"]),
    "best_metric": st.text("abc", min_size=1),
    "promote_if": st.sampled_from(["accuracy >= best - 0.01", "accuracy > 0.5 and macro_f1 >= before"]),
}
TEXTS = {
    name: OTHER_TEXTS.get(name, STRATEGIES[type_of(FIELDS[name])])
    for name in FIELDS.keys() - OTHER_BOUNDS
    if type_of(FIELDS[name]) in STRATEGIES
}


@st.composite
def _layers(draw):
    """For some settings, for each source, a text or None."""
    names = draw(st.lists(st.sampled_from(sorted(TEXTS)), unique=True, max_size=6))
    return {name: draw(st.tuples(*[st.none() | TEXTS[name]] * 4)) for name in names}


@given(_layers())
def test_the_first_source_wins_and_text_becomes_the_type(tmp_path_factory, layers):
    folder = tmp_path_factory.mktemp("sources")
    argv, variables, platform, jobfile = (
        {name: texts[i] for name, texts in layers.items() if texts[i] is not None} for i in range(4)
    )
    (folder / "opt/ml/input/config").mkdir(parents=True)
    hyperparameters = {name: json.dumps(text) if i % 2 else text for i, (name, text) in enumerate(platform.items())}
    (folder / "opt/ml/input/config/hyperparameters.json").write_text(json.dumps(hyperparameters))
    (folder / "job.yaml").write_text(json.dumps(jobfile))
    expected = {"train_url": "run", "data_url": "data", "task": "images"} | jobfile | platform | variables | argv

    needed = [f"--{name}={value}" for name, value in (("train_url", "run"), ("data_url", "data"), ("task", "images"))]
    needed = [word for word in needed if word.split("=")[0][2:] not in layers]
    environ = {f"PERDURE_{name.upper()}": text for name, text in variables.items()}
    words = [*needed, f"--config={folder / 'job.yaml'}", *(f"--{name}={text}" for name, text in argv.items())]
    invocation = read(words, environ, folder)

    given_by_name = {name: value.value for name, value in invocation.given.items()}
    assert given_by_name == {name: text for name, text in expected.items() if name in given_by_name}
    assert set(given_by_name) >= set(jobfile) | set(platform) | set(variables) | set(argv)
    if {"train_url", "data_url", "task"} <= set(given_by_name):
        plain = invocation.config().model_dump(by_alias=True)
        for name, text in expected.items():
            wanted = type_of(FIELDS[name])
            assert plain[name] == (text == "True" if wanted is bool else wanted(text))


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits_is_a_distance(one, other, third):
    assert edits(one, other) == edits(other, one)
    assert (edits(one, other) == 0) == (one == other)
    assert edits(one, third) <= edits(one, other) + edits(other, third)
    assert abs(len(one) - len(other)) <= edits(one, other) <= max(len(one), len(other))


@given(st.sampled_from(sorted(FIELDS)), st.data())
def test_one_wrong_letter_is_always_seen(name, data):
    i = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from(["", "x", name[i] * 2]))
    meant = near(name[:i] + letter + name[i + 1 :], FIELDS.keys() | SWITCHES)
    assert meant is not None
    assert edits(meant, name[:i] + letter + name[i + 1 :]) <= 1


def test_different_names_are_no_slips():
    assert near("num_gpus", FIELDS) is None
    assert near("init_method", FIELDS) is None


NO_ADDRESSES = [
    "nonsense", "http://", "://x", "http://a b", "ftp://host", "http://[::1", "http://host:65536", "http://a/\u00e9",
    'http://a"b/', "https://host?x=y",
]  # fmt: skip


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_a_wrong_setting_wherever_it_comes_from(address):
    """obstore panics at most of them."""
    assert problems(["--endpoint_url", address]) == [
        f"--endpoint_url {address}: must be an address such as https://host:9000"
    ]
    at_s3 = ["--train_url", "s3://bucket/run"]
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        expected = f"{name} {address.partition('?')[0]!r}: must be an address such as https://host:9000, or not set"
        assert problems(at_s3, {name: address}) == [expected]
        assert config((), {name: address}).endpoint_url is None, "nobody asks for it"
        assert config([*at_s3, "--endpoint_url", "http://h"], {name: address}).endpoint_url == "http://h"


def test_an_address_in_a_variable_does_not_show_its_password():
    (problem,) = problems(["--data_url", "s3://b/d"], {"AWS_ENDPOINT_URL": "https://user:pass word@host"})
    assert "pass" not in problem


@pytest.mark.parametrize("address", ["http://[::1]:9000", "https://obs.cn-north-4.x.com/", "http://my_host:65535/a/b"])
def test_addresses(address):
    assert config(["--endpoint_url", address]).endpoint_url == address
    assert config(["--train_url", "s3://b/r"], {"AWS_ENDPOINT_URL": address}).endpoint_url is None


@pytest.mark.parametrize(("argv", "before", "expected"), [
    ([], None, None),
    (["--deterministic"], None, ":4096:8"),
    (["--deterministic"], ":16:8", ":16:8"),
])  # fmt: skip
def test_cublas_is_told_to_be_deterministic(monkeypatch, argv, before, expected):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before or "")
    if before is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    tell_libraries(config(argv))
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == expected


KEY = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-1"}


@pytest.mark.parametrize("environ", [KEY, KEY | {"AWS_SESSION_TOKEN": "t"}, KEY | {"AWS_PROFILE": "other"}])
def test_a_key_in_variables_is_enough(environ):
    assert aws_key(None, environ) == "AK"
    assert aws_key("eu-1", {name: value for name, value in environ.items() if name != "AWS_REGION"}) == "AK"


@pytest.mark.parametrize(
    "change",
    [
        {"AWS_ACCESS_KEY_ID": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_REGION": ""},  # which a profile may tell
        {"AWS_SESSION_TOKEN": ""},
        {"AWS_SECURITY_TOKEN": "t"},
        {"AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"},
    ],
)
def test_what_only_botocore_understands_is_left_to_it(change):
    assert not aws_key(None, KEY | change)


def test_who_serves_s3():
    assert is_amazon(None, KEY)
    assert not is_amazon("http://here:9000", KEY)
    assert not is_amazon(None, KEY | {"AWS_ENDPOINT_URL": "http://here:9000"})
