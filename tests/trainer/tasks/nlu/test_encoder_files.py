"""Which encoder it is decides, not where it lies."""

import shutil
from pathlib import Path

import pytest

from tests.trainer.tasks.nlu.encoders import write_encoder
from trainer.errors import SettingError
from trainer.settings import fields_of
from trainer.task import in_round, parse_settings
from trainer.tasks.nlu.encoder_files import EncoderSettings, encoder_digest

pytest.importorskip("tokenizers", reason="the extra 'encoder' is not installed")


def test_the_same_files_elsewhere_are_the_same_encoder(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "one")
    copy = shutil.copytree(folder, tmp_path / "two")
    first, second = (parse_settings(EncoderSettings, {"encoder": str(place)}) for place in (folder, copy))
    assert fields_of(first, "run") == fields_of(second, "run") == {"encoder_digest": encoder_digest(str(folder))}
    assert in_round(first, {}) == first


def test_another_file_is_another_encoder(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    before = encoder_digest(str(folder))
    path = folder / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    assert encoder_digest(str(folder)) != before


def test_without_an_encoder_there_is_no_digest() -> None:
    settings = parse_settings(EncoderSettings, {})
    assert (settings.encoder, settings.encoder_digest) == ("", "none")


def test_a_digest_that_is_given_must_be_that_of_the_encoder(tmp_path: Path) -> None:
    folder = str(write_encoder(tmp_path))
    given = {"encoder": folder, "encoder_digest": encoder_digest(folder)}
    assert parse_settings(EncoderSettings, given).model_dump().items() >= given.items()
    for encoder, found in ((folder, encoder_digest(folder)), ("", "none")):
        with pytest.raises(SettingError, match=f"digest {found}, expected abc"):
            parse_settings(EncoderSettings, {"encoder": encoder, "encoder_digest": "abc"})
