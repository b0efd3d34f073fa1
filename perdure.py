"""Perdure: a training job that outlives its machine. These are the public names.

A task of one's own (`--task ./my_task.py:MyTask`) subclasses `Task`; a training loop of one's own goes inside `Run`.
"""

from entrypoint.run import Run
from trainer.errors import BadExample
from trainer.nn.growing import GrowingLinear
from trainer.task import Task, TaskSettings
from trainer.vocabulary import Vocabulary

__all__ = ["BadExample", "GrowingLinear", "Run", "Task", "TaskSettings", "Vocabulary"]
