import json

import pytest

from entrypoint.config import read
from entrypoint.errors import SettingsError
from entrypoint.platforms import azureml, detect, failure_file, modelarts, sagemaker, vertex


@pytest.fixture
def machine(tmp_path):
    """The root of a file system on which SageMaker put its files."""
    (tmp_path / "opt/ml/input/config").mkdir(parents=True)
    (tmp_path / "opt/ml/output").mkdir()
    return tmp_path


def put(root, name, content):
    (root / "opt/ml/input/config" / f"{name}.json").write_text(json.dumps(content))


def channel(mode="File"):
    return {"TrainingInputMode": mode, "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}


@pytest.mark.parametrize("module", [azureml, modelarts, sagemaker, vertex])
def test_elsewhere_there_is_no_platform(module, tmp_path):
    assert module.settings({"HOME": "/root", "train_url": "x"}, tmp_path) is None
    assert detect({}, tmp_path) is None
    assert failure_file(tmp_path) is None


def test_sagemaker_gives_hyperparameters_channels_and_checkpoints(machine):
    put(machine, "hyperparameters", {"epochs": "3", "task": '"images"', "replay": "0.5", "set": '{"blocks": 2}'})
    put(machine, "inputdataconfig", {"training": channel(), "eval": channel("FastFile"), "other": channel()})
    put(machine, "checkpointconfig", {"LocalPath": "/opt/ml/checkpoints/mine"})
    config = read(["train"], {"TRAINING_JOB_ARN": "arn:aws:sagemaker:..."}, machine).config()
    assert (config.epochs, config.task, config.replay, config.sets) == (3, "images", 0.5, {"blocks": "2"})
    assert config.train_url == "/opt/ml/checkpoints/mine"
    assert config.data_url == str(machine / "opt/ml/input/data/training")
    assert config.eval_url == str(machine / "opt/ml/input/data/eval")


def test_a_hyperparameter_comes_before_a_channel(machine):
    put(machine, "hyperparameters", {"data-url": "s3://bucket/data"})
    put(machine, "inputdataconfig", {"data": channel()})
    assert read([], {}, machine).given["data_url"].value == "s3://bucket/data"


def test_sagemaker_clients_add_hyperparameters_of_their_own(machine):
    put(machine, "hyperparameters", {"sagemaker_program": "train.py", "epochs": "2"})
    invocation = read(["train"], {}, machine)
    assert invocation.given["epochs"].value == "2"
    assert "sagemaker_program" in " ".join(invocation.warnings)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (["data", "training"], "data"),
        (["other", "training"], "training"),
        (["mine"], "mine"),
        (["mine", "eval"], "mine"),
        (["one", "two"], None),
        (["eval"], None),
        ([], None),
    ],
)
def test_the_channel_that_is_the_data(machine, channels, expected):
    put(machine, "inputdataconfig", {name: channel() for name in channels})
    found = sagemaker.settings({}, machine).values.get("data_url")
    assert found == (None if expected is None else str(machine / "opt/ml/input/data" / expected))


def test_the_usual_checkpoint_folder_counts_when_it_is_there(machine):
    assert "train_url" not in sagemaker.settings({}, machine).values
    (machine / "opt/ml/checkpoints").mkdir()
    assert sagemaker.settings({}, machine).values["train_url"] == str(machine / "opt/ml/checkpoints")


def test_sagemaker_files_that_cannot_be_read_are_named(machine):
    path = machine / "opt/ml/input/config/hyperparameters.json"
    for content, problem in [("{", "cannot be read"), ("[1]", "no JSON object")]:
        path.write_text(content)
        with pytest.raises(SettingsError, match=rf"hyperparameters\.json: .*{problem}"):
            detect({}, machine)
    path.write_text("{}")
    put(machine, "inputdataconfig", {"data": channel("Pipe")})
    with pytest.raises(SettingsError, match="Pipe mode"):
        detect({}, machine)


def test_modelarts_gives_channels_store_and_disk(tmp_path):
    (tmp_path / "cache").mkdir()
    environ = {
        "MA_JOB_DIR": "/home/ma-user/modelarts/user-job-dir",
        "train_url": "/home/ma-user/modelarts/outputs/train_url_0",
        "data_url": "/home/ma-user/modelarts/inputs/data_url_0",
        "S3_ENDPOINT": "https://obs.cn-north-4.myhuaweicloud.com",
    }
    invocation = read(["--task", "images"], environ, tmp_path)
    config = invocation.config()
    assert (config.train_url, config.data_url) == (environ["train_url"], environ["data_url"])
    assert config.endpoint_url == environ["S3_ENDPOINT"]
    assert config.cache_dir == tmp_path / "cache/perdure"
    assert "only the platform keeps a second job away" in " ".join(invocation.warnings)


def test_no_warning_where_the_job_writes_to_the_bucket_itself(tmp_path):
    environ = {"MA_JOB_DIR": "/x", "train_url": "obs://bucket/run"}
    assert read(["--task", "images", "--data_url", "obs://bucket/data"], environ, tmp_path).warnings == ()


def test_vertex_and_azure(tmp_path):
    found = detect({"AIP_CHECKPOINT_DIR": "gs://bucket/run/checkpoints/"}, tmp_path)
    assert (found.name, found.values) == ("Vertex AI", {"train_url": "gs://bucket/run/checkpoints/"})
    assert detect({"CLOUD_ML_JOB_ID": "7"}, tmp_path).values == {}
    assert detect({"AZUREML_RUN_ID": "7"}, tmp_path).name == "Azure ML"
