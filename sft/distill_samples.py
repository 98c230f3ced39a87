"""The samples file of a distillation: every graded response, one line per problem.

It is what makes `kvl-sft distill` resumable, and what other rows can be chosen from later without
sampling again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..configs.errors import KVLError
from ..configs.files import append_lines
from ..evaluation.types import Group
from ..problems.types import Problem
from ..rewards.types import Outcome
from ..rollouts.types import StopReason
from .distill_selection import Response

_EDGE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """Where samples come from; all lines of a file agree on it.

    weights   a digest of the weight files, so that other weights under the same path are noticed
    """

    checkpoint: str
    weights: str
    samples: int
    temperature: float
    max_response_tokens: int
    seed: int


class SamplesFile:
    """Appends problems as they are done; what an earlier session wrote is read first.

    Raises KVLError if the file holds samples of another source or cannot be read; a last line cut
    short by a kill is dropped.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self._source = asdict(source)
        self._done: dict[str, tuple[str, tuple[Response, ...]]] = {}
        if path.exists():
            self._read()

    def responses(self, problem: Problem) -> tuple[Response, ...] | None:
        """Of this very problem; None if it was not sampled, or had another content then."""
        digest, responses = self._done.get(problem.id, ("", ()))
        return responses if digest == problem_digest(problem) else None

    def append(self, groups: Sequence[Group]) -> None:
        lines = []
        for group in groups:
            responses = tuple(
                Response(
                    one.rollout.sample,
                    one.rollout.text,
                    one.tokens,
                    one.verdict.outcome,
                    one.rollout.stop_reason,
                )
                for one in group.responses
            )
            digest = problem_digest(group.problem)
            self._done[group.problem.id] = digest, responses
            line = {
                "id": group.problem.id,
                "problem": digest,
                **self._source,
                "responses": [asdict(response) for response in responses],
            }
            lines.append(json.dumps(line, ensure_ascii=False))
        append_lines(self.path, lines)

    def _read(self) -> None:
        whole = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                try:
                    self._accept(json.loads(line))
                except KVLError:
                    raise
                except (ValueError, TypeError, KeyError) as error:
                    raise KVLError(
                        f"{self.path}:{number}: not a line of samples ({error}); "
                        "delete it, or choose another --out"
                    ) from error
        if whole < self.path.stat().st_size:
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def _accept(self, line: dict[str, Any]) -> None:
        changed = [
            f"{name} was {line[name]!r}, is {value!r}"
            for name, value in self._source.items()
            if line[name] != value
        ]
        if changed:
            raise KVLError(
                f"{self.path}: holds samples of another source ({'; '.join(changed)}); "
                "choose another --out, or delete it to start over"
            )
        responses = tuple(
            Response(
                response["sample"],
                response["text"],
                response["tokens"],
                Outcome(response["outcome"]),
                StopReason(response["stop_reason"]),
            )
            for response in line["responses"]
        )
        self._done[line["id"]] = line["problem"], responses


def problem_digest(problem: Problem) -> str:
    """Of all that the policy reads and the grader compares with."""
    digest = hashlib.blake2b(digest_size=8)
    text = [problem.question, problem.options, problem.answer, problem.answer_type]
    precision = [] if problem.precision is None else [problem.precision]
    digest.update(json.dumps(text + precision).encode())
    for image in problem.images:
        digest.update(hashlib.blake2b(image.read()).digest())
    return digest.hexdigest()


def weights_digest(checkpoint: Path) -> str:
    """Of the names, sizes, first and last MiB of the weight files: hashing all of 33 GB would
    take as long as sampling some problems."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(checkpoint.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}/".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE_BYTES))
            file.seek(max(0, size - _EDGE_BYTES))
            digest.update(file.read())
    return digest.hexdigest()
