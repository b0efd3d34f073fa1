"""A trained model of task `nlu`, to be used in any Python program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer import exported
from trainer.vocabulary import Vocabulary


class Model:
    """What `load` returns. Any number of threads may ask it."""

    def __init__(self, model: exported.Model) -> None:
        self._model = model

    @property
    def vocabulary(self) -> Vocabulary:
        """All names that the model knows: kinds "intent", "response", "entity", "role", "group" and more."""
        return self._model.vocabulary

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """For each text its `intent` with `confidence` and `ranking`, `entities`, `response_key` and `answer`.

        An entity has `start` and `end` (characters), `entity`, `role`, `group` and `value`, None where there is none;
        `answer` is the text known for the response key. Raises BadRequest for a text that is empty or too long.
        """
        return self._model.answers([{"text": text} for text in texts])


def load(folder: str | Path, encoder: str | None = None) -> Model:
    """The model in a local folder, the `model/` of an output folder.

    `encoder`: where the pretrained encoder lies that the model was trained with, if that is not where it lay then.
    Raises CheckpointError for files that are missing or not what was written, SettingError for a model of another
    task or without its encoder.
    """
    sets = {} if encoder is None else {"encoder": encoder}
    return Model(exported.load(Path(folder), task="nlu", sets=sets))
