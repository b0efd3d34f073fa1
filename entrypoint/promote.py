"""`--promote_if`: the conditions under which a round's model replaces the exported one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

EXAMPLE = "accuracy >= best - 0.01 and negative_flip_rate <= 0.02"
TOLERANCE = 1e-9
"""Of sums such as 0.98 - 0.01, which binary numbers miss by a hair."""

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_CLAUSE = re.compile(
    rf"(?P<score>[^\s<>=]+)\s*(?P<sign>>=|<=|>|<)\s*"
    rf"(?:(?P<base>best|before)(?:\s*(?P<shift>[+-]\s*{_NUMBER}))?|(?P<number>[+-]?\s*{_NUMBER}))"
)


@dataclass(frozen=True, kw_only=True)
class Clause:
    """`score >= number`, or against the best model promoted so far, or the network before the round, plus `number`."""

    score: str
    sign: Literal[">=", ">", "<=", "<"]
    base: Literal["best", "before"] | None
    number: float

    def __str__(self) -> str:
        shift = f" {'-' if self.number < 0 else '+'} {abs(self.number):g}" if self.number else ""
        return (
            f"{self.score} {self.sign} {self.base}{shift}" if self.base else f"{self.score} {self.sign} {self.number:g}"
        )

    @property
    def wants_high(self) -> bool:
        """Whether higher scores are better."""
        return self.sign.startswith(">")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The scores of a model, those of the network before the round, and the lowest and highest of promoted models."""

    scores: Mapping[str, float]
    before: Mapping[str, float]
    promoted: Mapping[str, Sequence[float]]


def parse(text: str) -> tuple[Clause, ...]:
    """The conditions, all of which must hold; none of an empty text. ValueError for anything else."""
    if not text.strip():
        return ()
    return tuple(_clause(part.strip(), text) for part in re.split(r"\s+and\s+", text.strip()))


def _clause(part: str, text: str) -> Clause:
    found = _CLAUSE.fullmatch(part)
    if found is None:
        raise ValueError(
            f"--promote_if {text!r}: {part!r} is no condition; write a score, one of >= > <= <, and a number, best or "
            f"before (+ or - a number), joined by `and`, such as {EXAMPLE!r}"
        )
    number = (found["shift"] or found["number"] or "0").replace(" ", "")
    return Clause(score=found["score"], sign=found["sign"], base=found["base"], number=float(number))  # type: ignore[arg-type]  # as the pattern has them


def unknown_scores(clauses: Sequence[Clause], known: Sequence[str]) -> list[str]:
    """The scores asked for that there are not."""
    return [clause.score for clause in clauses if clause.score not in known]


def reason_against(clauses: Sequence[Clause], measured: Measured) -> str:
    """Why the model is not to be promoted, with the numbers; "" when every condition holds."""
    return "; ".join(filter(None, (_against(clause, measured) for clause in clauses)))


def _against(clause: Clause, measured: Measured) -> str:
    """A score that no promoted model has is the best there is; without its score, or one before, nothing holds."""
    score = measured.scores.get(clause.score)
    if score is None:
        return f"{clause}: there is no such score"
    limit = clause.number
    if clause.base == "best":
        if clause.score not in measured.promoted:
            return ""
        limit += (max if clause.wants_high else min)(measured.promoted[clause.score])
    elif clause.base == "before":
        before = measured.before.get(clause.score.removeprefix("old_labels."))
        if before is None:
            return f"{clause}: there is no such score of the network before the round"
        limit += before
    return "" if _holds(score, clause, limit) else f"{clause} does not hold: {score:.4f} against {limit:.4f}"


def _holds(score: float, clause: Clause, limit: float) -> bool:
    ahead = score - limit if clause.wants_high else limit - score
    return ahead >= -TOLERANCE if "=" in clause.sign else ahead > TOLERANCE
