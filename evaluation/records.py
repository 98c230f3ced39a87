"""Graded responses as JSON lines: the one schema of transcripts, evaluation, rating, guessing and
distillation. docs/records.md shows a line.

A line is a problem once, with its responses:

    id, source, family, level, question, options, answer, answer_type, precision
                of the problem; `answer` is a list where several are accepted
    digest      of all that the policy reads and the grader compares with
    images      where each lies; one that came as bytes is written beside the file once, by hash
    responses   of each, the fields of `Response`
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..configs.system.files import write_atomically
from ..problems import pictures
from ..problems.types import ImageSource, Problem, is_encodable
from ..rewards.types import Outcome
from ..rollouts.types import StopReason
from .types import GradedResponse, Group

Record = dict[str, Any]

# What the tokenizer decodes broken bytes to: such a text is not what was sampled.
_UNDECODABLE = "\ufffd"


@dataclass(frozen=True, slots=True)
class Response:
    """A graded response as its record holds it.

    Example: `Response(3, "◁think▷I see 7.◁/think▷Answer: 7", 14, Outcome.CORRECT,
    StopReason.STOP)`.

    tokens       sampled tokens, the closing one included
    temperature  0 for a greedy response; None: not known
    extracted    the committed answer, and `span`, its character offsets in `text`
    reason       why there is no answer, or why it could not be graded
    parts        weighted rewards by name; `reward` is their sum, None where there are none
    advantage    None: it was not trained on
    versions     (oldest, newest) weight version that sampled it; None of an empty response
    """

    sample: int
    text: str
    tokens: int
    outcome: Outcome
    stop_reason: StopReason
    temperature: float | None = None
    extracted: str | None = None
    span: tuple[int, int] | None = None
    reason: str = ""
    parts: Mapping[str, float | None] = field(default_factory=dict)
    reward: float | None = None
    advantage: float | None = None
    versions: tuple[int, int] | None = None

    @property
    def accuracy(self) -> float:
        """Correctness in {0, 1}; a response that was cut is wrong whatever it says."""
        return float(self.outcome is Outcome.CORRECT and self.stop_reason is StopReason.STOP)

    @property
    def gradable(self) -> bool:
        return self.outcome not in (Outcome.INVALID, Outcome.TIMEOUT)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def complete(self) -> bool:
        """Ended by the policy itself and decoded without loss."""
        return self.stop_reason is StopReason.STOP and _UNDECODABLE not in self.text


def pass_rate(responses: Sequence[Response]) -> float | None:
    """Share of right answers among the graded ones; None when none could be graded."""
    graded = [one.accuracy for one in responses if one.gradable]
    return sum(graded) / len(graded) if graded else None


def recorded(response: GradedResponse) -> Response:
    rollout, verdict = response.rollout, response.verdict
    return Response(
        sample=rollout.sample,
        text=rollout.text,
        tokens=response.tokens,
        outcome=verdict.outcome,
        stop_reason=rollout.stop_reason,
        temperature=response.temperature,
        extracted=verdict.extracted,
        span=verdict.span,
        reason=verdict.reason,
        parts={name: _finite(value) for name, value in verdict.parts.items()},
        reward=_finite(response.reward) if verdict.parts else None,
        advantage=_finite(response.advantage),
        versions=rollout.weight_versions if rollout.segments else None,
    )


def record_of(group: Group, folder: Path) -> Record:
    """The line of a group, for a file in `folder`, where images that came as bytes are written."""
    problem = group.problem
    return {
        "id": problem.id,
        "digest": problem_digest(problem),
        "source": problem.source or None,
        "family": problem.family,
        "level": problem.level,
        "question": problem.question,
        "options": list(problem.options),
        "images": [image_reference(image, folder) for image in problem.images],
        "answer": problem.answer if isinstance(problem.answer, str) else list(problem.answer),
        "answer_type": problem.answer_type.value,
        "precision": problem.precision,
        "responses": [asdict(recorded(one)) for one in group.responses],
    }


def responses_of(record: Record) -> tuple[Response, ...]:
    """The responses of a line. Raises ValueError, TypeError or KeyError for one that is no record.

    Fields that it does not know are passed over: a newer version may have written them.
    """
    known = Response.__slots__
    found = []
    for stored in record["responses"]:
        given = {name: stored[name] for name in known if name in stored}
        given["outcome"] = Outcome(stored["outcome"])
        given["stop_reason"] = StopReason(stored["stop_reason"])
        for name in ("span", "versions"):
            if (pair := given.get(name)) is not None:
                given[name] = tuple(pair)
        found.append(Response(**given))
    return tuple(found)


def json_line(record: Record) -> str:
    """One line, without its end. Half a surrogate pair, as broken tokenizers write it, is escaped,
    because no encoding holds it."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return line if is_encodable(line) else json.dumps(record, allow_nan=False)


def write_groups(path: Path, groups: Sequence[Group]) -> None:
    """A whole file of records at once."""
    lines = [json_line(record_of(group, path.parent)) + "\n" for group in groups]
    write_atomically(path, "".join(lines))


def write_transcripts(folder: Path, iteration: int, groups: Sequence[Group], limit: int) -> None:
    """The first `limit` groups of an iteration, one per line."""
    if limit > 0 and groups:
        write_groups(folder / f"iteration_{iteration:06d}.jsonl", groups[:limit])


def problem_digest(problem: Problem) -> str:
    """Of all that the policy reads and the grader compares with."""
    digest = hashlib.blake2b(digest_size=8)
    text = [problem.question, problem.options, problem.answer, problem.answer_type]
    precision = [] if problem.precision is None else [problem.precision]
    digest.update(json.dumps(text + precision).encode())
    for image in problem.images:
        digest.update(hashlib.blake2b(image.read()).digest())
    return digest.hexdigest()


def image_reference(image: ImageSource, folder: Path) -> str:
    """Where the image lies; one that came as bytes is written beside the records once."""
    if image.path is not None:
        return str(image.path.resolve())
    data = image.read()
    name = f"images/{hashlib.sha256(data).hexdigest()[:16]}.{_image_format(data)}"
    path = folder / name
    if not path.exists():
        write_atomically(path, data)
    return name


def _image_format(data: bytes) -> str:
    try:
        return (pictures.opened(data).format or "bin").lower()
    except Exception:  # Pillow raises all sorts on broken files
        return "bin"


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
