"""`python -m tests.fuzz.one READER [libFuzzer options]`: ever new bytes for one reader, led by the code they reach."""

import sys

import atheris

with atheris.instrument_imports(include=["cloud", "trainer.tasks.nlu", "trainer.webdataset", "tarfile", "json", "csv"]):
    from tests.fuzz.readers import READERS


def give(data: bytes) -> None:
    """To libFuzzer an answer would mean something else."""
    READERS[sys.argv[1]](data)


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], give)
    atheris.Fuzz()
