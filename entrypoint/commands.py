"""The sub-commands of `perdure`, in one table. What they need is imported when they run: torch takes seconds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from entrypoint.console import Console
from entrypoint.settings import FIELDS, JobConfig, is_for_training
from entrypoint.stop import Stop

Run = Callable[[JobConfig, Stop, Console], int]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A sub-command: what it does, the settings it cannot do without, those it reads, and how it is run.

    Every command accepts every setting, so that one set of variables serves them all; `--help` shows those it reads.
    """

    help: str
    required: tuple[str, ...]
    reads: frozenset[str]
    run: Run


def _run_of(module: str) -> Run:
    """`run` of a module of this package, imported when it is called."""

    def run(config: JobConfig, stop: Stop, console: Console) -> int:
        command: Run = import_module(f"entrypoint.{module}").run
        stop.check()  # a signal during the imports: nothing was begun, so nothing needs to be saved
        return command(config, stop, console)

    return run


_TRAIN_READS = [name for name, field in FIELDS.items() if is_for_training(field)]
_INDEX_READS = """data_url endpoint_url region task set on_bad_example max_bad_examples max_shard_bytes cache_dir
cache_bytes max_run_seconds retry_exit_code log_format debug"""
_PREDICT_READS = """model input output endpoint_url region task set device threads max_run_seconds grace_seconds
retry_exit_code log_format debug"""
_EVALUATE_READS = f"{_INDEX_READS} model output eval_url device threads batch_size memory_bytes grace_seconds"

_VERIFY_READS = """train_url data_url eval_url endpoint_url region task deep retrain device threads deterministic
memory_bytes cache_dir cache_bytes max_run_seconds retry_exit_code log_format debug"""

DEFAULT = "train"

COMMANDS: Mapping[str, Command] = {
    DEFAULT: Command(
        help="train, or continue what an earlier submission began",
        required=("train_url", "data_url", "task"),
        reads=frozenset(_TRAIN_READS),
        run=_run_of("job"),
    ),
    "index": Command(
        help="write an index beside the shards, which spares the census of them",
        required=("data_url", "task"),
        reads=frozenset(_INDEX_READS.split()),
        run=_run_of("index"),
    ),
    "verify": Command(
        help="check an output folder byte for byte, and say what is wrong; writes nothing",
        required=("train_url",),
        reads=frozenset(_VERIFY_READS.split()),
        run=_run_of("verify"),
    ),
    "predict": Command(
        help="what the model of a job says to each line of a file",
        required=("model", "input"),
        reads=frozenset(_PREDICT_READS.split()),
        run=_run_of("predict"),
    ),
    "evaluate": Command(
        help="the scores of the model of a job on any shards",
        required=("model", "data_url"),
        reads=frozenset(_EVALUATE_READS.split()),
        run=_run_of("evaluate"),
    ),
}
