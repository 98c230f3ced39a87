"""The user turn and the demonstration."""

from __future__ import annotations

import dataclasses

import pytest
from kvl.problems.prompt import prompt_parts, target_text
from kvl.problems.types import AnswerType, ImageSource, Problem, ProblemError

FIRST, SECOND, THIRD = (ImageSource(data=bytes([number])) for number in range(3))


def choice(question: str, options: tuple[str, ...], *images: ImageSource) -> Problem:
    return Problem(
        id="p",
        question=question,
        images=images,
        answer="A",
        answer_type=AnswerType.CHOICE,
        options=options,
    )


def test_text_and_images_alternate_as_they_are_named() -> None:
    problem = choice("From <image 2> to <image1>?", (), FIRST, SECOND)
    assert prompt_parts(problem) == ("From ", SECOND, " to ", FIRST, "?")


def test_options_follow_as_lettered_lines() -> None:
    problem = choice("Which?\n<image1>", ("one", "two"), FIRST)
    assert prompt_parts(problem) == ("Which?\n", FIRST, "\nA. one\nB. two")


def test_images_in_options_are_shown_in_their_lines() -> None:
    problem = choice("Next?\n<image1>", ("<image2>", "<image3>"), FIRST, SECOND, THIRD)
    expected = ("Next?\n", FIRST, "\nA. ", SECOND, "\nB. ", THIRD)
    assert prompt_parts(problem) == expected


@pytest.mark.parametrize("options", [("A", "B"), ("(A)", "(B)"), ("A)", "B)")])
def test_options_that_are_only_letters_are_not_repeated(options: tuple[str, ...]) -> None:
    assert prompt_parts(choice("Which?<image1>", options, FIRST)) == ("Which?", FIRST)


def test_swapped_letters_are_real_options() -> None:
    parts = prompt_parts(choice("Which?<image1>", ("B", "A"), FIRST))
    assert parts == ("Which?", FIRST, "\nA. B\nB. A")


def test_an_image_named_twice_is_shown_once() -> None:
    parts = prompt_parts(choice("See <image 1>. In <image 1>, what?", (), FIRST))
    assert parts == ("See ", FIRST, ". In image 1, what?")


def test_a_text_problem_is_one_part() -> None:
    assert prompt_parts(choice("2 or 3?", ())) == ("2 or 3?",)


def test_the_demonstration_closes_its_thinking_before_the_answer() -> None:
    problem = dataclasses.replace(choice("Q", ()), solution=" Plan: look. So A. ")
    assert target_text(problem) == "◁think▷Plan: look. So A.◁/think▷Answer: A"


@pytest.mark.parametrize("solution", [None, "  ", "a ◁/think▷ b"])
def test_a_problem_without_a_usable_solution_has_no_demonstration(solution: str | None) -> None:
    with pytest.raises(ProblemError, match=r"problem p: .*solution"):
        target_text(dataclasses.replace(choice("Q", ()), solution=solution))


@pytest.mark.parametrize("count", [11, 26])
def test_more_than_ten_options_are_lettered_on(count: int) -> None:
    options = tuple(f"text {number}" for number in range(count))
    (shown,) = prompt_parts(dataclasses.replace(choice("Q", options), answer="K"))
    assert isinstance(shown, str)
    assert shown.split("\n")[11] == "K. text 10"
    assert len(shown.split("\n")) == count + 1
    with pytest.raises(ProblemError, match="27 options; at most 26"):
        choice("Q", ("x",) * 27)


def test_of_several_accepted_answers_the_first_is_written() -> None:
    problem = dataclasses.replace(choice("Q", ()), answer=("B", "C"), solution="So B.")
    assert target_text(problem) == "◁think▷So B.◁/think▷Answer: B"
