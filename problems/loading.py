"""Problems from a file: what can be used, and what was left out and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..configs.inputs import require_problem_file
from . import pictures
from .jsonl import read_jsonl
from .mmmu import read_mmmu
from .types import ImageSource, Problem, ProblemError, Skipped, one_line

# The image processor shrinks an image to this many 14 px patches (the largest limit that a
# published checkpoint has) and then refuses one with 512 patches along a side.
_PATCH, _PATCH_LIMIT, _SIDE_LIMIT = 14, 16384, 512


class Source(Protocol):
    """What `configs.common.ProblemSource` offers."""

    @property
    def path(self) -> Path: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def prefix(self) -> str | None: ...


Fault = Callable[[Problem], str | None]


def load_sources(
    sources: Iterable[Source], fault: Fault | None = None
) -> tuple[list[list[Problem]], list[Skipped]]:
    """`load_problems` of each source. An id that an earlier source has is skipped.

    Raises `ProblemError` as well for a source with nothing but such ids.
    """
    loaded: list[list[Problem]] = []
    skipped: list[Skipped] = []
    owners: dict[str, Path] = {}
    for source in sources:
        problems, left_out = load_problems(source, fault)
        skipped += left_out
        fresh = [problem for problem in problems if problem.id not in owners]
        if not fresh:
            raise ProblemError(
                f"{source.path}: every problem has the id of one in {owners[problems[0].id]}; "
                "ids must differ between sources"
            )
        skipped += [
            Skipped(problem.id, f"{source.path}: {owners[problem.id]} has the same id")
            for problem in problems
            if problem.id in owners
        ]
        owners |= dict.fromkeys((problem.id for problem in fresh), source.path)
        loaded.append(fresh)
    return loaded, skipped


def load_problems(
    source: Source, fault: Fault | None = None
) -> tuple[list[Problem], list[Skipped]]:
    """The first `limit` usable problems whose id starts with `prefix`, and what was skipped.

    Every image is decoded once, so that a broken one is known now and not after hours of
    training, but none is kept decoded. `fault` says what else makes a problem unusable, None if
    nothing does: a gold answer that the grader cannot read, for one. The images of JSON lines may
    also lie in the source's `image_roots`, if it has any. Raises `ProblemError` if the file is
    missing, of an unknown kind or without a single usable problem.
    """
    path = Path(source.path)
    problems: list[Problem] = []
    skipped: list[Skipped] = []
    seen: set[str] = set()
    for item in _read(path, getattr(source, "image_roots", ())):
        if not _is_wanted(item, source.prefix, path):
            continue
        reason = item.reason if isinstance(item, Skipped) else _fault(item, seen, fault)
        if isinstance(item, Problem) and reason is None:
            seen.add(item.id)
            problems.append(item)
            if len(problems) == source.limit:
                break
        else:
            skipped.append(Skipped(item.id, reason or ""))
    if not problems:
        raise ProblemError(f"{path}: no usable problem; {_why_none(skipped, source.prefix)}")
    return problems, skipped


def _read(path: Path, image_roots: Sequence[Path]) -> Iterator[Problem | Skipped]:
    require_problem_file(path)
    if path.suffix.lower() == ".jsonl":
        return read_jsonl(path, image_roots)
    return read_mmmu(path)


def _is_wanted(item: Problem | Skipped, prefix: str | None, path: Path) -> bool:
    """By prefix; a record without an id carries its line instead and is always reported."""
    return not prefix or item.id.startswith((prefix, f"{one_line(path.name)}:"))


def _fault(problem: Problem, seen: set[str], further: Fault | None) -> str | None:
    if problem.id in seen:
        return "another problem before it has the same id"
    try:
        for image in problem.images:
            _check_image(image)
    except ProblemError as error:
        return str(error)
    return None if further is None else further(problem)


def _check_image(image: ImageSource) -> None:
    """Raise `ProblemError` if the image is missing, corrupt or too long for the vision tower."""
    data = image.read()
    try:
        width, height = pictures.checked(data)
    except Exception as error:  # Pillow raises all sorts on broken files
        raise image.undecodable(error) from error
    patches = (width // _PATCH) * (height // _PATCH)
    scale = min(1.0, math.sqrt(_PATCH_LIMIT / max(1, patches)))
    # The processor pads to pairs of patches.
    longest = 2 * math.ceil(int(max(width, height) * scale) / (2 * _PATCH))
    if longest >= _SIDE_LIMIT:
        raise ProblemError(f"image {image.name}: a side of {max(width, height)} px is too long")


def _why_none(skipped: list[Skipped], prefix: str | None) -> str:
    if skipped:
        first = skipped[0]
        return f"{len(skipped)} skipped, the first ({first.id}) because: {first.reason}"
    return f"no id starts with {prefix!r}" if prefix else "the file is empty"
