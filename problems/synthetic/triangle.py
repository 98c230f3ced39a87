"""A sketched triangle with labelled corners: the third angle, equal sides, or an unknown x."""

from __future__ import annotations

import math
from random import Random

from ..types import AnswerType, ImageSource
from .drawing import FONT_SIZES, Canvas, dark_ink, text_width
from .family import Content, Draft
from .writing import Solution, off_by_one, write_solution

# Corners: 0 left, 1 right, 2 top.


def sample(level: int, rng: Random) -> Content:
    """L1, L2 (a, b, asked corner); L3 (apex, known corner, known, asked); L4 (k, m, c, n, turn).

    At level 3 the equal sides meet at `apex`. At level 4 the corners are kx, mx + c and n,
    turned by `turn` places.
    """
    if level in (1, 2):
        step = 10 if level == 1 else 5
        while True:
            a, b = (step * rng.randint(20 // step, 120 // step) for _ in range(2))
            fresh = level == 1 or a % 10 or b % 10
            if 180 - a - b >= 20 and fresh:
                return a, b, rng.randrange(3)
    if level == 3:
        apex = rng.randrange(3)
        base = rng.choice([corner for corner in range(3) if corner != apex])
        if rng.random() < 0.5:
            return apex, apex, 2 * rng.randint(10, 70), base
        return apex, base, rng.randint(20, 80), apex
    while True:
        k, m, x = rng.randint(1, 3), rng.randint(1, 3), rng.randint(10, 40)
        c = 5 * rng.randint(1, 6)
        n = 180 - (k + m) * x - c
        if 20 <= n <= 120:
            return k, m, c, n, rng.randrange(3)


def build(level: int, content: Content, rng: Random) -> Draft:
    if level == 3:
        labels, angles, apex, result, solution = _isosceles(content, rng)
        question = "Marked sides are equal. Find the angle ?."
    elif level == 4:
        labels, angles, result, solution = _unknown_x(content, rng)
        apex, question = None, "Find x."
    else:
        labels, angles, result, solution = _third_angle(content, rng)
        apex, question = None, "Find the angle ?."
    return Draft(
        question=f"{question}\n<image1>",
        answer=str(result),
        answer_type=AnswerType.NUMBER,
        images=(_draw(labels, angles, apex, rng),),
        solution=solution,
    )


def _draw(labels: list[str], angles: list[int], apex: int | None, rng: Random) -> ImageSource:
    """Labels sit outside the corners; the sketch leans as its angles do, but is not to scale."""
    canvas = Canvas(4, 3, rng)
    ink, pencil, size = dark_ink(rng), dark_ink(rng), rng.choice(FONT_SIZES)
    left, right = rng.randint(10, 16), canvas.width - rng.randint(10, 16)
    base, top = 62 - rng.randint(0, 2), 24 + rng.randint(0, 2)
    lean_left, lean_right = (1 / math.tan(math.radians(angles[corner])) for corner in (0, 1))
    share = lean_left / (lean_left + lean_right)
    tip = left + (right - left) * min(0.85, max(0.15, share))
    corners = [(left, base), (right, base), (tip, top)]
    canvas.pen.polygon(corners, outline=pencil, width=2)
    if apex is not None:
        for other in range(3):
            if other != apex:
                _mark(canvas, corners[apex], corners[other], pencil)
    canvas.text(3, base + 4, labels[0], size, ink, "lt")
    canvas.text(canvas.width - 3, base + 4, labels[1], size, ink, "rt")
    half = text_width(labels[2], size) / 2
    x = min(canvas.width - 3 - half, max(3 + half, tip))
    canvas.text(x, 3, labels[2], size, ink, "mt")
    return canvas.png()


def _mark(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float], ink: tuple[int, int, int]
) -> None:
    """A short stroke across the middle of a side."""
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    dx, dy = end[0] - start[0], end[1] - start[1]
    reach = 5 / math.hypot(dx, dy)
    stroke = (x - dy * reach, y + dx * reach, x + dy * reach, y - dx * reach)
    canvas.pen.line(stroke, fill=ink, width=2)


def _third_angle(content: Content, rng: Random) -> tuple[list[str], list[int], int, Solution]:
    a, b, asked = content
    result = 180 - a - b
    labels, angles = [str(a), str(b)], [a, b]
    labels.insert(asked, "?")
    angles.insert(asked, result)
    solution = write_solution(
        rng,
        plan="add both, take from 180",
        look=f"{a} and {b}",
        work=f"{a} + {b} = {a + b}, 180 - {a + b} = {result}",
        check=f"{a + b} + {result} = 180",
        slip=f"{a} + {b} = {a + b + rng.choice((-10, 10))}",
        other_way=f"180 - {a} = {180 - a}, {180 - a} - {b} = {result}",
        answer=str(result),
    )
    return labels, angles, result, solution


def _isosceles(content: Content, rng: Random) -> tuple[list[str], list[int], int, int, Solution]:
    apex, known_at, known, asked = content
    if known_at == apex:
        rest = 180 - known
        result = rest // 2
        plan, look = "take from 180, halve it", f"{known} between the equal sides"
        work = f"180 - {known} = {rest}, {rest} / 2 = {result}"
        check = f"{result} + {result} = {rest}, {rest} + {known} = 180"
        slip = f"{rest}, not halved"
        guess = off_by_one(result, rng)
        word = "too small" if guess < result else "too big"
        other_way = f"guess {guess}: 2 * {guess} = {2 * guess}, {word}, {result} fits"
    else:
        result = 180 - 2 * known
        plan, look = "double it, take from 180", f"{known} at one equal angle"
        work = f"2 * {known} = {2 * known}, 180 - {2 * known} = {result}"
        check = f"{known} + {known} = {2 * known}, {2 * known} + {result} = 180"
        slip = f"180 - {known} = {180 - known}, only once"
        other_way = f"180 - {known} = {180 - known}, {180 - known} - {known} = {result}"
    solution = write_solution(
        rng,
        plan=plan,
        look=look,
        work=work,
        check=check,
        slip=slip,
        other_way=other_way,
        answer=str(result),
    )
    labels = ["", "", ""]
    labels[known_at], labels[asked] = str(known), "?"
    at_apex = known if known_at == apex else result
    angles = [(180 - at_apex) // 2] * 3
    angles[apex] = at_apex
    return labels, angles, apex, result, solution


def _unknown_x(content: Content, rng: Random) -> tuple[list[str], list[int], int, Solution]:
    k, m, c, n, turn = content
    total, rest = k + m, 180 - n - c
    x = rest // total
    first, second = _times_x(k), _times_x(m)
    p, q = k * x, m * x
    guess = off_by_one(x, rng)
    word = "too small" if guess < x else "too big"
    solution = write_solution(
        rng,
        plan="the sum is 180, take numbers away, divide",
        look=f"{first}, {second}+{c}, {n}",
        work=f"180 - {n} = {180 - n}, {180 - n} - {c} = {rest}. {first} + {second} = {total}x. "
        f"{rest} / {total} = {x}",
        check=f"{k} * {x} = {p}, {m} * {x} = {q}, {p} + {q} = {rest}, "
        f"{rest} + {c} = {rest + c}, {rest + c} + {n} = 180",
        slip=f"180 - {n} = {180 - n}, then divide by {total}",
        other_way=f"guess {guess}: {total} * {guess} = {total * guess}, {word}, {x} fits",
        answer=str(x),
    )
    labels, angles = [first, f"{second}+{c}", str(n)], [p, q + c, n]
    return labels[turn:] + labels[:turn], angles[turn:] + angles[:turn], x, solution


def _times_x(factor: int) -> str:
    return "x" if factor == 1 else f"{factor}x"
