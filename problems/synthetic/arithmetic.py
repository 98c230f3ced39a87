"""A printed expression: one-digit sums first, two-step expressions with two digits last."""

from __future__ import annotations

from random import Random

from ..types import AnswerType, ImageSource
from .drawing import FONT_SIZES, Canvas, cells_for, dark_ink, text_width
from .family import Content, Draft
from .writing import Solution, comma, off_by_one, write_solution


def sample(level: int, rng: Random) -> Content:
    """L1 (a, b); L2 (a, ±, b); L3 (a, b, ±, c) for a*b±c; L4 a form and its four parts."""
    if level == 1:
        return rng.randint(1, 9), rng.randint(1, 9)
    sign = rng.choice("+-")
    if level == 2:
        return rng.randint(11, 49), sign, rng.randint(2, 9)
    if level == 3:
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        return a, b, sign, rng.randint(1, min(9, a * b - 1))
    if rng.random() < 0.5:
        a, b = rng.randint(11, 49), rng.randint(11, 39)
        if sign == "-" and a - b < 2:
            sign = "+"
        return "bracket", a, sign, b, rng.randint(3, 9)
    a, b, c, d = rng.randint(12, 19), rng.randint(3, 9), rng.randint(2, 9), rng.randint(2, 9)
    if a * b <= c * d:
        sign = "+"
    return "products", a, b, sign, c, d


def build(level: int, content: Content, rng: Random) -> Draft:
    write = (_sum, _two_digits, _product_first, _two_steps)[level - 1]
    shown, result, solution = write(content, rng)
    task = "Compute the sum." if level == 1 else rng.choice(("Compute.", "Compute the value."))
    return Draft(
        question=f"{task}\n<image1>",
        answer=str(result),
        answer_type=AnswerType.NUMBER,
        images=(_draw(shown, rng),),
        solution=solution,
    )


def _draw(shown: str, rng: Random) -> ImageSource:
    shown = shown.replace("*", "x")  # the star of the built-in font is a speck
    size = rng.choice(FONT_SIZES)
    width = text_width(shown, size)
    canvas = Canvas(max(2, cells_for(width)), 1, rng)
    x = rng.uniform(3, canvas.width - 3 - width)
    canvas.text(x, 14 + rng.randint(-2, 2), shown, size, dark_ink(rng), "lm")
    return canvas.png()


def _apply(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b


def _undo(sign: str) -> str:
    return "-" if sign == "+" else "+"


def _sum(content: Content, rng: Random) -> tuple[str, int, Solution]:
    a, b = content
    total, low, high = a + b, min(a, b), max(a, b)
    solution = write_solution(
        rng,
        plan="read it, add",
        look=f"{a} + {b}",
        work=f"{a} + {b} = {total}",
        check=f"{total} - {b} = {a}",
        slip=f"{a} + {b} = {off_by_one(total, rng)}",
        other_way=f"count up from {high}: {comma(range(high + 1, high + low + 1))}",
        answer=str(total),
    )
    return f"{a}+{b}", total, solution


def _two_digits(content: Content, rng: Random) -> tuple[str, int, Solution]:
    a, sign, b = content
    result, tens, ones = _apply(a, sign, b), a - a % 10, a % 10
    if sign == "-" and b > ones:
        other_way = f"go down to {tens}: {a} - {ones} = {tens}, {tens} - {b - ones} = {result}"
    else:
        part = _apply(ones, sign, b)
        other_way = f"do the ones: {ones} {sign} {b} = {part}, {tens} + {part} = {result}"
    solution = write_solution(
        rng,
        plan="read it, add" if sign == "+" else "read it, take away",
        look=f"{a} {sign} {b}",
        work=f"{a} {sign} {b} = {result}",
        check=f"{result} {_undo(sign)} {b} = {a}",
        slip=f"{a} {sign} {b} = {result + rng.choice((-10, -1, 1, 10))}",
        other_way=other_way,
        answer=str(result),
    )
    return f"{a}{sign}{b}", result, solution


def _product_first(content: Content, rng: Random) -> tuple[str, int, Solution]:
    a, b, sign, c = content
    product = a * b
    result = _apply(product, sign, c)
    solution = write_solution(
        rng,
        plan="read it, times first",
        look=f"{a} * {b} {sign} {c}",
        work=f"{a} * {b} = {product}, {product} {sign} {c} = {result}",
        check=f"{result} {_undo(sign)} {c} = {product}, {product} / {b} = {a}",
        slip=f"{b} {sign} {c} = {_apply(b, sign, c)} first, then times {a}",
        other_way=f"{a - 1} * {b} = {product - b}, {product - b} + {b} = {product}, "
        f"{product} {sign} {c} = {result}",
        answer=str(result),
    )
    return f"{a}*{b}{sign}{c}", result, solution


def _two_steps(content: Content, rng: Random) -> tuple[str, int, Solution]:
    return (_bracket if content[0] == "bracket" else _two_products)(content, rng)


def _bracket(content: Content, rng: Random) -> tuple[str, int, Solution]:
    _, a, sign, b, c = content
    inner = _apply(a, sign, b)
    result = inner * c
    solution = write_solution(
        rng,
        plan="read it, bracket first, then times",
        look=f"({a} {sign} {b}) * {c}",
        work=f"{a} {sign} {b} = {inner}, {inner} * {c} = {result}",
        check=f"{result} / {c} = {inner}, {inner} {_undo(sign)} {b} = {a}",
        slip=f"{b} * {c} = {b * c} first, then {a} {sign} {b * c}",
        other_way=f"{a} * {c} = {a * c}, {b} * {c} = {b * c}, {a * c} {sign} {b * c} = {result}",
        answer=str(result),
    )
    return f"({a}{sign}{b})*{c}", result, solution


def _two_products(content: Content, rng: Random) -> tuple[str, int, Solution]:
    _, a, b, sign, c, d = content
    left, right = a * b, c * d
    result = _apply(left, sign, right)
    split_left = f"10 * {b} = {10 * b}, {a - 10} * {b} = {(a - 10) * b}"
    solution = write_solution(
        rng,
        plan=f"read it, both times first, then {sign}",
        look=f"{a} * {b} {sign} {c} * {d}",
        work=f"{a} * {b} = {left}, {c} * {d} = {right}, {left} {sign} {right} = {result}",
        check=f"{result} {_undo(sign)} {right} = {left}, {left} / {b} = {a}",
        slip=f"{a} * {b} = {left + rng.choice((-10, 10))}",
        other_way=f"split {a}: {split_left}, {10 * b} + {(a - 10) * b} = {left}",
        answer=str(result),
    )
    return f"{a}*{b}{sign}{c}*{d}", result, solution
