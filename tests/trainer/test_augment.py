"""Augmentation: a function of image and seed, whatever the batch."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import augment

SEEDS = np.arange(500, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def images(num: int, height: int = 8, width: int = 16, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, channels), dtype=np.uint8)


def test_shift_moves_by_up_to_an_eighth_and_repeats_the_border() -> None:
    originals = images(len(SEEDS))
    moved = augment.shift(originals, SEEDS)
    padded = np.pad(originals, ((0, 0), (1, 1), (2, 2), (0, 0)), mode="edge")
    offsets = []
    for i, image in enumerate(moved):
        crops = {(y, x): padded[i, y : y + 8, x : x + 16] for y in range(3) for x in range(5)}
        offsets += [place for place, crop in crops.items() if np.array_equal(crop, image)]
    assert len(offsets) == len(SEEDS)
    counts = np.unique(offsets, axis=0, return_counts=True)[1]
    assert len(counts) == 15  # every one of 3 x 5 places occurs, about equally often
    assert counts.min() > 12


def test_flip_mirrors_about_half() -> None:
    originals = images(len(SEEDS))
    flipped = augment.flip(originals, SEEDS)
    mirrored = (flipped == originals[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (flipped == originals).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 200 < mirrored.sum() < 300


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_each_image_depends_on_its_own_seed_only(seeds: list[int]) -> None:
    originals, keys = images(len(seeds)), np.array(seeds, dtype=np.uint64)
    for change in (augment.shift, augment.flip):
        together = change(originals, keys)
        alone = [change(originals[i : i + 1], keys[i : i + 1])[0] for i in range(len(seeds))]
        assert np.array_equal(together, np.stack(alone))
        assert together.shape == originals.shape
        assert together.dtype == np.uint8


def test_draws_stay_what_they_were() -> None:
    """A resumed run must see what an undisturbed one saw, also after an upgrade."""
    line = np.arange(8, dtype=np.uint8).reshape(1, 1, 8, 1).repeat(8, axis=1).repeat(6, axis=0)
    seeds = np.arange(6, dtype=np.uint64)
    assert augment.shift(line, seeds)[:, 0, 4, 0].tolist() == [3, 4, 5, 5, 4, 5]
    assert augment.flip(line, seeds)[:, 0, 0, 0].tolist() == [0, 7, 7, 0, 0, 7]
