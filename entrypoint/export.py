"""The exported model: what serving loads. A view, rebuilt after each round and never read by the job."""

import hashlib
import json

import safetensors.torch
from pydantic_core import from_json

from cloud.held import HeldFolder
from cloud.store import Store
from trainer.state import TrainState
from trainer.task import Task

WEIGHTS = "model/model.safetensors"
CONFIG = "model/config.json"
MAX_CONFIG_BYTES = 16 * 2**20


def export(folder: HeldFolder, output: Store, name: str, task: Task, state: TrainState) -> None:
    """Write model/ unless it is there: the weights as safetensors, then config.json, which names them and their digest.

    An attempt that was killed between its last checkpoint and here leaves it to the next one.
    """
    if _exported_step(output) == state.progress.global_step:
        return
    net = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.net.state_dict().items()}
    weights = safetensors.torch.save(net)
    config = {
        "format": 1,
        "task": name,
        "set": task.settings.model_dump(mode="json"),
        "vocabulary": state.vocabulary.to_dict(),
        "epoch": state.progress.epoch,
        "global_step": state.progress.global_step,
        "weights": {
            "file": WEIGHTS.rpartition("/")[2],
            "size": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
    }
    folder.write_view(WEIGHTS, weights)
    folder.write_view(CONFIG, json.dumps(config, indent=1, ensure_ascii=False).encode() + b"\n")


def _exported_step(output: Store) -> int | None:
    """The global step of the model that is there; None when there is none that says so."""
    try:
        config = from_json(output.read(CONFIG, 0, MAX_CONFIG_BYTES))
    except (FileNotFoundError, ValueError):
        return None
    step = config.get("global_step") if isinstance(config, dict) else None
    return step if isinstance(step, int) else None
