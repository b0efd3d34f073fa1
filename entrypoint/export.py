"""The exported model: what serving loads. A view, rebuilt after each round and never read by the job."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch

from cloud.held import HeldFolder
from trainer.state import TrainState

WEIGHTS = "model.safetensors"


def export(folder: HeldFolder, settings: Mapping[str, Any], state: TrainState) -> None:
    """Write model/: the weights as safetensors, then config.json, which names them with their digest."""
    net = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.net.state_dict().items()}
    weights = safetensors.torch.save(net)
    config = {
        "format": 1,
        "task": settings["task"],
        "set": settings["set"],
        "vocabulary": state.vocabulary.to_dict(),
        "epoch": state.progress.epoch,
        "global_step": state.progress.global_step,
        "weights": {"file": WEIGHTS, "size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
    }
    folder.write_view(f"model/{WEIGHTS}", weights)
    folder.write_view("model/config.json", json.dumps(config, indent=1, ensure_ascii=False).encode() + b"\n")
