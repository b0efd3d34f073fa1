"""Task `images`: from tar shards to scores."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from tests.trainer.tars import Member, encode, example, write_tar
from trainer.errors import BadExample, DataError
from trainer.image_shards import Example
from trainer.task import make_task
from trainer.tasks.images import Images, Prediction
from trainer.vocabulary import Vocabulary

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def images(**sets: object) -> Images:
    given = {"image_size": 8, "channels": 1, "width": 4, "blocks": 1, "stages": 2} | sets
    task = make_task("images", {name: str(value) for name, value in given.items()})
    assert isinstance(task, Images)
    return task


def read(path: Path, members: list[Member], **sets: object) -> list[Example]:
    return list(images(**sets).read(write_tar(path, members)))


def reason(path: Path, members: list[Member], **sets: object) -> str:
    """Why the one example of these members is bad."""
    shard = images(**sets).read(write_tar(path, members))
    assert len(shard) == 1
    with pytest.raises(BadExample) as first:
        shard[0]
    with pytest.raises(BadExample) as second:
        shard[0]
    assert str(first.value) == str(second.value)
    return str(first.value)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, with next to none."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class TestReading:
    def test_examples_come_in_the_order_of_their_first_members(self, tmp_path: Path) -> None:
        members = [*example("b", "cat", seed=1)[:1], *example("a", "dog", seed=2), *example("b", "cat", seed=1)[1:]]
        assert [each.label for each in read(tmp_path / "x.tar", members)] == ["cat", "dog"]

    def test_pixels_are_those_of_the_file(self, tmp_path: Path) -> None:
        (found,) = read(tmp_path / "x.tar", [("1.png", encode(GREY)), ("1.cls", b"x")])
        assert found.pixels.dtype == np.uint8
        assert np.array_equal(found.pixels, GREY[:, :, None])

    def test_a_second_pass_is_the_same(self, tmp_path: Path) -> None:
        shard = images().read(write_tar(tmp_path / "x.tar", example("1", "x") + example("2", "y", seed=3)))
        first = [(each.pixels.copy(), each.label) for each in shard]
        for (pixels, label), again in zip(first, shard, strict=True):
            assert label == again.label
            assert np.array_equal(pixels, again.pixels)

    def test_ends_like_a_sequence(self, tmp_path: Path) -> None:
        shard = images().read(write_tar(tmp_path / "x.tar", example("1", "x")))
        assert shard[-1].label == "x"
        with pytest.raises(IndexError):
            shard[1]

    @pytest.mark.parametrize(
        ("form", "mode"),
        [
            *(("PNG", mode) for mode in ("L", "LA", "RGB", "RGBA", "P", "1", "I;16")),
            *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
            *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        ],
    )
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_kind_of_image(self, form: str, mode: str, channels: int, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        half = Image.new(mode, (16, 16), 2**15) if mode == "I;16" else Image.new("L", (16, 16), 128).convert(mode)
        half.save(buffer, form)
        (found,) = read(tmp_path / "x.tar", [("1.jpg", buffer.getvalue()), ("1.cls", b"x")], channels=channels)
        assert found.pixels.shape == (8, 8, channels)
        assert abs(found.pixels.mean() - 128) < (4 if mode != "1" else 128)

    def test_another_size_is_scaled(self, tmp_path: Path) -> None:
        large = np.kron(GREY, np.ones((5, 3), np.uint8))
        (found,) = read(tmp_path / "x.tar", [("1.png", encode(large)), ("1.cls", b"x")])
        assert np.abs(found.pixels[1:-1, 1:-1, 0].astype(int) - GREY[1:-1, 1:-1]).max() <= 4

    def test_a_large_photo_is_scaled_as_it_is_decoded(self, tmp_path: Path) -> None:
        smooth = np.kron(GREY, np.ones((128, 128), np.uint8))
        (found,) = read(tmp_path / "x.tar", [("1.jpeg", encode(smooth, "JPEG")), ("1.cls", b"x")])
        assert np.abs(found.pixels[:, :, 0].astype(int) - GREY).max() <= 8

    def test_bytes_held(self, tmp_path: Path) -> None:
        members = example("1", "x") + example("2", "y", seed=3)
        shard = images(channels=3).read(write_tar(tmp_path / "x.tar", members))
        assert shard.nbytes == sum(len(data) for _, data in members) + 2 * 8 * 8 * 3

    def test_no_examples_are_an_empty_sequence(self, tmp_path: Path) -> None:
        assert len(images().read(write_tar(tmp_path / "x.tar", [("README.md", b"hello")]))) == 0

    def test_no_tar_is_a_value_error(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_bytes(b"x" * 2000)
        with pytest.raises(ValueError, match="no whole tar"):
            images().read(tmp_path / "x.tar")


class TestLabels:
    @pytest.mark.parametrize(
        ("name", "content", "label"),
        [
            ("cls", b"cat\n", "cat"),
            ("cls", b" 7 ", "7"),
            ("cls", "\ufeffgr\u00fcn \u7334".encode(), "gr\u00fcn \u7334"),
            ("json", b'{"label": "cat", "cls": 1}', "cat"),
            ("json", b'{"cls": 12}', "12"),
            ("JSON", b'{"width": 3, "label": 0}', "0"),
        ],
    )
    def test_text_or_json(self, name: str, content: bytes, label: str, tmp_path: Path) -> None:
        (found,) = read(tmp_path / "x.tar", [("1.png", encode(GREY)), (f"1.{name}", content)])
        assert found.label == label
        assert images().label(found) == label

    @pytest.mark.parametrize(
        ("name", "content", "text"),
        [
            ("cls", b"", "one line"),
            ("cls", b" \n", "one line"),
            ("cls", b"cat\ndog", "one line"),
            ("cls", b"\xff\xfe", "utf-8"),
            ("cls", b"x" * (2**20 + 1), "larger"),
            ("json", b"{", "no label"),
            ("json", b"[1]", "neither"),
            ("json", b'{"labels": 1}', "neither"),
            ("json", b'{"label": true}', "neither"),
            ("json", b'{"label": 1.5}', "neither"),
            ("json", b'{"label": null}', "neither"),
            ("json", rb'{"label": "\ud800"}', "one line"),
            ("json", b"[" * 100_000, "recursion"),
        ],
    )
    def test_what_is_none(self, name: str, content: bytes, text: str, tmp_path: Path) -> None:
        why = reason(tmp_path / "x.tar", [("1.png", encode(GREY)), (f"1.{name}", content)])
        assert f"'1.{name}'" in why
        assert text in why


class TestBadExamples:
    @pytest.mark.parametrize(
        ("members", "text"),
        [
            ([("a/1.png", encode(GREY))], "'a/1.png': no label beside it; expected 'a/1.cls or .json'"),
            ([("1.cls", b"x")], "'1.cls': no image beside it; expected '1.png or .jpg or .jpeg or .webp'"),
            ([("1.v2.png", b""), ("1.v2.cls", b"x")], "'1.v2.png', '1.v2.cls': no image beside it"),
            ([*example("1", "x"), *example("1", "y")], "'1.png': is in the tar more than once"),
            ([("1.png", b""), ("1.cls", b"x")], "'1.png': is no PNG, JPEG or WebP image"),
            ([("1.png", b"BM" + bytes(100)), ("1.cls", b"x")], "'1.png': is no PNG, JPEG or WebP image"),
            ([("1.png", encode(GREY)[:-30]), ("1.cls", b"x")], "'1.png': cannot be decoded"),
            ([("1.png", png_header(9000, 9000)), ("1.cls", b"x")], "9000 x 9000 pixels"),
            ([("1.png", png_header(60_000, 60_000)), ("1.cls", b"x")], "exceeds limit"),
            ([("\n.png", encode(GREY))], r"'\n.png': no label"),
        ],
    )
    def test_member_and_reason(self, members: list[Member], text: str, tmp_path: Path) -> None:
        why = reason(tmp_path / "x.tar", members)
        assert text in why
        assert "\n" not in why

    def test_the_others_are_as_good_as_ever(self, tmp_path: Path) -> None:
        members = [*example("1", "x"), ("2.png", b"junk"), ("2.cls", b"y"), *example("3", "z")]
        shard = images().read(write_tar(tmp_path / "x.tar", members))
        assert len(shard) == 3
        assert (shard[0].label, shard[2].label) == ("x", "z")


class TestBatches:
    vocabulary = Vocabulary().add("label", ["a", "b"]).add("label", ["A"])
    examples = (Example(np.full((8, 8, 3), 0, np.uint8), "b"), Example(np.full((8, 8, 3), 255, np.uint8), "A"))

    def test_collate(self) -> None:
        batch = images(channels=3).collate(self.examples, self.vocabulary, None)
        assert batch["images"].dtype == torch.float32
        assert batch["images"].shape == (2, 3, 8, 8)
        assert batch["images"].flatten(1).unique(dim=1).tolist() == [[-1.0], [1.0]]
        assert batch["labels"].tolist() == [1, 2]
        assert batch["labels"].dtype == torch.int64

    def test_channels_stay_apart(self) -> None:
        colours = np.broadcast_to(np.array([0, 51, 255], np.uint8), (8, 8, 3))
        batch = images(channels=3).collate([Example(colours, "a")], self.vocabulary, None)
        assert batch["images"][0].mean(dim=(1, 2)).tolist() == pytest.approx([-1, -0.6, 1])

    @pytest.mark.parametrize("how", ["shift", "flip", "shift_flip"])
    def test_augmentation_is_for_training_and_follows_the_seeds(self, how: str) -> None:
        task = images(augment=how)
        examples = [Example(GREY[:, :, None], "a")] * 20
        seeds = np.arange(20, dtype=np.uint64)
        plain = task.collate(examples, self.vocabulary, None)["images"]
        changed = task.collate(examples, self.vocabulary, seeds)["images"]
        assert torch.equal(changed, task.collate(examples, self.vocabulary, seeds)["images"])
        assert not torch.equal(changed, plain)
        assert not torch.equal(changed, task.collate(examples, self.vocabulary, seeds + np.uint64(99))["images"])

    def test_no_augmentation_by_default(self) -> None:
        seeds = np.arange(2, dtype=np.uint64)
        task = images(channels=3)
        plain, seeded = (task.collate(self.examples, self.vocabulary, given)["images"] for given in (None, seeds))
        assert torch.equal(plain, seeded)

    def test_a_label_that_training_never_saw(self) -> None:
        with pytest.raises(DataError, match="'new'"):
            images().collate([Example(GREY[:, :, None], "new")], self.vocabulary, None)


class TestLossAndScores:
    vocabulary = Vocabulary().add("label", ["a", "b", "c"])

    def batch(self, task: Images) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
        return task.collate([Example(each, "abc"[i % 3]) for i, each in enumerate(pixels)], self.vocabulary, None)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_loss_is_the_sum_over_the_examples(self, smoothing: float) -> None:
        task = images(label_smoothing=smoothing)
        net = task.build(self.vocabulary).eval()
        batch = self.batch(task)
        parts = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(6)]
        summed = sum(task.loss(net, part).item() for part in parts)
        assert task.loss(net, batch).item() == pytest.approx(summed, rel=1e-5)

    def test_predictions_hold_target_choice_and_loss(self) -> None:
        task = images()
        net = task.build(self.vocabulary).eval()
        batch = self.batch(task)
        predictions = task.predict(net, batch)
        assert [each.target for each in predictions] == [0, 1, 2, 0, 1, 2]
        assert [each.predicted for each in predictions] == net(batch["images"]).argmax(dim=1).tolist()
        assert sum(each.loss for each in predictions) == pytest.approx(task.loss(net, batch).item(), rel=1e-5)

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0, 9)), min_size=1))
    def test_scores(self, rows: list[tuple[int, int, float]]) -> None:
        scores = images().scores([Prediction(*row) for row in rows], self.vocabulary)
        assert scores["accuracy"] == pytest.approx(np.mean([row[0] == row[1] for row in rows]))
        assert scores["loss"] == pytest.approx(np.mean([row[2] for row in rows]))
        assert set(scores) == {"accuracy", "macro_f1", "loss", "per_label"}
        assert json.loads(json.dumps(scores)) == scores

    def test_nothing_has_no_scores(self) -> None:
        assert images().scores([], self.vocabulary) == {}


def test_a_round_with_a_new_label_grows_only_the_head() -> None:
    task = images()
    first = task.grow(Vocabulary(), ["b", "a"], ())
    second = task.grow(first, ["c", "a"], ())
    before, after = (task.build(vocabulary).state_dict() for vocabulary in (first, second))
    assert after.keys() - before.keys() == {"head.blocks.1.weight", "head.blocks.1.bias"}
    assert all(after[name].shape == tensor.shape for name, tensor in before.items())


def digits(folder: Path) -> tuple[Path, Path]:
    """Real handwritten digits: 800 to learn, 200 held out."""
    data = load_digits()
    pixels, names = np.rint(data.images * (255 / 16)).astype(np.uint8), data.target.astype(str)

    def members(places: range) -> list[Member]:
        return [member for i in places for member in ((f"{i}.png", encode(pixels[i])), (f"{i}.cls", names[i].encode()))]

    return write_tar(folder / "a.tar", members(range(800))), write_tar(folder / "b.tar", members(range(1000, 1200)))


def test_it_learns_digits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = images(width=16, augment="none")
    train, held_out = map(task.read, digits(tmp_path))
    vocabulary = task.grow(Vocabulary(), {each.label for each in train}, ())
    net = task.build(vocabulary)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(4):
        for batch in torch.randperm(len(train)).split(40):
            optimizer.zero_grad()
            (task.loss(net, task.collate([train[i] for i in batch.tolist()], vocabulary, None)) / len(batch)).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        predictions = task.predict(net, task.collate(list(held_out), vocabulary, None))
    assert task.scores(predictions, vocabulary)["accuracy"] > 0.9
