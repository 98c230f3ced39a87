"""Lettered bars over a grid: one value, a difference, a total, a scaled two-step difference."""

from __future__ import annotations

from random import Random

from ..types import AnswerType, ImageSource
from .drawing import COLOURS, FONT_SIZES, Canvas, dark_ink, shade
from .family import Content, Draft
from .writing import Solution, comma, off_by_one, running_sum, write_solution

_LETTERS = "ABCD"
_TOP = {1: 5, 2: 6, 3: 6, 4: 6}
_STEP = 10
"""Pixels between two grid lines."""


def sample(level: int, rng: Random) -> Content:
    """(values, asked, scale): asked holds bar indices; at level 4 the first two are summed."""
    top = _TOP[level]
    if level == 1:
        asked = rng.randrange(3)
        values = tuple(rng.randint(1, top) for _ in range(3))
        return values, (asked,), 1
    if level == 2:
        values = tuple(rng.sample(range(1, top + 1), 3))
        more, less = rng.sample(range(3), 2)
        return values, (more, less) if values[more] > values[less] else (less, more), 1
    values = tuple(rng.randint(1, top) for _ in range(4))
    if level == 3:
        return values, (0, 1, 2, 3), 1
    partner = rng.randint(1, 3)
    first = (0, partner)
    second = tuple(bar for bar in range(1, 4) if bar != partner)
    while sum(values[bar] for bar in first) == sum(values[bar] for bar in second):
        values = tuple(rng.randint(1, top) for _ in range(4))
    if sum(values[bar] for bar in first) < sum(values[bar] for bar in second):
        first, second = second, first
    return values, first + second, rng.choice((2, 3, 5, 10))


def build(level: int, content: Content, rng: Random) -> Draft:
    values, asked, scale = content
    write = (_one_value, _difference, _total, _scaled)[level - 1]
    question, result, solution = write(values, asked, scale, rng)
    return Draft(
        question=f"{question}\n<image1>",
        answer=str(result),
        answer_type=AnswerType.NUMBER,
        images=(_draw(values, _TOP[level], scale, rng),),
        solution=solution,
    )


def _draw(values: tuple[int, ...], top: int, scale: int, rng: Random) -> ImageSource:
    columns = len(values) if scale == 1 else len(values) + 1
    canvas = Canvas(columns, 3, rng)
    ink, size = dark_ink(rng), rng.choice(FONT_SIZES)
    base = canvas.height - 20 - rng.randint(0, 2)
    start = 2 if scale == 1 else 28
    slot = (canvas.width - 2 - start) / len(values)
    colours = rng.sample(tuple(COLOURS), len(values))
    half = slot * rng.uniform(0.28, 0.4)
    for index, (value, colour) in enumerate(zip(values, colours, strict=True)):
        middle = start + slot * (index + 0.5)
        box = (middle - half, base - value * _STEP, middle + half, base)
        canvas.pen.rectangle(box, fill=shade(colour, rng))
        canvas.text(middle, base + 2, _LETTERS[index], size - 1, ink, "mt")
    # The grid lies over the bars, so that every bar can be counted in steps.
    grey = rng.randint(150, 190)
    for step in range(1, top + 1):
        y = base - step * _STEP
        canvas.pen.line((start, y, canvas.width - 2, y), fill=(grey, grey, grey))
    canvas.pen.line((start, base, canvas.width - 2, base), fill=ink, width=2)
    if scale != 1:
        canvas.text(start - 3, base - _STEP, str(scale), 20, ink, "rm")
    return canvas.png()


def _readings(values: tuple[int, ...]) -> str:
    return comma([f"{_LETTERS[bar]} {value}" for bar, value in enumerate(values)])


def _one_value(
    values: tuple[int, ...], asked: tuple[int, ...], scale: int, rng: Random
) -> tuple[str, int, Solution]:
    bar = asked[0]
    letter, value, top = _LETTERS[bar], values[bar], _TOP[1]
    neighbour = (bar + 1) % 3
    other = values[neighbour]
    step = f"{other} + {value - other}" if value >= other else f"{other} - {other - value}"
    solution = write_solution(
        rng,
        plan=f"find {letter}, count steps",
        look=f"{letter} steps {comma(range(1, value + 1))}",
        work=f"{letter} is {value}",
        check=f"{_LETTERS[neighbour]} is {other}, {step} = {value}",
        slip=f"{letter} is {off_by_one(value, rng)}",
        other_way=f"from the top: {top} - {top - value} = {value}",
        answer=str(value),
    )
    return f"Value of bar {letter}?", value, solution


def _difference(
    values: tuple[int, ...], asked: tuple[int, ...], scale: int, rng: Random
) -> tuple[str, int, Solution]:
    more, less = asked
    high, low = values[more], values[less]
    result = high - low
    solution = write_solution(
        rng,
        plan=f"read {_LETTERS[more]} and {_LETTERS[less]}, subtract",
        look=f"{_LETTERS[more]} {high}, {_LETTERS[less]} {low}",
        work=f"{high} - {low} = {result}",
        check=f"{low} + {result} = {high}",
        slip=f"{high} - {low} = {off_by_one(result, rng)}",
        other_way=f"count up from {low}: {comma(range(low + 1, high + 1))}, {result} steps",
        answer=str(result),
    )
    return f"How much more is {_LETTERS[more]} than {_LETTERS[less]}?", result, solution


def _total(
    values: tuple[int, ...], asked: tuple[int, ...], scale: int, rng: Random
) -> tuple[str, int, Solution]:
    a, b, c, d = values
    total = sum(values)
    solution = write_solution(
        rng,
        plan="read all bars, add them",
        look=_readings(values),
        work=running_sum(values),
        check=f"{total} - {d} = {total - d}, {total - d} - {c} = {a + b}",
        slip=f"{running_sum(values[:3])}, done",
        other_way=f"add pairs: {a} + {d} = {a + d}, {b} + {c} = {b + c}, "
        f"{a + d} + {b + c} = {total}",
        answer=str(total),
    )
    return "Total of all bars?", total, solution


def _scaled(
    values: tuple[int, ...], asked: tuple[int, ...], scale: int, rng: Random
) -> tuple[str, int, Solution]:
    letters = [_LETTERS[bar] for bar in asked]
    a, b, c, d = (values[bar] for bar in asked)
    steps = a + b - c - d
    result = steps * scale
    solution = write_solution(
        rng,
        plan="read steps, add pairs, subtract, use the scale",
        look=f"{_readings(values)}, one step is {scale}",
        work=f"{a} + {b} = {a + b}, {c} + {d} = {c + d}, {a + b} - {c + d} = {steps}, "
        f"{steps} * {scale} = {result}",
        check=f"{result} / {scale} = {steps}, {c + d} + {steps} = {a + b}",
        slip=f"{steps}, without the scale",
        other_way=f"scale first: {a + b} * {scale} = {(a + b) * scale}, "
        f"{c + d} * {scale} = {(c + d) * scale}, "
        f"{(a + b) * scale} - {(c + d) * scale} = {result}",
        answer=str(result),
    )
    question = f"How much more is {letters[0]}+{letters[1]} than {letters[2]}+{letters[3]}?"
    return question, result, solution
