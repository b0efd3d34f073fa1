"""PNG images of the plain form, many at once: what Pillow sees in each, or nothing at all."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.trainer.tars import encode
from trainer.image_files import decoded
from trainer.plain_png import END, MAX_BYTES, is_plain, plain_pngs

SHAPE = (6, 5, 3)


def image(seed: int, shape: tuple[int, ...] = SHAPE) -> bytes:
    """Rows that Pillow filters each in its own way: noise, and slopes of several kinds."""
    random = np.random.default_rng(seed)
    height, width, _ = shape
    (down, right), noise = np.indices((height, width)), random.integers(0, 9, (height, width))
    slopes = np.tensordot(random.integers(0, 9, 3), np.stack([down, right, noise]), 1)
    pixels = (slopes[:, :, None] + random.integers(0, 30, shape)).astype(np.uint8)
    return encode(pixels[:, :, 0] if shape[2] == 1 else pixels)


def by_pillow(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return decoded(io.BytesIO(content), "it", shape)


@given(
    st.lists(st.integers(0, 2**32), min_size=1, max_size=40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
)
def test_all_of_the_form_come_out_as_pillow_has_them(seeds, height, width, channels):
    shape = (height, width, channels)
    contents = [image(seed, shape) for seed in seeds]
    found = plain_pngs([memoryview(content) for content in contents], shape)
    assert list(found) == list(range(len(seeds)))
    for place, content in enumerate(contents):
        assert np.array_equal(found[place], by_pillow(content, shape))


CHANGES = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3)


@given(CHANGES, st.integers(0, 200), st.binary(max_size=30))
@example([], 0, b"behind the end")
@example([], 1, b"")
@example([(41 + 2, 0)], 0, b"")
def test_a_damaged_one_is_read_as_pillow_does_or_left_to_it_and_others_beside_it_are_read(changes, num_cut, more):
    damaged = bytearray(image(0))
    for place, value in changes:
        damaged[place % len(damaged)] = value
    content = bytes(damaged[: max(0, len(damaged) - num_cut)]) + more
    whole = [image(1), image(2)]
    found = plain_pngs([memoryview(each) for each in (whole[0], content, whole[1])], SHAPE)
    if 1 in found:
        assert np.array_equal(found[1], by_pillow(content, SHAPE))
    for place, each in ((0, whole[0]), (2, whole[1])):
        if place in found:
            assert np.array_equal(found[place], by_pillow(each, SHAPE))


def repacked(rows: bytes) -> bytes:
    """An image with other rows than it had."""
    data = zlib.compress(rows)
    length, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return image(0)[:33] + length + b"IDAT" + data + check + END


ROWS = zlib.decompress(image(0)[41:-16])
ODD = {
    "a filter there is not": b"\x09" + ROWS[1:],
    "a row too few": ROWS[:-16],
    "a row too many": ROWS + ROWS[:16],
    "far too many": ROWS * 10**5,
}


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD)
def test_what_pillow_refuses_or_reads_in_part_is_left_to_it(rows):
    content, whole = repacked(rows), image(1)
    assert is_plain(memoryview(content), SHAPE)
    assert 1 not in plain_pngs([memoryview(whole), memoryview(content)], SHAPE)
    assert np.array_equal(plain_pngs([memoryview(whole)], SHAPE)[0], by_pillow(whole, SHAPE))


def other(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros(SHAPE, np.uint8)).convert(kind).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [other("L"), other("P"), other("RGBA"), other("RGB", dpi=(72, 72)), image(0, (5, 6, 3)), b"", END, b"GIF89a"],
    ids=["grey", "palette", "alpha", "resolution", "another size", "nothing", "end", "another format"],
)
def test_other_images_are_left_to_pillow(content):
    assert plain_pngs([memoryview(content)], SHAPE) == {}


def test_large_images_gain_nothing():
    shape = (1, MAX_BYTES + 1, 1)
    assert plain_pngs([memoryview(image(0, shape))], shape) == {}
