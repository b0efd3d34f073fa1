"""A residual network of any size for images of any size."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingLinear


class Block(nn.Module):
    """The pre-activation unit, (n, C, H, W) to (n, D, h, w): normalise, rectify, convolve, twice, plus the input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The input, projected where the shape changes, plus the residual."""
        active = torch.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        residual: Tensor = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        return shortcut + residual


class ResNet(nn.Module):
    """Images (n, channels, H, W) to logits (n, sum(label_blocks)).

    The pre-activation network of He et al., "Identity Mappings in Deep Residual Networks" (2016), with the stem
    and stages that "Deep Residual Learning" (2015, section 4.2) uses for CIFAR-10: a 3x3 convolution, then stages of
    `blocks` units; each stage after the first halves the image and doubles the width. With 3 stages of n blocks it
    has 6n + 2 layers. Averaging over the whole image at the end lets it take any size.
    """

    def __init__(
        self, channels: int, label_blocks: Sequence[int], *, width: int, blocks: int, stages: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(stages)]
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.stages = nn.Sequential(*(_stage(before, after, blocks) for before, after in pairwise([width, *widths])))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = GrowingLinear(widths[-1], label_blocks)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        features = torch.relu(self.norm(self.stages(self.stem(images))))
        logits: Tensor = self.head(self.dropout(features.mean(dim=(2, 3))))
        return logits


def _stage(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    first = Block(in_channels, out_channels, stride=1 if in_channels == out_channels else 2)
    return nn.Sequential(first, *(Block(out_channels, out_channels, stride=1) for _ in range(num_blocks - 1)))


def _initialise(module: nn.Module) -> None:
    """The normal initialisation for rectifiers of He et al., "Delving Deep into Rectifiers" (2015)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
