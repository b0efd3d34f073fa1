"""The exported model: what serving loads. A view, rebuilt after each round and never read by the job."""

import hashlib
import json
from typing import Any

import safetensors.torch

from cloud.errors import Damaged
from cloud.held import HeldFolder
from cloud.store import Store
from cloud.transfer import no_check
from cloud.views import MODEL_CONFIG, config_digest, whole_model
from trainer.state import TrainState
from trainer.task import Task

WEIGHTS = "model/model.safetensors"
CONFIG = MODEL_CONFIG


def export(folder: HeldFolder, output: Store, name: str, task: Task, state: TrainState) -> None:
    """Write model/ unless it is there: the weights as safetensors, then config.json, which names them and their digest.

    An attempt that was killed between its last checkpoint and here leaves it to the next one.
    """
    if _is_exported(output, state.progress.global_step):
        return
    net = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.net.state_dict().items()}
    weights = safetensors.torch.save(net)
    config: dict[str, Any] = {
        "format": 1,
        "task": name,
        "set": task.settings.model_dump(mode="json"),
        "vocabulary": state.vocabulary.to_dict(),
        "epoch": state.progress.epoch,
        "global_step": state.progress.global_step,
        "scores": state.progress.scores,
        "weights": {
            "file": WEIGHTS.rpartition("/")[2],
            "size": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
    }
    config["digest"] = config_digest(config)
    folder.write_view(WEIGHTS, weights)
    folder.write_view(CONFIG, json.dumps(config, indent=1, ensure_ascii=False).encode() + b"\n")


def _is_exported(output: Store, global_step: int) -> bool:
    """Whether the model of that step is there, byte for byte: what is damaged is written anew."""
    try:
        return bool(whole_model(output, no_check).get("global_step") == global_step)
    except (FileNotFoundError, Damaged):
        return False
