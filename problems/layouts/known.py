"""Every known layout: which columns it is told by, and what reads its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ..types import Problem, ProblemError, one_line
from .cells import Row
from .maths import math_vision, mathverse, mathvista
from .mmmu import mmmu, mmmu_pro_vision
from .picture_cells import Place
from .qa import NAMES, question_answer, verl
from .vlmevalkit import vlmevalkit

OWN = "kvl"
OWN_TELLS = frozenset({"id", "question", "answer_type"})  # JSON lines that jsonl.py reads
FOREIGN = frozenset({"pid", "image_1", "index"})  # which other layouts have besides those

Adapter = Callable[[Row, Place], Problem]


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that files are published in.

    needs     of each group one column at least: `("image", "images")`
    problem   a row as a problem, pure; raises `ProblemError` with the reason if it is none
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    problem: Adapter

    def lacks(self, columns: Collection[str]) -> list[str]:
        """The groups of which `columns` has none, as `image or images`."""
        return [" or ".join(group) for group in self.needs if not set(group) & set(columns)]


def _layout(name: str, problem: Adapter, needs: str) -> Layout:
    return Layout(name, tuple(tuple(group.split("|")) for group in needs.split()), problem)


# In the order in which they are tried: those with rare columns first.
KNOWN = (
    _layout("MathVista", mathvista, "pid question image|decoded_image choices answer precision"),
    _layout("MathVerse", mathverse, "sample_index problem_version question question_type answer"),
    _layout("VLMEvalKit TSV", vlmevalkit, "index image|image_path question answer|answer_option"),
    _layout("MMMU", mmmu, "id question options answer image_1 question_type"),
    _layout("MMMU-Pro standard", mmmu, "id question options answer image_1"),
    _layout("MMMU-Pro vision", mmmu_pro_vision, "id image options answer subject"),
    _layout("MATH-Vision", math_vision, "id question options image|decoded_image answer level"),
    _layout("verl", verl, "prompt reward_model"),
    _layout("EasyR1 / Geometry3K", question_answer, "problem images answer"),
    _layout("TRL", question_answer, "prompt answer|solution"),
    _layout("question and answer", question_answer, "question|problem answer|solution"),
)
_OWN_NEEDS = ("id", "question", "answer", "answer_type")


def recognised(columns: Collection[str], source: str) -> Layout:
    """The layout of a file's columns.

    Raises `ProblemError` that shows them, what each layout lacks and what to write.
    """
    names = set(columns)
    for layout in KNOWN:
        if layout.name == "MMMU-Pro vision" and "question" in names:
            continue
        if not layout.lacks(names):
            return layout
    raise ProblemError(_nothing_fits(sorted(names), source))


def mapped(columns: Mapping[str, str], names: Collection[str], source: str) -> Layout:
    """The layout that a `columns:` mapping describes: field → column of the file.

    Fields without an entry are looked for under their usual names. Raises `ProblemError` for a
    column that the file does not have, or a field that is none.
    """
    for field, column in columns.items():
        if field not in NAMES:
            raise ProblemError(f"columns: {one_line(field)!r} is none of {', '.join(NAMES)}")
        if column not in names:
            shown = _shown(sorted(names))
            raise ProblemError(f"{source}: columns.{field}: no column {column!r}; it has {shown}")

    def problem(row: Row, place: Place) -> Problem:
        taken = set(columns.values())
        rest = {name: cell for name, cell in row.items() if name not in taken}
        for field in columns:  # so that no other name of the field comes before the mapped column
            rest = {name: cell for name, cell in rest.items() if name not in NAMES[field]}
        return question_answer(
            rest | {field: row.get(column) for field, column in columns.items()}, place
        )

    return Layout("columns: mapping", (), problem)


def _nothing_fits(names: Sequence[str], source: str) -> str:
    lacking = [f"{OWN}: {', '.join(name for name in _OWN_NEEDS if name not in names)}"]
    lacking += [f"{layout.name}: {', '.join(layout.lacks(names))}" for layout in KNOWN]
    return (
        f"{source}: fits no known layout; its columns are {_shown(names)}\n"
        + "what each layout lacks:\n"
        + "".join(f"  {line}\n" for line in lacking)
        + "or name the columns yourself: `columns: {question: COLUMN, answer: COLUMN, images: "
        "COLUMN}` beside `path`, or --columns question=COLUMN answer=COLUMN"
    )


def _shown(names: Sequence[str]) -> str:
    return one_line(", ".join(names), 600) or "none"
