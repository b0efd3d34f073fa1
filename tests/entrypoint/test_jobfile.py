import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.errors import SettingsError
from entrypoint.jobfile import read_jobfile


@pytest.fixture
def job(tmp_path):
    return tmp_path / "job.yaml"


def test_values_are_texts_as_they_were_written(job):
    job.write_text("# a job\ntask: no\nlearning-rate: 1e-3\nepochs: 010\nregion: ~\nset: {blocks: 2, wide: yes}\n")
    found = {name: value.value for name, value in read_jobfile(job)}
    assert found == {"task": "no", "learning_rate": "1e-3", "epochs": "010", "set": {"blocks": "2", "wide": "yes"}}


def test_a_value_knows_its_line(job):
    job.write_text("\n\nepochs: 3\n")
    assert dict(read_jobfile(job))["epochs"].source == f"{job}, line 3"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_gives_nothing(job, text):
    job.write_text(text)
    assert read_jobfile(job) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epochs: 3\ntask: [unclosed\n", "line 3: is no YAML"),
        ("epochs: 3\n\tseed: 1\n", "line 2: is no YAML"),
        ("- epochs\n", "line 1: must be `name: value` lines"),
        ("epochs\n", "line 1: must be `name: value` lines"),
        ("? [a, b]\n: 1\n", "line 1: must be `name: value` lines"),
        ("a: &x 1\nb: *x\n", "line 2: aliases"),
        ("epochs: 3\nepochs: 4\n", "--epochs: is given twice"),
        ("epochs: [1, 2]\n", "--epochs: must be a single value"),
        ("set: {a: {b: 1}}\n", "--set a: must be a single value"),
        ("task: !!python/object/apply:os.system ['true']\n", "--task: must be a single value"),
        ("task: !!python/name:os.system x\n", "--task: must be a single value"),
        ("a: 1\n---\nb: 2\n", "is no YAML"),
        ("a: \x00\n", "is no YAML"),
        ("a: " + "[" * 5000, "line 1: more than 4 levels"),
    ],
)
def test_what_is_no_job_file_is_refused_with_its_line(job, text, problem):
    job.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_jobfile(job)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(job):
    with pytest.raises(SettingsError, match=r"--config .*job.yaml: No such file"):
        read_jobfile(job)
    job.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is no YAML text"):
        read_jobfile(job)
    with pytest.raises(SettingsError, match="Is a directory"):
        read_jobfile(job.parent)


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    job = tmp_path_factory.mktemp("any") / "job.yaml"
    job.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        read_jobfile(job)
    except SettingsError as error:
        assert str(error)
