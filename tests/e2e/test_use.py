"""`perdure predict` and `perdure evaluate`, run as their users run them, on models that jobs exported."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from entrypoint.__main__ import main
from tests.e2e.inside import Inside
from tests.servers import S3Server
from tests.shards import digits

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(job: Inside, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    """A job that exported its model; the working directory holds 0.png to 4.png."""
    job.trained()
    monkeypatch.chdir(job.data.parent)
    for number, pixels in enumerate(digits()[0][:5]):
        Image.fromarray(pixels).save(f"{number}.png")
    yield job


def use(job: Inside, *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    job.capfd.readouterr()
    code = main([str(word) for word in words], root=job.data.parent / "no platform")
    return code, *job.capfd.readouterr()


def predict(job: Inside, *words: object) -> tuple[int, str, str]:
    return use(job, "predict", "--model", job.run, *words)


def answers(text: str) -> list[tuple[str, str]]:
    """(image, label) of each line."""
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line["image"], line["label"]) for line in lines]


def test_files_of_any_kind_have_the_same_answers(model: Inside) -> None:
    Path("r.txt").write_text("0.png\n1.png\r\n\n2.png")
    Path("r.jsonl").write_text('\ufeff{"image": "0.png", "id": 7}\n{"image": "1.png"}\n{"image": "2.png"}\n')
    subprocess.run(["gzip", "-k", "r.txt"], check=True)
    code, out, err = predict(model, "--input", "r.txt")
    assert (code, err) == (0, "")
    assert [image for image, _ in answers(out)] == ["0.png", "1.png", "2.png"]
    for name in ("r.txt.gz", "r.jsonl", f"file://{Path('r.jsonl').resolve()}"):
        code, said, err = predict(model, "--input", name, "--output", "out.jsonl")
        assert (code, err) == (0, "")
        assert "3 answers in out.jsonl" in said
        assert answers(Path("out.jsonl").read_text()) == answers(out)
    assert json.loads(Path("out.jsonl").read_text().splitlines()[0])["id"] == 7
    assert {path.name for path in Path().iterdir()} >= {"out.jsonl"}
    assert [path.name for path in Path().glob(".*")] == [], "nothing is left beside the output"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"image": "0.png"}\n{"image"', "r.jsonl: line 2: is not JSON"),
        (b'\n\n{"image": "no.png"}\n', "r.jsonl: line 3: no.png: no such file"),
        (b'{"image": "0.png"}\n["0.png"]', "r.jsonl: line 2: is no JSON object"),
        (b'{"text": "0.png"}', "r.jsonl: line 1: has no field `image`"),
        (b'{"image": "\xff"}', "r.jsonl: line 1: is not UTF-8: byte 12"),
    ],
)
def test_a_bad_line_is_named_and_leaves_the_old_output(model: Inside, content: bytes, says: str) -> None:
    Path("r.jsonl").write_bytes(content)
    Path("out.jsonl").write_text("old")
    code, _, err = predict(model, "--input", "r.jsonl", "--output", "out.jsonl")
    assert code == 65
    assert err.startswith(f"perdure: error: {says}")
    assert err.count("\n") == 1
    assert Path("out.jsonl").read_text() == "old"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--input", "none.jsonl"), 78, "--input none.jsonl: no such file"),
        (("--input", "0.png", "--output", "none/out"), 78, "there is no folder none"),
        (("--input", "0.png", "--output", "."), 78, "is a folder"),
        (("--input", "memory://x/none.jsonl"), 78, "no such object"),
        (("--input", "0.png", "--model", "data"), 78, "--model data: no exported model there, nor in model/"),
        (("--input", "0.png", "--model", "nowhere"), 78, "nowhere"),
        (("--input", "0.png", "--task", "x.py:Y"), 78, "the model was trained by task images"),
        ((), 78, "--input: is required"),
    ],
)
def test_wrong_settings_are_said_in_a_line(model: Inside, words: tuple[str, ...], code: int, says: str) -> None:
    found, _, err = use(model, "predict", *(() if "--model" in words else ("--model", model.run)), *words)
    assert found == code, err
    assert says in err
    assert err.count("\n") == 1


def test_a_damaged_model_is_refused(model: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entrypoint.model.PAUSE_SECONDS", 0)
    path = model.run / "model" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, _, err = predict(model, "--input", "0.png")
    assert code == 65
    assert "model.safetensors has SHA-256" in err
    path.unlink()
    code, _, err = predict(model, "--input", "0.png")
    assert code == 65
    assert "model.safetensors is missing" in err
    (model.run / "model" / "config.json").write_text("{}")
    code, _, err = predict(model, "--input", "0.png")
    assert code == 65
    assert f"{model.run}/config.json: found format None" in err


def test_a_filter_answers_line_by_line_and_a_reader_may_leave(model: Inside) -> None:
    command = [sys.executable, "-m", "entrypoint", "predict", "--model", str(model.run), "--input", "-"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (3, 1):
            image = Path(f"{number}.png").resolve()
            process.stdin.write(f"{image}\n" if number == 3 else json.dumps({"image": str(image)}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["image"] == str(image)
        process.stdout.close()
        process.stdin.write(f"{image}\n" * 50)
        process.stdin.close()
        assert process.wait(60) == 0


def test_scores_are_a_table_and_json(model: Inside) -> None:
    code, out, err = use(model, "evaluate", "--model", model.run / "model", "--data_url", "data", "--output", "s.json")
    assert (code, err) == (0, "")
    found = json.loads(Path("s.json").read_text())
    assert found["scores"]["num_examples"] == 40
    assert f"│ accuracy     │ {found['scores']['accuracy']:.4f} │" in out
    assert "per_label" in out
    code, out, _ = use(model, "evaluate", "--model", model.run, "--data_url", "data", "--output", "-")
    assert json.loads(out) == {**found, "model": str(model.run)}


def test_the_evaluation_shards_are_scored_where_there_are_some(model: Inside) -> None:
    (model.data / "eval").mkdir()
    (model.data / "1.tar").rename(model.data / "eval" / "1.tar")
    code, out, _ = use(model, "evaluate", "--model", model.run, "--data_url", "data")
    assert code == 0
    assert "1 shard of data/eval " in out
    assert "│ num_examples │     20 │" in out


@pytest.mark.parametrize(
    ("data", "code", "says"), [("none", 78, "no such folder"), ("run", 65, "no shards there; task images reads *.tar")]
)
def test_without_shards_there_are_no_scores(model: Inside, data: str, code: int, says: str) -> None:
    found, _, err = use(model, "evaluate", "--model", model.run, "--data_url", data)
    assert found == code, err
    assert says in err


def test_an_own_task_is_named_again(points_job: Inside) -> None:
    points_job.trained()
    words = ("evaluate", "--model", points_job.run, "--data_url", points_job.data)
    code, _, err = use(points_job, *words)
    assert code == 78
    assert "trained by task Points; say where it is: --task ./file.py:Points" in err
    code, out, err = use(points_job, *words, "--task", points_job.arguments[1])
    assert code == 0, err
    assert "accuracy" in out
    code, _, err = use(
        points_job, "predict", *words[1:3], "--input", points_job.data / "a.jsonl", "--task", points_job.arguments[1]
    )
    assert code == 78
    assert "task Points: answers no requests" in err


def test_models_and_files_may_be_in_a_bucket(
    model: Inside, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.make_bucket("use")
    assert model.submit(run=f"{bucket}/run").code == 0
    Path("r.txt").write_text("0.png\n1.png\n")
    urls = ("--model", f"{bucket}/run", "--output", f"{bucket}/out/answers.jsonl")
    code, _, err = use(model, "predict", *urls, "--input", "r.txt")
    assert (code, err) == (0, "")
    copy = ("--input", f"{bucket}/out/answers.jsonl", "--output", "-")
    code, out, err = use(model, "predict", *urls[:2], *copy)
    assert (code, err) == (0, "")
    assert [image for image, _ in answers(out)] == ["0.png", "1.png"]
