"""A file of records that grows: it is gone on with after a kill, under the same settings only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..configs.errors import ConfigError
from ..configs.system.files import append_lines, atomic_file, file_errors, write_json
from ..problems.types import Problem
from ..run_files.identity import Identity
from .records import Response, json_line, problem_digest, record_of, responses_of
from .types import Group


class RecordsFile:
    """Appends problems as they are done, each on disk when `append` returns.

    NAME.settings.json beside NAME.jsonl says how they were sampled. What an earlier command wrote
    counts as done; a last line that a kill cut short is dropped. Only where lines begin is kept in
    memory, not what they hold.

    Example: `records = RecordsFile(path, settings)`, then `records.append(groups)` and, of a
    problem that may be done or not, `records.responses(problem)`.

    Raises ConfigError if the file was made with other settings, naming each, or has a line that is
    no record, and FileError if it cannot be read or written.
    """

    def __init__(self, path: Path, settings: Identity) -> None:
        self.path = path
        # By id: the digest of the problem and where its newest line begins.
        self._done: dict[str, tuple[str, int]] = {}
        self._size = 0
        self._replaced = False
        with file_errors(path, "read"):
            begun = path.exists() and path.stat().st_size > 0
        if begun:
            self._require(settings)
            self._read()
        else:
            write_json(self.settings_path, asdict(settings))

    @property
    def settings_path(self) -> Path:
        return self.path.with_suffix(".settings.json")

    def __contains__(self, problem: Problem) -> bool:
        """Whether this very problem is done: one whose content has changed since is not."""
        return problem.id in self._done and self._done[problem.id][0] == problem_digest(problem)

    def responses(self, problem: Problem) -> tuple[Response, ...] | None:
        """Of this very problem; None if it is not done."""
        if problem not in self:
            return None
        with file_errors(self.path, "read"), self.path.open("rb") as lines:
            lines.seek(self._done[problem.id][1])
            return responses_of(json.loads(lines.readline()))

    def append(self, groups: Iterable[Group]) -> None:
        lines = []
        for group in groups:
            record = record_of(group, self.path.parent)
            lines.append(json_line(record))
            self._note(record, self._size)
            self._size += len(lines[-1].encode()) + 1
        append_lines(self.path, lines)

    def tidy(self) -> None:
        """Remove the lines of problems that were done again because their content had changed."""
        if not self._replaced:
            return
        with self.path.open("rb") as lines, atomic_file(self.path) as file:
            for _, start in sorted(self._done.values(), key=lambda place: place[1]):
                lines.seek(start)
                file.write(lines.readline())
        self._replaced = False
        self._done.clear()
        self._read()

    def remove(self) -> None:
        with file_errors(self.path):
            for path in (self.path, self.settings_path):
                path.unlink(missing_ok=True)

    def _note(self, record: dict[str, Any], start: int) -> None:
        self._replaced |= record["id"] in self._done
        self._done[record["id"]] = str(record["digest"]), start

    def _require(self, settings: Identity) -> None:
        try:
            before = Identity(**json.loads(self.settings_path.read_text(encoding="utf-8")))
            differences: Sequence[tuple[str, str]] = settings.differences(before)
        except (OSError, ValueError, TypeError, AttributeError):
            raise ConfigError(
                f"{self.path}: exists, and no {self.settings_path.name} says how it was sampled; "
                "delete it or choose another --out"
            ) from None
        if differences:
            details = "; ".join(detail for _, detail in differences)
            raise ConfigError(
                f"{self.path}: was sampled with other settings ({details}); "
                "delete it or choose another --out"
            )

    def _read(self) -> None:
        self._size = 0
        with file_errors(self.path, "read"), self.path.open("r+b") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    lines.truncate(self._size)
                    break
                try:
                    record = json.loads(line)
                    responses_of(record)
                    self._note(record, self._size)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                    raise ConfigError(
                        f"{self.path}:{number}: not a line of records "
                        f"({type(error).__name__}: {error}); delete it, or choose another --out"
                    ) from error
                self._size += len(line)


def results_beside(out: Path, records: Path) -> None:
    """Raise ConfigError for an `out` that no command of ours wrote, which would be replaced."""
    if out.exists() and not records.exists():
        raise ConfigError(
            f"--out {out}: exists, and no {records.name} beside it says what it was made of; "
            "delete it or choose another"
        )
