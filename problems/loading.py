"""Problems from a file: what can be used, and what was left out and why."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from PIL import Image, UnidentifiedImageError

from .jsonl import read_jsonl
from .mmmu import read_mmmu
from .types import CHOICE_LETTERS, ImageSource, Problem, ProblemError, Skipped

_READERS: dict[str, Callable[[Path], Iterator[Problem | Skipped]]] = {
    ".jsonl": read_jsonl,
    ".parquet": read_mmmu,
}

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


def load_sources(sources: Iterable[Source]) -> tuple[list[list[Problem]], list[Skipped]]:
    """`load_problems` of each source. An id that an earlier source has is skipped.

    Raises `ProblemError` as well for a source with nothing but such ids.
    """
    loaded: list[list[Problem]] = []
    skipped: list[Skipped] = []
    owners: dict[str, Path] = {}
    for source in sources:
        problems, left_out = load_problems(source)
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


def load_problems(source: Source) -> tuple[list[Problem], list[Skipped]]:
    """The first `limit` usable problems whose id starts with `prefix`, and what was skipped.

    Every image is decoded once, so that a broken one is known now and not after hours of
    training, but none is kept decoded. Raises `ProblemError` if the file is missing, of an
    unknown kind or without a single usable problem.
    """
    path = Path(source.path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = " or ".join(_READERS)
        raise ProblemError(f"{path}: unknown kind of file; give a {known} file")
    if not path.is_file():
        raise ProblemError(f"{path}: no such file; check the path (relative to {Path.cwd()})")
    problems: list[Problem] = []
    skipped: list[Skipped] = []
    seen: set[str] = set()
    for item in reader(path):
        if not _is_wanted(item, source.prefix, path):
            continue
        reason = item.reason if isinstance(item, Skipped) else _fault(item, seen)
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


def _is_wanted(item: Problem | Skipped, prefix: str | None, path: Path) -> bool:
    """By prefix; a record without an id carries its line instead and is always reported."""
    return not prefix or item.id.startswith((prefix, f"{path.name}:"))


def _fault(problem: Problem, seen: set[str]) -> str | None:
    if problem.id in seen:
        return "another problem before it has the same id"
    if len(problem.options) > len(CHOICE_LETTERS):
        return f"{len(problem.options)} options; at most {len(CHOICE_LETTERS)} can be lettered"
    try:
        for image in problem.images:
            _check_image(image)
    except ProblemError as error:
        return str(error)
    return None


def _check_image(image: ImageSource) -> None:
    """Raise `ProblemError` if the image is missing, corrupt or too long for the vision tower."""
    data = image.read()
    where = image.path if image.path is not None else f"of {len(data)} bytes"
    try:
        opened = Image.open(io.BytesIO(data))
        width, height = opened.size
        # A JPEG is decoded at an eighth of its size: all its data is seen, in far less time.
        opened.draft(opened.mode, (1, 1))
        opened.load()
    except Exception as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise ProblemError(f"image {where}: cannot be decoded ({reason})") from error
    patches = (width // _PATCH) * (height // _PATCH)
    scale = min(1.0, math.sqrt(_PATCH_LIMIT / max(1, patches)))
    # The processor pads to pairs of patches.
    longest = 2 * math.ceil(int(max(width, height) * scale) / (2 * _PATCH))
    if longest >= _SIDE_LIMIT:
        raise ProblemError(f"image {where}: a side of {max(width, height)} px is too long")


def _why_none(skipped: list[Skipped], prefix: str | None) -> str:
    if skipped:
        first = skipped[0]
        return f"{len(skipped)} skipped, the first ({first.id}) because: {first.reason}"
    return f"no id starts with {prefix!r}" if prefix else "the file is empty"
