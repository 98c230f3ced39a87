"""Lettered lines cut into units, then rectangles on a grid: which is longer, and by how much."""

from __future__ import annotations

from random import Random

from ..types import AnswerType, ImageSource
from .drawing import COLOURS, FONT_SIZES, Canvas, Colour, dark_ink, shade
from .family import Content, Draft
from .writing import comma, off_by_one, write_solution

_LETTERS = "ABCD"


def sample(level: int, rng: Random) -> Content:
    """L1, L3 lengths; L2 (longest or shortest, lengths); L4 (op, sides of A, sides of B)."""
    if level == 1:
        return tuple(rng.sample(range(1, 9), 2))
    if level == 2:
        return rng.choice(("longest", "shortest")), *rng.sample(range(2, 9), 3)
    if level == 3:
        return tuple(rng.sample(range(2, 10), 4))
    while True:
        first = (rng.randint(2, 5), rng.randint(2, 5))
        second = (rng.randint(2, 5), rng.randint(2, 5))
        if first[0] * first[1] != second[0] * second[1]:
            return rng.choice(("both", "more")), first, second


def build(level: int, content: Content, rng: Random) -> Draft:
    if level == 1:
        return _longer(content, rng)
    if level == 2:
        return _extreme(content, rng)
    return _range(content, rng) if level == 3 else _areas(content, rng)


def _draw_lines(lengths: tuple[int, ...], rng: Random) -> ImageSource:
    rows = 2 if len(lengths) == 2 else 3
    canvas = Canvas(3, rows, rng)
    pitch = canvas.height / len(lengths)
    ink, size = dark_ink(rng), rng.choice(FONT_SIZES)
    unit = 58 // max(8, *lengths)
    left = canvas.width - 2 - unit * max(8, *lengths) - rng.randint(0, 2)
    colours = rng.sample(tuple(COLOURS), len(lengths))
    for row, (length, colour) in enumerate(zip(lengths, colours, strict=True)):
        middle = pitch * (row + 0.5)
        canvas.text(2, middle, _LETTERS[row], size, ink, "lm")
        half = rng.randint(4, 6)
        _grid(canvas, left, int(middle) - half, (length, 1), (unit, 2 * half), shade(colour, rng))
    return canvas.png()


def _grid(
    canvas: Canvas,
    left: int,
    top: int,
    cells: tuple[int, int],
    cell: tuple[int, int],
    colour: Colour,
) -> None:
    """A rectangle of cells with white gaps, so that its sides can be counted."""
    for column in range(cells[0]):
        for row in range(cells[1]):
            x, y = left + column * cell[0], top + row * cell[1]
            canvas.pen.rectangle((x, y, x + cell[0] - 2, y + cell[1] - 2), fill=colour)


def _readings(lengths: tuple[int, ...]) -> str:
    return comma([f"{_LETTERS[row]} {length}" for row, length in enumerate(lengths)])


def _longer(content: Content, rng: Random) -> Draft:
    lengths = content
    high, low = max(lengths), min(lengths)
    letter = _LETTERS[lengths.index(high)]
    other = _LETTERS[lengths.index(low)]
    solution = write_solution(
        rng,
        plan="read both, compare",
        look=_readings(lengths),
        work=f"{high} beats {low}, {letter} is longer",
        check=f"{high} - {low} = {high - low}",
        slip=f"{other}",
        other_way=f"look at the ends: {other} stops first",
        answer=letter,
    )
    return Draft(
        question="Which is longer?\n<image1>",
        answer=letter,
        answer_type=AnswerType.CHOICE,
        images=(_draw_lines(lengths, rng),),
        solution=solution,
        options=("A", "B"),
    )


def _extreme(content: Content, rng: Random) -> Draft:
    kind, *rest = content
    lengths = tuple(rest)
    ordered = sorted(lengths, reverse=kind == "longest")
    letter = _LETTERS[lengths.index(ordered[0])]
    second = _LETTERS[lengths.index(ordered[1])]
    last = _LETTERS[lengths.index(ordered[2])]
    high, low = max(ordered[:2]), min(ordered[:2])
    word = "more" if kind == "longest" else "less"
    solution = write_solution(
        rng,
        plan=f"read all, find the {kind}",
        look=_readings(lengths),
        work=f"In order: {comma(ordered)}. {letter} is the {kind}",
        check=f"{ordered[0]} is {word} than {ordered[1]}, {high} - {low} = {high - low}",
        slip=f"{second}",
        other_way=f"rule out {last} with {ordered[2]}, then {second} with {ordered[1]}",
        answer=letter,
    )
    return Draft(
        question=f"Which is the {kind}?\n<image1>",
        answer=letter,
        answer_type=AnswerType.CHOICE,
        images=(_draw_lines(lengths, rng),),
        solution=solution,
        options=("A", "B", "C"),
    )


def _range(content: Content, rng: Random) -> Draft:
    lengths = content
    high, low = max(lengths), min(lengths)
    result = high - low
    long, short = _LETTERS[lengths.index(high)], _LETTERS[lengths.index(low)]
    middle = sorted(lengths)[1]
    solution = write_solution(
        rng,
        plan="read all, find longest and shortest, subtract",
        look=_readings(lengths),
        work=f"Longest {long} {high}, shortest {short} {low}. {high} - {low} = {result}",
        check=f"{low} + {result} = {high}",
        slip=f"{high} - {middle} = {off_by_one(high - middle, rng)}",
        other_way=f"go in steps: {middle} - {low} = {middle - low}, "
        f"{high} - {middle} = {high - middle}, {middle - low} + {high - middle} = {result}",
        answer=str(result),
    )
    return Draft(
        question="Longest minus shortest?\n<image1>",
        answer=str(result),
        answer_type=AnswerType.NUMBER,
        images=(_draw_lines(lengths, rng),),
        solution=solution,
    )


def _areas(content: Content, rng: Random) -> Draft:
    op, first, second = content
    canvas = Canvas(4, 3, rng)
    ink, size = dark_ink(rng), rng.choice(FONT_SIZES)
    colours = rng.sample(tuple(COLOURS), 2)
    for index, (sides, colour) in enumerate(zip((first, second), colours, strict=True)):
        left = 2 + 56 * index + rng.randint(0, 2)
        top = 24 + rng.randint(0, 3)
        canvas.text(left, 3, _LETTERS[index], size, ink, "lt")
        _grid(canvas, left, top, sides, (10, 11), shade(colour, rng))
    a, b = first[0] * first[1], second[0] * second[1]
    high, low = max(a, b), min(a, b)
    multiply = f"{first[0]} * {first[1]} = {a}, {second[0]} * {second[1]} = {b}"
    result = a + b if op == "both" else high - low
    if op == "both":
        work, check = f"{multiply}, {a} + {b} = {result}", f"{result} - {b} = {a}"
        slip = f"{first[0]} + {first[1]} = {first[0] + first[1]} for A"
    else:
        work, check = f"{multiply}, {high} - {low} = {result}", f"{low} + {result} = {high}"
        slip = f"{multiply}, {high} - {low} = {off_by_one(result, rng)}"
    solution = write_solution(
        rng,
        plan="read the sides, multiply, " + ("add" if op == "both" else "subtract"),
        look=f"A {first[0]} by {first[1]}, B {second[0]} by {second[1]}",
        work=work,
        check=check,
        slip=slip,
        other_way=f"count A in rows: {comma(range(first[0], a + 1, first[0]))}, {b} for B, "
        f"then {result}",
        answer=str(result),
    )
    question = "Area of A plus area of B?" if op == "both" else "Larger area minus smaller?"
    return Draft(
        question=f"{question}\n<image1>",
        answer=str(result),
        answer_type=AnswerType.NUMBER,
        images=(canvas.png(),),
        solution=solution,
    )
