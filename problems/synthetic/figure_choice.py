"""Multiple choice over a figure: a place, a neighbour, the next in a pattern, the next number."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ..types import CHOICE_LETTERS, AnswerType
from .drawing import COLOURS, FONT_SIZES, SHAPES, Canvas, dark_ink
from .family import Content, Draft
from .writing import Solution, comma, write_solution

Look = tuple[str, str]
"""(colour, shape), as it is said."""

_LOOKS: tuple[Look, ...] = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
_STEPS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


def sample(level: int, rng: Random) -> Content:
    """L1 (looks, side); L2 (four looks, direction, cell asked from); L3 (unit, shown); L4 numbers.

    At level 4: (first number, factor, signed addend), with every number above the one before.
    """
    if level == 1:
        return tuple(rng.sample(_LOOKS, 2)), rng.choice(("left", "right"))
    if level == 2:
        direction = rng.choice(tuple(_STEPS))
        column, row = rng.randrange(2), rng.randrange(2)
        # Start from the cell that has a neighbour in this direction.
        dx, dy = _STEPS[direction]
        column, row = (0 if dx > 0 else 1) if dx else column, (0 if dy > 0 else 1) if dy else row
        return tuple(rng.sample(_LOOKS, 4)), direction, 2 * row + column
    if level == 3:
        return tuple(rng.sample(_LOOKS, rng.choice((2, 3)))), rng.randint(4, 6)
    while True:
        first, factor = rng.randint(1, 9), rng.randint(2, 3)
        addend = rng.choice((-1, 1)) * rng.randint(1, 9)
        if first * factor + addend > first:
            return first, factor, addend


def build(level: int, content: Content, rng: Random) -> Draft:
    return (_side, _neighbour, _pattern, _sequence)[level - 1](content, rng)


def _say(look: Look) -> str:
    return f"{look[0]} {look[1]}"


def _shuffled(answer: str, wrong: Sequence[str], rng: Random) -> tuple[tuple[str, ...], str]:
    """The options in random order and the letter of the answer."""
    options = [answer, *wrong]
    rng.shuffle(options)
    return tuple(options), CHOICE_LETTERS[options.index(answer)]


def _letters_except(letter: str, count: int) -> str:
    return comma([other for other in CHOICE_LETTERS[:count] if other != letter])


def _draft(
    question: str,
    options: tuple[str, ...],
    letter: str,
    images: Sequence[Canvas],
    solution: Solution,
) -> Draft:
    return Draft(
        question=f"{question}\n<image1>",
        answer=letter,
        answer_type=AnswerType.CHOICE,
        images=tuple(canvas.png() for canvas in images),
        solution=solution,
        options=options,
    )


def _side(content: Content, rng: Random) -> Draft:
    looks, side = content
    canvas = Canvas(2, 1, rng)
    for column, (colour, shape) in enumerate(looks):
        canvas.shape_in_cell(column, 0, shape, colour, rng)
    answer = looks[0] if side == "left" else looks[1]
    other = looks[1] if side == "left" else looks[0]
    wrong = [_say(other)]
    wrong += [_say(look) for look in rng.sample(_LOOKS, 4) if look not in looks][:2]
    options, letter = _shuffled(_say(answer), wrong, rng)
    solution = write_solution(
        rng,
        plan=f"look {side}, match it",
        look=f"{_say(looks[0])}, then {_say(looks[1])}",
        work=f"On the {side}: {_say(answer)}",
        check=f"{letter} says {_say(answer)}",
        slip=f"{_say(other)}",
        other_way=f"rule out {_letters_except(letter, len(options))}",
        answer=letter,
    )
    return _draft(f"What is on the {side}?", options, letter, [canvas], solution)


def _neighbour(content: Content, rng: Random) -> Draft:
    looks, direction, start = content
    canvas = Canvas(2, 2, rng)
    for cell, (colour, shape) in enumerate(looks):
        canvas.shape_in_cell(cell % 2, cell // 2, shape, colour, rng)
    dx, dy = _STEPS[direction]
    answer = looks[start + dx + 2 * dy]
    wrong = [look for look in looks if look not in (answer, looks[start])]
    spare = rng.choice([look for look in _LOOKS if look not in looks])
    options, letter = _shuffled(_say(answer), [_say(look) for look in (*wrong, spare)], rng)
    solution = write_solution(
        rng,
        plan=f"find the {_say(looks[start])}, look {direction} it",
        look=f"row 1: {_say(looks[0])}, {_say(looks[1])}, "
        f"row 2: {_say(looks[2])}, {_say(looks[3])}",
        work=f"{direction.capitalize()} the {_say(looks[start])} is the {_say(answer)}",
        check=f"{letter} says {_say(answer)}",
        slip=f"{_say(wrong[0])}",
        other_way=f"rule out {_letters_except(letter, len(options))}",
        answer=letter,
    )
    question = f"What is {direction} the {_say(looks[start])}?"
    return _draft(question, options, letter, [canvas], solution)


def _pattern(content: Content, rng: Random) -> Draft:
    """The options are pictures, so that a problem with several images is among the levels."""
    unit, shown = content
    strip = Canvas(shown + 1, 1, rng)
    for place in range(shown):
        colour, shape = unit[place % len(unit)]
        strip.shape_in_cell(place, 0, shape, colour, rng)
    strip.text(28 * shown + 14, 14, "?", rng.choice(FONT_SIZES), dark_ink(rng), "mm")
    answer = unit[shown % len(unit)]
    choices = list(unit)
    if len(choices) == 2:
        choices.append(rng.choice([look for look in _LOOKS if look not in unit]))
    rng.shuffle(choices)
    pictures = [strip]
    for colour, shape in choices:
        picture = Canvas(1, 1, rng)
        picture.shape_in_cell(0, 0, shape, colour, rng)
        pictures.append(picture)
    options = tuple(f"<image{number}>" for number in range(2, 5))
    letter = CHOICE_LETTERS[choices.index(answer)]
    size, back = len(unit), shown % len(unit) + 1
    wrong = unit[(shown + 1) % size]
    solution = write_solution(
        rng,
        plan="find the part that repeats, go on with it",
        look=comma([_say(unit[place % size]) for place in range(shown)]),
        work=f"{size} shapes repeat. Next is number {back} of {size}: {_say(answer)}",
        check=f"{size} places back is {_say(unit[(shown - size) % size])}, {letter} shows it",
        slip=f"{_say(wrong)}",
        other_way=f"after {_say(unit[(shown - 1) % size])} came {_say(answer)}",
        answer=letter,
    )
    return _draft("Which comes next?", options, letter, pictures, solution)


def _sequence(content: Content, rng: Random) -> Draft:
    first, factor, addend = content
    numbers = [first]
    for _ in range(3):
        numbers.append(numbers[-1] * factor + addend)
    a, b, c, answer = numbers
    canvas = Canvas(4, 2, rng)
    ink, size = dark_ink(rng), rng.choice(FONT_SIZES)
    for cell, text in enumerate([str(a), str(b), str(c), "?"]):
        x, y = 56 * (cell % 2) + 28, 28 * (cell // 2) + 14
        canvas.text(x + rng.randint(-6, 6), y + rng.randint(-2, 2), text, size, ink, "mm")
    # The usual mistakes: forget the addend, go on adding, go off by one.
    wrong = {c * factor, c + (c - b), answer + 1, answer - 1, answer + factor}
    picked = [str(number) for number in rng.sample(sorted(wrong), 3)]
    options, letter = _shuffled(str(answer), picked, rng)
    sign, size_of_addend = ("+", addend) if addend > 0 else ("-", -addend)
    word = "plus" if addend > 0 else "minus"
    low, high = b - a, c - b
    solution = write_solution(
        rng,
        plan="compare steps, find the rule, use it",
        look=f"{a}, {b}, {c}",
        work=f"{b} - {a} = {low}, {c} - {b} = {high}, {high} / {low} = {factor}. "
        f"{a} * {factor} = {a * factor}, so {word} {size_of_addend}. "
        f"{c} * {factor} = {c * factor}, {c * factor} {sign} {size_of_addend} = {answer}",
        check=f"{b} * {factor} = {b * factor}, {b * factor} {sign} {size_of_addend} = {c}",
        slip=f"{c} + {high} = {c + high}, same step again",
        other_way=f"steps grow: {high} * {factor} = {high * factor}, "
        f"{c} + {high * factor} = {answer}",
        answer=f"{answer}, {letter}",
    )
    question = "Each number is the last times k, plus or minus c. Find ?."
    return _draft(question, options, letter, [canvas], solution)
