"""Task `images`: tell images apart by label, with a residual network. Shards are tars in the WebDataset convention.

An example is an image (`0001.png`, `.jpg`, `.jpeg`, `.webp`) with its label in `0001.cls` (the name, as text) or
`0001.json` (`{"label": ...}` or `{"cls": ...}`, a name or an integer).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from trainer import augment
from trainer.arrays import gathered
from trainer.errors import DataError
from trainer.image_files import decoded
from trainer.image_shards import Example, Gathered, TarImages, decode
from trainer.metrics import classification_scores
from trainer.nn.resnet import ResNet
from trainer.task import Scores, Task, TaskSettings
from trainer.vocabulary import Vocabulary
from trainer.webdataset import read_groups

MAX_RANKING = 10


class ImageSettings(TaskSettings):
    """Settings of task `images`."""

    image_size: int = Field(32, ge=2, le=1024, description="images are resized to this many pixels square")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: red, green and blue")
    width: int = Field(16, ge=1, le=1024, description="channels of the first stage; each later stage has twice as many")
    blocks: int = Field(2, ge=1, le=100, description="residual units per stage, of two layers each")
    stages: int = Field(3, ge=1, le=6, description="stages; each after the first halves the image")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the last features dropped in training")
    augment: Literal["none", "shift", "flip", "shift_flip"] = Field(
        "none", description="random changes of training images: moved by up to an eighth, mirrored, or both"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all labels")

    @model_validator(mode="after")
    def _enough_pixels(self) -> "ImageSettings":
        if self.image_size < 2**self.stages:  # one pixel of one example is nothing BatchNorm could normalise
            raise ValueError(f"image_size must be at least {2**self.stages} for {self.stages} stages")
        return self


class Prediction(NamedTuple):
    """What was right, what the network said (both ids), and the loss."""

    target: int
    predicted: int
    loss: float


class Images(Task):
    """Image classification; see the module's text for the form of shards."""

    Settings = ImageSettings
    settings: ImageSettings
    suffixes = (".tar",)
    best_metric = "accuracy"
    request_field = "image"

    def read(self, path: Path) -> "TarImages":
        """The images of a tar; ValueError when it is none."""
        return TarImages(read_groups(path, self.max_shard_bytes), self.settings.image_size, self.settings.channels)

    def label(self, example: Example) -> str:
        """The name of the label."""
        return example.label

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        """The network, with one block of outputs per round that brought labels."""
        own = self.settings
        return ResNet(
            own.channels, vocabulary.block_sizes("label"),
            width=own.width, blocks=own.blocks, stages=own.stages, dropout=own.dropout,
        )  # fmt: skip

    def take(self, shards: Sequence[Any], which: np.ndarray, indices: np.ndarray) -> Gathered:
        """The images at these places, decoded where they are not yet."""
        decode(shards, which, indices)
        pixels, labels = ([getattr(shard, name) for shard in shards] for name in ("pixels", "labels"))
        return Gathered(gathered(pixels, which, indices), gathered(labels, which, indices))

    def collate(
        self, examples: Sequence[Example], vocabulary: Vocabulary, seeds: np.ndarray | None
    ) -> dict[str, Tensor]:
        """`images`: float32 (n, C, H, W) from -1 to 1, channels last in memory; `labels`: int64 (n,)."""
        chosen = Gathered.of(examples)
        pixels = chosen.pixels
        if seeds is not None and "shift" in self.settings.augment:
            pixels = augment.shift(pixels, seeds)
        if seeds is not None and "flip" in self.settings.augment:
            pixels = augment.flip(pixels, seeds)
        return {"images": _images(pixels), "labels": _ids(chosen.labels, vocabulary)}

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Cross entropy, summed over the examples."""
        smoothing = self.settings.label_smoothing
        return nn.functional.cross_entropy(
            net(batch["images"]), batch["labels"], reduction="sum", label_smoothing=smoothing
        )

    def predict(self, net: nn.Module, batch: dict[str, Tensor]) -> list[Prediction]:
        """The likeliest label of each image, and its cross entropy, without smoothing."""
        logits = net(batch["images"]).float()
        losses = nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
        columns = (batch["labels"].tolist(), logits.argmax(dim=1).tolist(), losses.tolist())
        return [Prediction(*row) for row in zip(*columns, strict=True)]

    def scores(self, predictions: Sequence[Prediction], vocabulary: Vocabulary) -> Scores:
        """`accuracy`, `macro_f1`, `loss`, and `per_label` (see `trainer.metrics`)."""
        if not predictions:
            return {}
        targets, predicted, losses = map(np.array, zip(*predictions, strict=True))
        scores = classification_scores(targets, predicted, vocabulary.names("label"))
        return {"loss": float(losses.mean()), **scores}

    def question(self, request: Mapping[str, Any]) -> Example:
        """The image in the local file that `image` names."""
        path, own = request.get("image"), self.settings
        if not isinstance(path, str):
            raise ValueError("has no field `image` with the path of a file")
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
        with Path(path).open("rb") as file:
            return Example(decoded(file, path, (own.image_size, own.image_size, own.channels)), "")

    def answers(self, net: nn.Module, examples: Sequence[Example], vocabulary: Vocabulary) -> list[dict[str, Any]]:
        """`label`, `confidence`, and `ranking`: the likeliest labels with theirs."""
        device = next(net.parameters()).device
        shares = net(_images(Gathered.of(examples).pixels).to(device)).float().softmax(dim=1)
        best = shares.topk(min(MAX_RANKING, shares.shape[1]))
        names = vocabulary.names("label")
        rankings = [
            [{"label": names[i], "confidence": share} for share, i in zip(*row, strict=True)]
            for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return [{**ranking[0], "ranking": ranking} for ranking in rankings]

    def right(self, prediction: Prediction) -> bool:
        """Whether the likeliest label is the image's."""
        return prediction.predicted == prediction.target


def _images(pixels: np.ndarray) -> Tensor:
    """uint8 (n, H, W, C) as float32 (n, C, H, W) from -1 to 1, channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _ids(labels: np.ndarray, vocabulary: Vocabulary) -> Tensor:
    try:
        ids = np.fromiter(map(vocabulary.ids("label").__getitem__, labels), np.int64, len(labels))
    except KeyError as error:
        raise DataError(f"label {error.args[0]!r} does not occur in the training shards") from error
    return torch.from_numpy(ids)
