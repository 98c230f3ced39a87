"""Scattered shapes: count all of them, one colour, one kind, or combine two counts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ..types import AnswerType
from .drawing import COLOURS, SHAPES, Canvas
from .family import Content, Draft
from .writing import Solution, comma, off_by_one, running_sum, write_solution

_GRIDS = {1: (3, 2), 2: (4, 2), 3: (4, 3), 4: (4, 3)}

Item = tuple[int, str, str]
"""(cell, shape, colour); cells count row by row."""


def sample(level: int, rng: Random) -> Content:
    """(items, asked): asked is empty, (colour,), (colour, shape), or (op, shape, colour, shape)."""
    columns, rows = _GRIDS[level]
    first_shape, second_shape = rng.sample(SHAPES, 2)
    first_colour, second_colour = rng.sample(tuple(COLOURS), 2)
    if level == 1:
        return _place(rng, columns * rows, [(first_shape, first_colour)] * rng.randint(1, 5)), ()
    wanted = (first_shape, first_colour)
    if level == 2:
        target = rng.randint(1, 5)
        looks = [wanted] * target + [(first_shape, second_colour)] * rng.randint(1, 7 - target)
        return _place(rng, columns * rows, looks), (first_colour,)
    target = rng.randint(1, 5)
    others = [
        (first_shape, second_colour),
        (second_shape, first_colour),
        (second_shape, second_colour),
    ]
    if level == 3:
        looks = [wanted] * target + others + [rng.choice(others) for _ in range(rng.randint(0, 3))]
        return _place(rng, columns * rows, looks), (first_colour, first_shape)
    small = rng.randint(1, 2)
    looks = [wanted] * target + [others[0]] * rng.randint(1, 3)
    looks += [others[1]] * small + [others[2]] * rng.randint(0, 2)
    op = rng.choice(("more", "twice"))
    return _place(rng, columns * rows, looks), (op, first_shape, first_colour, second_shape)


def build(level: int, content: Content, rng: Random) -> Draft:
    items, asked = content
    columns, rows = _GRIDS[level]
    canvas = Canvas(columns, rows, rng)
    for cell, shape, colour in items:
        canvas.shape_in_cell(cell % columns, cell // columns, shape, colour, rng)
    write = _combined if level == 4 else _counted
    question, result, solution = write(items, asked, level, rng)
    return Draft(
        question=f"{question}\n<image1>",
        answer=str(result),
        answer_type=AnswerType.NUMBER,
        images=(canvas.png(),),
        solution=solution,
    )


def _place(rng: Random, cells: int, looks: list[tuple[str, str]]) -> tuple[Item, ...]:
    chosen = rng.sample(range(cells), len(looks))
    return tuple(sorted((cell, *look) for cell, look in zip(chosen, looks, strict=True)))


def _by(items: tuple[Item, ...], count: int, line_of: Callable[[int], int]) -> list[int]:
    """How many items lie in each of `count` rows or columns."""
    return [sum(line_of(cell) == line for cell, _, _ in items) for line in range(count)]


def _counted(
    items: tuple[Item, ...], asked: tuple[str, ...], level: int, rng: Random
) -> tuple[str, int, Solution]:
    columns, rows = _GRIDS[level]
    if level == 1:
        wanted, name = items, f"{items[0][1]}s"
    elif level == 2:
        wanted = tuple(item for item in items if item[2] == asked[0])
        name = f"{asked[0]} {items[0][1]}s"
    else:
        wanted = tuple(item for item in items if (item[2], item[1]) == asked)
        name = f"{asked[0]} {asked[1]}s"
    total = len(wanted)
    by_row = _by(wanted, rows, lambda cell: cell // columns)
    by_column = _by(wanted, columns, lambda cell: cell % columns)
    solution = write_solution(
        rng,
        plan=f"count {name} by row",
        look=f"rows {comma(by_row)}",
        work=running_sum(by_row),
        check=f"columns {comma(by_column)}, sum {total}",
        slip=f"{off_by_one(total, rng)} {name}",
        other_way=f"count one by one: {comma(range(1, total + 1))}",
        answer=str(total),
        recheck=comma(
            [f"{n} in row {cell // columns + 1}" for n, (cell, *_) in enumerate(wanted, 1)]
        ),
    )
    return f"How many {name}?", total, solution


def _combined(
    items: tuple[Item, ...], asked: tuple[str, ...], level: int, rng: Random
) -> tuple[str, int, Solution]:
    """All of one shape, less (or plus twice) those of another shape and one colour."""
    op, shape, colour, other_shape = asked
    columns, rows = _GRIDS[level]
    first = tuple(item for item in items if item[1] == shape)
    second = tuple(item for item in items if (item[2], item[1]) == (colour, other_shape))
    many, few = len(first), len(second)
    first_name, second_name = f"{shape}s", f"{colour} {other_shape}s"
    by_row = _by(first, rows, lambda cell: cell // columns)
    few_by_row = _by(second, rows, lambda cell: cell // columns)
    count = f"{running_sum(by_row)} {first_name}, {running_sum(few_by_row)} {second_name}"
    if op == "more":
        result = many - few
        question = f"How many more {first_name} than {second_name}?"
        plan = "count both by row, subtract"
        work = f"{count}. {many} - {few} = {result}"
        check = f"{result} + {few} = {many}"
        slip = f"{many} + {few} = {many + few}, the sum"
        other_way = f"pair them up: {few} pairs, {result} left, {few} + {result} = {many}"
    else:
        result = many + 2 * few
        question = f"Count {first_name} plus twice the {second_name}."
        plan = "count both by row, double the second, add"
        work = f"{count}. 2 * {few} = {2 * few}, {many} + {2 * few} = {result}"
        check = f"{result} - {2 * few} = {many}, {2 * few} / 2 = {few}"
        slip = f"{many} + {few} = {many + few}, only once"
        other_way = f"{many} + {few} = {many + few}, {many + few} + {few} = {result}"
    solution = write_solution(
        rng,
        plan=plan,
        look=f"{first_name} by row {comma(by_row)} and {second_name} by row {comma(few_by_row)}",
        work=work,
        check=check,
        slip=slip,
        other_way=other_way,
        answer=str(result),
    )
    return question, result, solution
