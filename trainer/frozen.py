"""Tensors that training never changes, such as a pretrained encoder: stored once, not with every checkpoint."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import IO

from torch import Tensor, nn

from trainer import checkpoint, contents
from trainer.errors import SettingError


class Frozen:
    """The frozen tensors of one network, by name: the live ones, which are copied nowhere before they are written."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        # torch counts what is done to a tensor in place.
        self._versions = {name: tensor._version for name, tensor in self._tensors.items()}

    @property
    def num_bytes(self) -> int:
        """What each checkpoint is smaller by."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    @cached_property
    def sha256(self) -> str:
        """The digest of names, types, shapes and values, which names their file."""
        return contents.digest_of(self._tensors)

    def check(self) -> None:
        """SettingError when one was changed since: what was stored of it would be wrong."""
        for name, tensor in self._tensors.items():
            if tensor._version != self._versions[name]:
                raise SettingError(
                    f"frozen: the task says that training never changes {name}, and it did; take it out of `frozen`, "
                    "or keep that part of the network in evaluation mode: eval() in its train()"
                )

    def write(self, file: IO[bytes]) -> None:
        """Serialise them, as `trainer.checkpoint.write` does; SettingError as `check`."""
        if name := contents.not_finite(self._tensors):
            raise SettingError(f"frozen: {name} is not finite; nothing of it was saved; mend what it was read from")
        checkpoint.write({name: tensor.cpu() for name, tensor in self._tensors.items()}, file)
        self.check()


def frozen_names(net: nn.Module, prefixes: Sequence[str]) -> tuple[str, ...]:
    """The names in the network's state that begin with one of `prefixes`.

    SettingError where a prefix names nothing, or something that is trained.
    """
    names = list(net.state_dict())
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise SettingError(f"frozen: nothing in the network begins with {prefix!r}; mend the task")
    found = tuple(name for name in names if name.startswith(tuple(prefixes)))
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    if wrong := next((name for name in found if name in trained), None):
        raise SettingError(f"frozen: {wrong} is trained; call requires_grad_(False) on it in `build`, or take it out")
    return found
