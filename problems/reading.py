"""From a path to the problems of its files, each by the layout that its columns show."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..configs.system.inputs import ACCEPTED, require_problem_file
from . import pictures
from .jsonl import read_jsonl
from .layouts.known import FOREIGN, OWN, OWN_TELLS, Layout, mapped, recognised
from .layouts.picture_cells import Place
from .tables import Row, columns_of, is_saved_dataset, rows_of
from .types import Problem, ProblemError, Skipped, id_fault, one_line

_SHARD = re.compile(r"(.+)-\d+-of-\d+")


@dataclass(frozen=True, slots=True)
class ProblemFile:
    """A file, or a saved dataset's folder, and the layout of its rows; None is our own schema.

    stem   begins the ids of rows that have none, and differs between the files of one path
    """

    path: Path
    layout: Layout | None
    stem: str

    @property
    def layout_name(self) -> str:
        return self.layout.name if self.layout else OWN

    def problems(self, image_roots: Sequence[Path] = ()) -> Iterator[Problem | Skipped]:
        """Every row in file order as a problem, or as the reason why it is none.

        Pictures by name are looked for in the file's folder and in `image_roots` only. Raises
        `ProblemError` if the file cannot be read.
        """
        if self.layout is None and self.path.suffix.lower() == ".jsonl":
            yield from read_jsonl(self.path, image_roots)
            return
        if self.layout is None:
            return  # no row
        inside = self.path / "rows" if self.path.is_dir() else self.path
        folders = pictures.allowed_folders(inside, image_roots)
        for number, row in rows_of(self.path):
            name = f"{one_line(self.path.name)}:{number}"
            if isinstance(row, str):
                yield Skipped(name, row)
                continue
            given = _id(row)
            try:
                yield self.layout.problem(row, Place(f"{self.stem}/{number}", folders))
            except ProblemError as error:
                yield Skipped(name if given is None else given, str(error))


def problem_files(path: Path, columns: Mapping[str, str]) -> list[ProblemFile]:
    """The files that a path, a glob or a folder names, in order; `columns` maps fields to columns.

    Raises `ProblemError` if there are none, they cannot be read or their columns fit nothing.
    """
    files = _files(path)
    stems = _stems(files)
    return [
        ProblemFile(file, _layout(file, columns), stem)
        for file, stem in zip(files, stems, strict=True)
    ]


def _layout(file: Path, columns: Mapping[str, str]) -> Layout | None:
    names = columns_of(file)
    if columns:
        return mapped(columns, names, str(file))
    if not names:  # an empty file, or one of damaged lines: our reader names each
        return None
    is_own = file.suffix.lower() == ".jsonl" and not FOREIGN.intersection(names)
    return None if is_own and OWN_TELLS.issubset(names) else recognised(names, str(file))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [path] if is_saved_dataset(path) else _shards(path)
    if path.exists():
        files = [path]
    elif glob.has_magic(str(path)):
        files = sorted(map(Path, glob.glob(str(path.expanduser()), recursive=True)))
    else:
        require_problem_file(path)
        files = [path]
    if not files:
        raise ProblemError(f"{path}: no file matches (relative to {Path.cwd()})")
    for file in files:
        if not (file.is_dir() and is_saved_dataset(file)):
            require_problem_file(file)
            if not file.is_file():
                raise ProblemError(f"{file}: not a regular file; {ACCEPTED}")
    return files


def _shards(folder: Path) -> list[Path]:
    """The parquet files of a folder, all of one split."""
    files = sorted(one for one in folder.glob("*.parquet") if one.is_file())
    if not files:
        raise ProblemError(f"{folder}: neither parquet files nor a saved dataset; {ACCEPTED}")
    splits = sorted({found[1] for one in files if (found := _SHARD.fullmatch(one.stem))})
    if len(splits) > 1:
        named = one_line(", ".join(splits))
        raise ProblemError(f"{folder}: holds {named}; give one of them, '{folder}/{splits[0]}-*'")
    return files


def _stems(files: Sequence[Path]) -> list[str]:
    """A name for each file, of as many of its folders as it takes to tell them apart."""
    for depth in range(1, max(len(file.parts) for file in files) + 1):
        stems = ["/".join(file.with_suffix("").parts[-depth:]) for file in files]
        if len(set(stems)) == len(files):
            return [one_line(stem) for stem in stems]
    return [one_line(str(file)) for file in files]


def _id(row: Row) -> str | None:
    """What names a row that is no problem, if it has a usable id."""
    for column in ("id", "pid", "index", "sample_index"):
        value = row.get(column)
        if isinstance(value, str) or type(value) is int:
            name = str(value).strip() if isinstance(value, str) else f"{value:d}"
            return None if id_fault(name) else name
    return None
