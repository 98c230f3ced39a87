"""The generator: reproducible, split by content, and right about every answer it gives."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kvl.problems.prompt import prompt_parts, target_text
from kvl.problems.synthetic import FAMILIES, Split, generate, generator
from kvl.problems.synthetic.drawing import COLOURS
from kvl.problems.synthetic.family import LEVELS
from kvl.problems.types import AnswerType, Problem, ProblemError
from PIL import Image

SLIP = re.compile(r"Try .*?\. (Wait|No)\b[^.]*\.")
EQUATION = re.compile(r"(?<![-+*/] )\b(\d+) ([-+*/]) (\d+) = (\d+)\b")
OPERATIONS: dict[str, Callable[[int, int], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
every_level = pytest.mark.parametrize(
    ("family", "level"), list(itertools.product(FAMILIES, LEVELS))
)


def with_contents(
    monkeypatch: pytest.MonkeyPatch, split: Split, family: str, level: int, count: int
) -> Iterator[tuple[Any, Problem]]:
    """Problems beside the contents they were built from."""
    module = generator._FAMILIES[family]
    build, contents = module.build, []

    def spy(level: int, content: Any, rng: Any) -> Any:
        contents.append(content)
        return build(level, content, rng)

    with monkeypatch.context() as patch:
        patch.setattr(module, "build", spy)
        problems = list(generate(split, count, [family], [level], seed=5))
    return zip(contents, problems, strict=True)


def facts(problem: Problem) -> str:
    """The solution without its corrected slips."""
    return SLIP.sub("", problem.solution or "")


@every_level
def test_every_level_yields_usable_problems_in_both_splits(family: str, level: int) -> None:
    for split in ("train", "heldout"):
        for number, problem in enumerate(generate(split, 15, [family], [level], seed=1)):
            assert problem.id == f"{family}/l{level}/{split}-{number:06d}"
            assert (problem.family, problem.level) == (family, level)
            assert prompt_parts(problem)
            assert target_text(problem).endswith(f"Answer: {problem.gold}")


@every_level
def test_images_are_small_and_whole_in_image_tokens(family: str, level: int) -> None:
    for problem in generate("train", 20, [family], [level], seed=2):
        sizes = [image.open().size for image in problem.images]
        assert all(width % 28 == 0 and height % 28 == 0 for width, height in sizes)
        assert sum(width * height // 28**2 for width, height in sizes) <= 15


def test_a_problem_does_not_depend_on_how_many_are_asked_for() -> None:
    few = list(generate("train", 30, FAMILIES, LEVELS, seed=3))
    many = list(generate("train", 60, FAMILIES, LEVELS, seed=3))
    assert many[:30] == few


def test_seeds_and_splits_give_different_problems() -> None:
    first = [p.question + str(p.solution) for p in generate("train", 24, FAMILIES, LEVELS, seed=0)]
    other = [p.question + str(p.solution) for p in generate("train", 24, FAMILIES, LEVELS, seed=1)]
    held = [p.question + str(p.solution) for p in generate("heldout", 24, FAMILIES, LEVELS, seed=0)]
    assert len(set(first) & set(other)) < 4
    assert len(set(first) & set(held)) == 0


def test_families_and_levels_take_turns() -> None:
    problems = list(generate("train", 48, FAMILIES, LEVELS, seed=0))
    turns = [(problem.family, problem.level) for problem in problems]
    assert sorted(turns[:24]) == sorted(itertools.product(FAMILIES, LEVELS))
    assert turns[:24] == turns[24:]
    assert len({problem.id for problem in problems}) == 48


@every_level
def test_the_splits_share_no_content(
    monkeypatch: pytest.MonkeyPatch, family: str, level: int
) -> None:
    train = {content for content, _ in with_contents(monkeypatch, "train", family, level, 150)}
    held = {content for content, _ in with_contents(monkeypatch, "heldout", family, level, 150)}
    assert not train & held
    assert len(train) >= 30
    assert len(held) >= 10


def test_no_heldout_sum_is_ever_shown_in_training() -> None:
    def sums(split: Split) -> set[str]:
        problems = generate(split, 300, ["arithmetic"], [1], seed=0)
        return {re.findall(r"\d \+ \d", problem.solution or "")[0] for problem in problems}

    assert not sums("train") & sums("heldout")


def test_the_split_of_a_content_never_changes() -> None:
    digits = range(1, 10)
    held = [a * 10 + b for a, b in itertools.product(digits, digits) if is_held(a, b)]
    assert held == HELD_SUMS


def is_held(a: int, b: int) -> bool:
    return generator.split_of("arithmetic", 1, (a, b)) == "heldout"


# Whoever changes this list moves problems between training and evaluation.
HELD_SUMS = [11, 16, 18, 33, 36, 56, 61, 73, 81, 86, 87, 88, 96]


@every_level
def test_every_equation_outside_a_corrected_slip_is_true(family: str, level: int) -> None:
    for problem in generate("train", 60, [family], [level], seed=4):
        text = facts(problem)
        found = EQUATION.findall(text)
        assert len(found) == len(re.findall(r"(?<!x) = ", text)), text
        for a, sign, b, result in found:
            assert OPERATIONS[sign](int(a), int(b)) == int(result), text


@every_level
def test_solutions_plan_and_check_and_end_on_the_answer(family: str, level: int) -> None:
    for problem in generate("train", 40, [family], [level], seed=6):
        solution = problem.solution or ""
        assert solution.startswith("Plan: ")
        assert "Check: " in solution
        assert re.search(rf"\b{problem.gold}\.$", solution)
        assert not re.search("[◁▷]", solution)


@every_level
def test_some_solutions_correct_a_slip_and_some_try_another_way(family: str, level: int) -> None:
    solutions = [p.solution or "" for p in generate("train", 200, [family], [level], seed=7)]
    reflecting = sum(bool(SLIP.search(solution)) for solution in solutions)
    exploring = sum(bool(" Or " in solution) for solution in solutions)
    assert 8 <= reflecting <= 40
    assert 20 <= exploring <= 70
    assert all(("Try " in solution) == bool(SLIP.search(solution)) for solution in solutions)


def test_a_share_of_the_solutions_goes_over_everything_twice() -> None:
    def made(share: float) -> list[Problem]:
        return list(generate("train", 200, ["counting", "compare"], [1], 3, share))

    plain, mixed, all_twice = made(0.0), made(0.6), made(1.0)
    assert not any("Again: " in str(p.solution) for p in plain)
    assert 80 <= sum("Again: " in str(p.solution) for p in mixed) <= 160
    assert all("Again: " in str(p.solution) for p in all_twice)
    for once, twice in zip(plain, all_twice, strict=True):
        assert (once.question, once.gold) == (twice.question, twice.gold)
        assert [i.data for i in once.images] == [i.data for i in twice.images]
        assert len(str(twice.solution)) > len(str(once.solution))


def test_level_one_solutions_are_short() -> None:
    for family in FAMILIES:
        words = [len(str(p.solution).split()) for p in generate("train", 60, [family], [1], seed=8)]
        assert sum(words) / len(words) <= 36


def test_arithmetic_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in LEVELS:
        for content, problem in with_contents(monkeypatch, "train", "arithmetic", level, 60):
            if level == 1:
                expression = "{}+{}".format(*content)
            elif level == 2:
                expression = "{}{}{}".format(*content)
            elif level == 3:
                expression = "{}*{}{}{}".format(*content)
            elif content[0] == "bracket":
                expression = "({1}{2}{3})*{4}".format(*content)
            else:
                expression = "{1}*{2}{3}{4}*{5}".format(*content)
            assert eval(expression) == int(problem.gold) > 0


def test_counting_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in LEVELS:
        for (items, _), problem in with_contents(monkeypatch, "train", "counting", level, 60):
            looks = [f"{colour} {shape}s" for _, shape, colour in items]
            assert len({cell for cell, _, _ in items}) == len(items)
            question = problem.question.splitlines()[0]
            if level < 4:
                wanted = question.removeprefix("How many ").removesuffix("?")
                expected = sum(look.endswith(wanted) for look in looks)
            else:
                pattern = r"How many more (\w+) than (.+)\?|Count (\w+) plus twice the (.+)\."
                match = re.fullmatch(pattern, question)
                assert match, question
                more, than, plus, twice = match.groups()
                first = sum(look.endswith(more or plus) for look in looks)
                second = sum(look == (than or twice) for look in looks)
                expected = first - second if more else first + 2 * second
            assert int(problem.gold) == expected > 0


def test_bar_chart_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in LEVELS:
        for content, problem in with_contents(monkeypatch, "train", "bar_chart", level, 60):
            values = dict(zip("ABCD", content[0], strict=False))
            sums = [
                sum(values[letter] for letter in group.split("+"))
                for group in re.findall(r"\b[A-D](?:\+[A-D])*\b", problem.question)
            ] or [sum(values.values())]
            expected = sums[0] if len(sums) == 1 else (sums[0] - sums[1]) * content[2]
            assert int(problem.gold) == expected > 0


def test_compare_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in LEVELS:
        for content, problem in with_contents(monkeypatch, "train", "compare", level, 60):
            if level == 4:
                areas = [width * height for width, height in content[1:]]
                total, gap = sum(areas), max(areas) - min(areas)
                assert int(problem.gold) == (total if "plus" in problem.question else gap) > 0
                continue
            lengths = dict(zip("ABCD", content[1:] if level == 2 else content, strict=False))
            if level == 3:
                expected = str(max(lengths.values()) - min(lengths.values()))
            else:
                pick = min if "shortest" in problem.question else max
                expected = pick(lengths, key=lambda letter: lengths[letter])
            assert problem.gold == expected


def test_triangle_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in LEVELS:
        for content, problem in with_contents(monkeypatch, "train", "triangle", level, 60):
            answer = int(problem.gold)
            assert answer > 0
            if level <= 2:
                assert content[0] + content[1] + answer == 180
            elif level == 3:
                apex, known_at, known, asked = content
                angles = {known_at: known, asked: answer}
                base = next(angles[corner] for corner in angles if corner != apex)
                assert angles[apex] + 2 * base == 180
            else:
                k, m, c, n, _ = content
                assert k * answer + (m * answer + c) + n == 180


def test_figure_choice_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in LEVELS:
        for content, problem in with_contents(monkeypatch, "train", "figure_choice", level, 60):
            assert problem.answer_type is AnswerType.CHOICE
            assert len(set(problem.options)) == len(problem.options)
            chosen = problem.options["ABCD".index(problem.gold)]
            if level == 1:
                (left, right), _ = content
                assert chosen == " ".join(left if "left" in problem.question else right)
            elif level == 2:
                cells = {" ".join(look): divmod(cell, 2) for cell, look in enumerate(content[0])}
                match = re.match(r"What is (.+?) the (.+)\?", problem.question)
                assert match
                (row, column), (to_row, to_column) = cells[match[2]], cells[chosen]
                moved = {(-1, 0): "above", (1, 0): "below", (0, -1): "left of", (0, 1): "right of"}
                assert moved[to_row - row, to_column - column] == match[1]
            elif level == 3:
                unit, shown = content
                picture = problem.images[int(chosen.strip("<image>")) - 1].open()
                assert colour_of(picture) == (list(unit) * 7)[shown][0]
            else:
                number, factor, addend = content
                for _ in range(3):
                    number = number * factor + addend
                assert chosen == str(number)


def is_painted(pixel: Any) -> bool:
    """Whether a pixel belongs to a coloured shape, not to paper, ink or grid."""
    return max(pixel) - min(pixel) >= 75 and max(pixel) >= 110


def colour_of(image: Image.Image) -> str:
    """The named colour that most painted pixels are nearest to."""
    pixels = [image.getpixel((x, y)) for x in range(image.width) for y in range(image.height)]
    painted: list[Any] = [pixel for pixel in pixels if is_painted(pixel)]

    def distance(name: str) -> int:
        return sum(
            abs(a - b) for pixel in painted for a, b in zip(pixel, COLOURS[name], strict=True)
        )

    return min(COLOURS, key=distance)


def test_drawn_shapes_can_be_counted_in_the_image() -> None:
    for problem in generate("train", 40, ["counting"], [1], seed=9):
        image = problem.images[0].open()
        cells = itertools.product(range(14, image.width, 28), range(14, image.height, 28))
        assert sum(is_painted(image.getpixel(cell)) for cell in cells) == int(problem.gold)


def test_drawn_bars_have_the_height_that_is_asked() -> None:
    for problem in generate("train", 40, ["bar_chart"], [1], seed=9):
        image = problem.images[0].open()
        heights = [
            sum(is_painted(image.getpixel((x, y))) for y in range(image.height))
            for x in range(image.width)
        ]
        groups = [max(bar) for is_bar, bar in itertools.groupby(heights, bool) if is_bar]
        assert len(groups) == 3
        asked = problem.question.split("?")[0][-1]
        # Grid lines take one pixel out of every ten.
        assert round(groups["ABC".index(asked)] / 9.2) == int(problem.gold)


def test_drawn_lines_have_the_order_that_is_asked() -> None:
    for problem in generate("train", 40, ["compare"], [1], seed=9):
        image = problem.images[0].open()
        ends = [
            max(x for x in range(image.width) if is_painted(image.getpixel((x, y))))
            for y in (image.height // 4, image.height * 3 // 4)
        ]
        assert "AB"[ends[1] > ends[0]] == problem.gold


@pytest.mark.parametrize(
    ("split", "count", "families", "levels", "message"),
    [
        ("test", 1, ["triangle"], [1], "split 'test'"),
        ("train", -1, ["triangle"], [1], "count -1"),
        ("train", 1, ["poetry"], [1], "family 'poetry': choose from arithmetic"),
        ("train", 1, ["triangle"], [5], "level 5: choose from 1, 2, 3, 4"),
        ("train", 1, [], [1], "family none given"),
    ],
)
def test_nonsense_is_refused_before_the_first_problem(
    split: Any, count: int, families: list[str], levels: list[int], message: str
) -> None:
    with pytest.raises(ProblemError, match=message):
        generate(split, count, families, levels, seed=0)
