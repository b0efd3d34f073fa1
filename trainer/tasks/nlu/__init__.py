"""Task `nlu`: what messages mean. `load` opens a trained model."""

from trainer.tasks.nlu.model import Model, load

__all__ = ["Model", "load"]
