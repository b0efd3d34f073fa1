"""How numbers are formed where the job computes."""

import subprocess
import sys
from typing import Literal

import pytest
import torch

from trainer.device import pick_device
from trainer.errors import SettingError
from trainer.settings import TrainSettings

SMALLEST = """
import torch
from trainer.device import pick_device
from trainer.settings import TrainSettings
pick_device(TrainSettings(device="cpu", threads=2))
normal = torch.full((1_000_000,), 1e-30)  # enough for several threads
print(int((normal * 1e-10).count_nonzero()), torch.get_num_threads())
"""


def test_denormal_numbers_are_zero_in_every_thread() -> None:
    """In a process of its own: it is a state of the processor."""
    found = subprocess.run([sys.executable, "-c", SMALLEST], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0", "2"]


def test_a_device_that_is_not_there_is_refused() -> None:
    missing: Literal["cuda", "mps"] = "mps" if torch.cuda.is_available() else "cuda"  # no machine has both
    with pytest.raises(SettingError, match=f"--device {missing}: this machine has none"):
        pick_device(TrainSettings(device=missing))
