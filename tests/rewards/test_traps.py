"""Each row of spec/algorithm.md §2's table of verifier traps, under both policies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvl.problems.types import AnswerType
from kvl.rewards.format import has_format
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome, Strictness


@pytest.fixture(scope="module", params=list(Strictness))
def grade(request):
    with Grader(workers=1, timeout_seconds=30, policy=request.param) as grader:

        def verdict(kind, gold, answer, options=()):
            response = f"◁think▷Some thoughts.◁/think▷{answer}"
            return grader.grade([GradeRequest(response, gold, AnswerType(kind), tuple(options))])[0]

        yield verdict


@pytest.mark.parametrize("form", ["{}", "Answer: {}", "\\boxed{{{}}}", "$\\boxed{{\\text{{{}}}}}$"])
def test_code_in_an_answer_is_never_run(grade, form, tmp_path):
    target = tmp_path / "executed"
    for code in (
        f"__import__('os').system('touch {target}')",
        f"open('{target}','w')",
        f"eval(\"open('{target}','w')\")",
        f"\\operatorname{{open}}('{target}','w')",
    ):
        for kind, gold in (("number", "5"), ("expression", "2\\sqrt{3}"), ("text", "open")):
            assert grade(kind, gold, form.format(code)).outcome is not Outcome.CORRECT
    assert not target.exists()


@pytest.mark.parametrize(
    "answer",
    [
        "\\boxed{1=2=3=4=5}",
        "\\boxed{5 \\text{ or } 6}",
        "Answer: 5 or 6",
        "\\boxed{5 \\pm 0}",
        "\\boxed{5, 6}",
        "\\boxed{4} or \\boxed{6}",
        "Answer: 4 < 5",
        "\\boxed{\\{5, 6\\}}",
    ],
)
def test_chains_alternatives_and_lists_are_no_single_answer(grade, answer):
    assert grade("number", "5", answer).outcome is not Outcome.CORRECT


def test_what_the_gold_answer_has_the_answer_may_have(grade):
    assert grade("expression", "1 \\pm \\sqrt{19}", "\\boxed{1 \\pm \\sqrt{19}}").accuracy == 1.0
    assert grade("expression", "\\{1, 2\\}", "\\boxed{\\{2, 1\\}}").accuracy == 1.0
    assert grade("expression", "5 < x < 6", "\\boxed{5 < x < 6}").accuracy == 1.0


def test_the_golds_own_precision_is_the_tolerance(grade):
    assert grade("number", "0.333", "\\boxed{1/3}").accuracy == 1.0
    assert grade("number", "0.333", "\\boxed{0.33}").accuracy == 0.0
    assert grade("number", "0.33", "\\boxed{0.333}").accuracy == 1.0


def test_the_gold_goes_first(grade):
    assert grade("expression", "1<x<2", "\\boxed{(1,2)}").accuracy == 1.0


def test_a_bare_letter_and_a_boxed_one_are_one_choice(grade):
    options = ("12 cm", "15 cm")
    for answer in ("\\boxed{B}", "\\boxed{\\text{(B)}}", "B", "(B) 15 cm", "Answer: B"):
        assert grade("choice", "B", answer, options).accuracy == 1.0
    assert grade("choice", "B", "\\boxed{A}", options).accuracy == 0.0


@pytest.mark.parametrize(
    "answer",
    ["2^{2^{2^{2^{2^2}}}}", "9^{9^9}", "\\sum_{n=1}^{10^{12}} n", "((9^{999})^{999})^{999}"],
)
def test_what_would_take_seconds_is_refused_before_it_is_parsed(grade, answer):
    verdict = grade("expression", "2\\sqrt{3}", f"\\boxed{{{answer}}}")
    assert verdict.outcome is Outcome.NO_ANSWER
    assert "too complex" in verdict.reason


@pytest.mark.parametrize("answer", ["day7", "7x", "x7", "seven7", "7e", "7\\alpha"])
def test_letters_that_change_the_meaning_are_not_stripped(grade, answer):
    assert grade("number", "7", f"\\boxed{{{answer}}}").outcome is not Outcome.CORRECT


@pytest.mark.parametrize("thinking", ["", " ", "\n\t"])
def test_empty_thinking_has_neither_format_nor_answer(thinking):
    response = f"◁think▷{thinking}◁/think▷\\boxed{{5}}"
    assert not has_format(response)
    with Grader(workers=1, timeout_seconds=30) as grader:
        (verdict,) = grader.grade([GradeRequest(response, "5", AnswerType.NUMBER)])
    assert verdict.outcome is Outcome.NO_ANSWER
    assert has_format("◁think▷hm◁/think▷\\boxed{5}")


def test_a_grader_failure_is_an_invalid_sample_and_not_a_zero(grade):
    verdict = grade("expression", "\\frac{1}{", "\\boxed{2}")
    assert verdict.outcome is Outcome.INVALID
    assert not verdict.gradable


INTEGERS = st.integers(-(10**9), 10**9)


def rendered_numbers(value):
    """Ways to write an integer."""
    return [
        str(value),
        f"${value}$",
        f"{value:,}",
        f"\\boxed{{{value}}}",
        f"{value}.0",
        f"{value} cm",
    ]


@settings(max_examples=40)
@given(value=INTEGERS)
def test_every_rendering_of_a_number_is_that_number(grade, value):
    for answer in rendered_numbers(value):
        assert grade("number", str(value), f"Answer: {answer}").outcome is Outcome.CORRECT
    assert grade("number", str(value), f"Answer: {value + 1}").outcome is Outcome.INCORRECT


@settings(max_examples=25)
@given(top=st.integers(-99, 99), bottom=st.integers(2, 99), scale=st.integers(2, 9))
def test_fractions_agree_with_their_multiples_and_decimals(grade, top, bottom, scale):
    gold = f"\\frac{{{top}}}{{{bottom}}}"
    for answer in (
        f"{top}/{bottom}",
        f"\\dfrac{{{top * scale}}}{{{bottom * scale}}}",
        f"{top / bottom:.12f}",
    ):
        assert grade("expression", gold, f"\\boxed{{{answer}}}").outcome is Outcome.CORRECT
    wrong = f"\\frac{{{top + 1}}}{{{bottom}}}"
    assert grade("expression", gold, f"\\boxed{{{wrong}}}").outcome is Outcome.INCORRECT


@settings(max_examples=15)
@given(
    low=st.integers(-50, 49),
    width=st.integers(1, 50),
    edges=st.sampled_from(["()", "[]", "(]", "[)"]),
)
def test_intervals_agree_with_themselves_and_not_with_other_edges(grade, low, width, edges):
    high = low + width
    gold = f"{edges[0]}{low},{high}{edges[1]}"
    spaced = f"\\left{edges[0]} {low}, {high} \\right{edges[1]}"
    other = "()" if edges != "()" else "[]"
    assert grade("expression", gold, f"\\boxed{{{spaced}}}").outcome is Outcome.CORRECT
    assert (
        grade("expression", gold, f"\\boxed{{{other[0]}{low},{high}{other[1]}}}").outcome
        is Outcome.INCORRECT
    )


@settings(max_examples=40)
@given(
    count=st.integers(2, 10),
    chosen=st.integers(0, 9),
    form=st.sampled_from(
        ["{}", "({})", "{}.", "\\boxed{{{}}}", "**{}**", "【答案】{}", "Answer: {}"]
    ),
)
def test_every_rendering_of_a_choice_names_that_choice(grade, count, chosen, form):
    options = [f"{10 + number} apples" for number in range(count)]
    letter = "ABCDEFGHIJ"[chosen % count]
    other = "ABCDEFGHIJ"[(chosen + 1) % count]
    assert grade("choice", letter, form.format(letter), options).outcome is Outcome.CORRECT
    assert grade("choice", other, form.format(letter), options).outcome is Outcome.INCORRECT
    text = options[chosen % count]
    assert grade("choice", letter, f"Answer: {text}", options).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\\frac{1}{2}", "0.5"),
        ("2\\sqrt{3}", "\\sqrt{12}"),
        ("a+b", "b+a"),
        ("(x+1)^2", "x^2+2x+1"),
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("x>1", "1<x"),
        ("4\\pi", "\\pi \\cdot 4"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}"),
        ("1:2", "2:4"),
        ("1,234", "1234"),
    ],
)
def test_equal_forms_agree_in_both_directions(grade, one, other):
    assert grade("expression", one, f"\\boxed{{{other}}}").outcome is Outcome.CORRECT
    assert grade("expression", other, f"\\boxed{{{one}}}").outcome is Outcome.CORRECT
