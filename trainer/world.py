"""Which of several processes this one is: the one value object that knows."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class World:
    """`rank`, `local_rank` and `world_size` mean what torch means; a lone process is World()."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    def share(self, start: int, stop: int) -> tuple[int, int]:
        """This rank's slice of the positions [start, stop) of a global batch; sizes of slices differ by one at most."""
        num = stop - start
        return start + num * self.rank // self.world_size, start + num * (self.rank + 1) // self.world_size
