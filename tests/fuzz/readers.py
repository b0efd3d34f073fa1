"""What is fuzzed: readers of bytes that others wrote, as functions that raise nothing, whatever the bytes are.

Each says whether it accepted anything that the bytes may stand for.
"""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import zstandard

from cloud.errors import Damaged
from cloud.records import AttemptFile, ClaimFile, FileDigest, Host, Record, TookOver
from cloud.sealed import seal, seal_lines, unseal, unseal_lines
from trainer.errors import BadExample, DataError
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.reading import read
from trainer.webdataset import read_groups

MAX_TEXT_CHARS = 2000
FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-")  # an object, for it goes with the process


def sealed(data: bytes) -> bool:
    """The one reader of JSON: as it comes, and with a digest that is right, so that what follows it is reached too."""
    digest = hashlib.sha256(data).hexdigest().encode()
    accepted = False
    for content in (data, data + b', "digest": "sha256:%b"}\n' % digest):
        for model in (Record, AttemptFile):
            with suppress(Damaged):
                found = unseal(content, model)
                assert unseal(seal(found), model) == found
                accepted = True
    return accepted


def ledger(data: bytes) -> bool:
    """Ledgers: as they come, and as packed lines whose digest is right."""
    lines = data if data.endswith(b"\n") else data + b"\n"
    last = b'{"digest": "sha256:%b"}\n' % hashlib.sha256(lines).hexdigest().encode()
    accepted = False
    for content in (data, zstandard.compress(lines + last)):
        with suppress(Damaged):
            for line in unseal_lines(content):
                assert isinstance(line, dict)
            accepted = True
    return accepted


def yaml(data: bytes) -> bool:
    """Rasa's NLU YAML."""
    return _messages(data, ".yml")


def example(data: bytes) -> bool:
    """One example with its entities written into it, in a good file."""
    line = b" ".join(data.split())
    return _messages(b"nlu:\n- intent: a\n  examples: |\n    - " + line + b"\n", ".yml")


def jsonl(data: bytes) -> bool:
    """JSON lines."""
    return _messages(data, ".jsonl")


def table(data: bytes) -> bool:
    """CSV."""
    return _messages(b"text,category\n" + data, ".csv")


def tar(data: bytes) -> bool:
    """Tars of images."""
    path = Path(FOLDER.name, "x.tar")
    path.write_bytes(data)
    try:
        for group in read_groups(path):
            assert group.num_bytes <= len(data) * max(1, len(group.members))
    except ValueError:
        return False
    return True


def _messages(data: bytes, suffix: str) -> bool:
    """What is read must be as `Message` says, and every fault must have its place; whether there was none."""
    path = Path(FOLDER.name, f"x{suffix}")
    path.write_bytes(data)
    try:
        found = read(path, MAX_TEXT_CHARS)
    except DataError as error:
        assert str(error).startswith(("line ", "has neither nlu:")), error
        return False
    accepted = True
    for index in range(len(found)):
        try:
            _check(found[index])
        except BadExample as error:
            assert str(error).startswith("line "), error
            accepted = False
    return accepted


def _check(message: Message) -> None:
    assert 0 < len(message.text) <= MAX_TEXT_CHARS
    json.dumps(message._asdict(), ensure_ascii=False).encode()
    assert (message.intent or "") == (message.response_key or message.intent or "").partition("/")[0]
    for one in message.entities:
        assert 0 <= one.start < one.end <= len(message.text) and one.value != message.text[one.start : one.end]
    for one, other in pairwise(message.entities):
        assert one.end <= other.start or one[:2] == other[:2]


READERS: Mapping[str, Callable[[bytes], bool]] = {
    one.__name__: one for one in (sealed, ledger, yaml, example, jsonl, table, tar)
}


YAML = """\
version: "3.1"
nlu:
- intent: greet
  metadata: {a: [1, &x 2]}
  examples: |
    - hi [you](who:me)
    # no
- intent: faq/a
  examples:
  - text: "one \\x41"
  - text: >-
      two
      [three]{"entity": "n"}
    metadata: *x
- synonym: 'me'
  examples: |
    - you
- regex: n
  examples: |
    - [0-9]+
- lookup: city
  examples: |
    - Rome
responses:
  utter_faq/a:
  - text: yes
"""


def _records() -> list[bytes]:
    """A record and an attempt's file, without their digests."""
    state, ledger_file = (
        FileDigest(key=key, size=3, chunks=("ab",)) for key in ("ckpt_2_48-a7.pth", "ledger/round-0002-a7.jsonl.zst")
    )
    record = Record(
        name="ckpt_2_48-a7", attempt=7, epoch=2, global_step=48, round=2, whole_epoch=False, object=state,
        ledgers=(ledger_file,), parent="ckpt_2-a6", metrics={"accuracy": 0.5}, settings={"seed": 1},
    )  # fmt: skip
    host = Host(boot_id="b", pid_namespace="pid:[1]", pid=7, start_ticks=99, name="m-ä")
    took_over = TookOver(attempt=6, reason="gone")
    claim = ClaimFile(attempt=7, nonce="n", host=host, took_over=took_over, beat_seconds=5.0)
    return [seal(one).rpartition(b', "digest"')[0] for one in (record, claim)]


def _tar(form: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for member in ("a/1.png", "a/1.cls", "é" * 40 + ".png"):
            info = tarfile.TarInfo(member)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"xyz"))
    return content.getvalue()[:5120]  # up to the end mark of the longest


SEEDS: Mapping[str, list[bytes]] = {
    "sealed": _records(),
    "ledger": [b'{"key": "a.tar", "size": 3, "labels": {"cat": 2}}\n', seal_lines([{"key": "a"}, {"key": "b"}])],
    "yaml": [YAML.encode(), b"responses:\n  utter_faq/a:\n  - text: x\n"],
    "example": [
        b'a [b](c:d) \\[e\\] [f]{"entity": "g", "role": "h", "value": "i"} [j][{"entity": "k"}, {"entity": "l"}]'
    ],
    "jsonl": [
        b'{"text": "a b", "intent": "f", "response_key": "f/g", "entities": '
        b'[{"start": 0, "end": 1, "entity": "x", "role": "r", "group": "1", "value": "y"}]}\n{"text": "\\u00e9"}\n'
    ],
    "table": [b'hi,greet\n"a, ""b""\nc",faq/x\n'],
    "tar": [_tar(form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)],
}
"""Good input of each reader, from which a fuzzer starts."""
