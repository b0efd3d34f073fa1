"""Cost of a step in Lightning and in the Hugging Face Trainer beside ours and bare loops: the network of `step.py`.

python -m tests.benchmarks.trainers [--pairs N] [--tiny]

The times are those of the training alone, without setting up; each trainer reads the same examples its own way.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from perdure import Vocabulary
from tests.benchmarks.pairs import Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.step import NUM_STEPS, SETTINGS, Small, bare, loaders, ours, per_step
from trainer.data import Loader
from trainer.optim import make_optimizer

BATCH_SIZE = SETTINGS.batch_size
OURS = "perdure, from a shard"


def tables(options: Options) -> Iterator[Table]:
    """Seconds per step of the same small network."""
    torch.set_num_threads(1)
    num_steps = options.size(NUM_STEPS, 4)
    with tempfile.TemporaryDirectory() as name:
        make = loaders(Path(name), num_steps)
        rows = torch.from_numpy(np.load(Path(name) / "data" / "0.npy"))
        prepared = list(make(Loader).batches(0))
        yield Table(
            title="one step of a small network (64-128-10, batch 32) in several trainers",
            cases={
                "bare loop, batches prepared": lambda: per_step(num_steps, lambda: bare(prepared)),
                "bare loop, DataLoader": lambda: per_step(num_steps, lambda: bare_data_loader(rows)),
                OURS: lambda: per_step(num_steps, lambda: ours(make(Loader))),
                "Lightning": lambda: per_step(num_steps, lambda: lightning(rows, Path(name))),
                "Hugging Face Trainer": lambda: per_step(num_steps, lambda: hugging_face(rows, Path(name))),
            },
            ours=OURS,
            seconds_unit=("us", 1e6),
        )


def bare_data_loader(rows: Tensor) -> float:
    """Seconds of the loop that everybody writes."""
    net = Small().build(Vocabulary())
    optimizer = make_optimizer(net, SETTINGS)
    started = time.perf_counter()
    for images, labels in _data_loader(rows):
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - started


def lightning(rows: Tensor, folder: Path) -> float:
    """Seconds from the first batch to the last one."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Small().build(Vocabulary())

        def training_step(self, batch: Any, _: int) -> Tensor:
            return cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return make_optimizer(self.net, SETTINGS)

        def on_train_start(self) -> None:
            self.began = time.perf_counter()

        def on_train_end(self) -> None:
            self.seconds = time.perf_counter() - self.began

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, gradient_clip_val=1.0, enable_checkpointing=False,
        default_root_dir=folder, **quiet,
    )  # fmt: skip
    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, _data_loader(rows))
    return float(module.seconds)


def hugging_face(rows: Tensor, folder: Path) -> float:
    """Seconds from the first batch to the last one."""
    import transformers

    transformers.logging.set_verbosity_error()
    module = _WithLoss()

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            self.seconds = time.perf_counter() - self.began

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "hf"), per_device_train_batch_size=BATCH_SIZE, num_train_epochs=1, max_grad_norm=1.0,
        save_strategy="no", logging_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        lr_scheduler_type="constant", dataloader_pin_memory=False,
    )  # fmt: skip
    clock = Clock()
    optimizers = (make_optimizer(module.net, SETTINGS), None)
    trainer = transformers.Trainer(
        module, arguments, train_dataset=_Named(rows), callbacks=[clock], optimizers=optimizers
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return float(clock.seconds)


class _Named(Dataset[dict[str, Tensor]]):
    """Examples as the Hugging Face Trainer wants them."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"images": self._rows[index, :64], "labels": self._rows[index, 64].long()}


class _WithLoss(nn.Module):
    """A network as the Hugging Face Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Small().build(Vocabulary())

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": cross_entropy(self.net(images), labels)}


def _data_loader(rows: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(rows[:, :64], rows[:, 64].long()), batch_size=BATCH_SIZE, shuffle=True)


if __name__ == "__main__":
    main(tables)
