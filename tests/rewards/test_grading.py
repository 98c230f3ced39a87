"""Verdicts by answer type, with every trap that real graders fell into."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome, Strictness

OPTIONS = ("$12 \\mathrm{~cm}$", "$15 \\mathrm{~cm}$", "$\\frac{1}{2}$", "red", "triangle $ABC$")


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=1, timeout_seconds=30) as grader:
        yield grader


def grade(grader, kind, gold, prediction, options=()):
    request = GradeRequest(
        f"◁think▷thoughts◁/think▷Answer: {prediction}", gold, AnswerType(kind), tuple(options)
    )
    (verdict,) = grader.grade([request])
    return verdict


@pytest.mark.parametrize(
    "prediction",
    [
        "B",
        "(B)",
        "B.",
        "b",
        "$B$",
        r"\text{(B)}",
        r"\boxed{B}",
        "**B**",
        "（B）",
        "option B",
        "选B",
        "(B) 15 cm",
        "B. $15 \\mathrm{~cm}$",
        "B: 15 cm",
        "B 15 cm",
        "B (15 cm)",
        "B) nonsense",
        "15 cm",
        r"15\,\text{cm}",
        "15",
    ],
)
def test_an_option_may_be_named_by_letter_or_by_its_text(grader, prediction):
    verdict = grade(grader, "choice", "B", prediction, OPTIONS)
    assert verdict.outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    "prediction",
    [
        "A",
        "(A) 15 cm",
        "A, B",
        "A or B",
        "B or C",
        "(B) and (C)",
        "B, C",
        "BC",
        "B. or C",
        "BOB",
        "not B",
        "15 km",
        "16",
        "cm",
        "A B C D E",
        "K",
        "it might be B",
        "(B) is wrong",
        "B is not the answer",
    ],
)
def test_other_letters_and_several_letters_are_incorrect(grader, prediction):
    verdict = grade(grader, "choice", "B", prediction, OPTIONS)
    assert verdict.outcome is Outcome.INCORRECT


def test_option_text_may_contain_letters(grader):
    assert grade(grader, "choice", "E", "(E) triangle ABC", OPTIONS).outcome is Outcome.CORRECT
    options = ("$AB$", "$A B C$")
    assert grade(grader, "choice", "B", "(B) $A B C$", options).outcome is Outcome.CORRECT


def test_option_text_that_fits_two_options_names_none(grader):
    options = ("5", "5", "6")
    assert grade(grader, "choice", "A", "5", options).outcome is Outcome.INCORRECT
    assert grade(grader, "choice", "C", "6", options).outcome is Outcome.CORRECT


def test_a_pronoun_is_not_option_i(grader):
    verdict = grade(grader, "choice", "I", "I'm sorry", [str(n) for n in range(10)])
    assert verdict.outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        ("5", "5"),
        ("5", "5."),
        ("5", "$5$"),
        ("5", "+5"),
        ("5", "5.0"),
        ("5", "x = 5"),
        ("5", "5 cm"),
        ("5", r"5\,\mathrm{cm}^2"),
        ("36", r"36^{\circ}"),
        ("36", "36°"),
        ("36", r"\$36"),
        ("-3", "\N{MINUS SIGN}3"),
        ("1234567", "1,234,567"),
        ("1234", "1{,}234"),
        ("0.5", "1/2"),
        ("0.5", r"\frac12"),
        ("2.5", r"2\frac{1}{2}"),
        ("0.333", "1/3"),
        ("6.2832", r"2\pi"),
        ("5.000000000000001", "5"),
        ("9.0", "9"),
        ("$$82.6$$", "82.6"),
        ("10.", "10"),
        ("1500", r"1.5 \times 10^{3}"),
        ("1500", "1.5e3"),
        ("50%", r"50\%"),
        ("50%", "50 percent"),
        ("4", r"\sqrt{16}"),
    ],
)
def test_numbers_are_compared_by_value(grader, gold, prediction):
    assert grade(grader, "number", gold, prediction).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        ("5", "1=2=3=4=5"),
        ("5", "5 or 6"),
        ("5", r"5 \pm 0"),
        ("5", "5, 6"),
        ("5", "5 6"),
        ("56", "5 6"),
        ("5", r"5 \text{ or } 6"),
        ("5", r"\{5, 5\}"),
        ("5", "not 5"),
        ("5", "about 5"),
        ("5", "5?"),
        ("7", "day7"),
        ("7", "7x"),
        ("7", "7m"),
        ("12", r"1200\%"),
        ("12", r"\frac{1200}{1}\%"),
        ("50%", "50"),
        ("10.0", r"10\sqrt{2}"),
        ("0.333", "0.33"),
        ("0.333", "0.34"),
        ("3.1416", "3.14"),
        ("9.0", "9.04"),
        ("5", "5.0000001"),
        ("1234", "12,34"),
        ("40 cm", "40 km"),
        ("3", "three sided shape"),
        ("0", r"\frac{0}{0}"),
        ("1", "1e999999999"),
    ],
)
def test_number_traps_are_not_correct(grader, gold, prediction):
    verdict = grade(grader, "number", gold, prediction)
    assert verdict.outcome in (Outcome.INCORRECT, Outcome.NO_ANSWER)


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        (r"$\frac{1}{2}$", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        (r"$2 \sqrt{3}$", r"\sqrt{12}"),
        (r"2\sqrt{3}", "2√3"),
        (r"$4 \pi$", "4π"),
        (r"$\frac{\sqrt{6}}{6}$", r"\frac{1}{\sqrt{6}}"),
        (r"$6 \sqrt{3}+4 \pi$", r"4\pi + 6\sqrt3"),
        (r"$\frac{3^{1008}-1}{3^{1009}}$", r"\dfrac{3^{1008}-1}{3^{1009}}"),
        (r"$\frac{90}{23}^{\circ}$", r"\frac{90}{23}"),
        (r"$\boxed{\frac{16}{7}}$", r"\frac{16}{7}"),
        (r"\frac{n}{n+1}", r"1 - \frac{1}{n+1}"),
        ("a+b", "b+a"),
        ("y=3", "y = 3"),
        ("1:2", "1 : 2"),
        (r"$$1:\sqrt{3}$$", r"\sqrt{3}:3"),
        ("1:3:2", "2:6:4"),
        ("(1, 2)", r"\left(1, 2\right)"),
        (r"(-\infty, 1]", r"(-\infty,1]"),
        ("x > 1", r"x \gt 1"),
        ("1<x<2", "(1,2)"),
        (r"\begin{pmatrix} -6 \\ 6 \end{pmatrix}", r"\begin{pmatrix}-6\\ 3+3\end{pmatrix}"),
        ("4 cm²", r"4 \mathrm{~cm}^2"),
        ("22cm.", "22"),
    ],
)
def test_equal_expressions_are_correct(grader, gold, prediction):
    assert grade(grader, "expression", gold, prediction).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        (r"\frac{1}{2}", r"\frac{1}{3}"),
        (r"2\sqrt{3}", r"2\sqrt{2}"),
        (r"2\sqrt{3}", r"2\sqrt{3} \text{ or } 2"),
        (r"2\sqrt{3}", r"2\sqrt{3}, 2\sqrt{2}"),
        (r"2\sqrt{3}", r"\pm 2\sqrt{3}"),
        (r"2\sqrt{3}", r"a = 2 = 2\sqrt{3}"),
        ("1:2", "2:1"),
        ("1:2", "1/2"),
        ("1:3:2", "1:3"),
        ("(1, 2)", "(2, 1)"),
        ("(1,2)", "[1,2]"),
        ("x > 1", "x < 1"),
        ("y=3", "y=3=3"),
        ("22cm.", "22 m"),
        ("a+b", "c+d"),
        ("a+b", "the sum of both"),
    ],
)
def test_unequal_expressions_are_incorrect(grader, gold, prediction):
    assert grade(grader, "expression", gold, prediction).outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    "prediction",
    [
        "9^{9^9}",
        "9^9^9",
        "2^{2^{2^{2^{2^2}}}}",
        "9**9**9",
        "((9^{999})^{999})^{999}",
        "10^{99999999}",
        "99999!",
        "((5!)!)!",
        r"\binom{1000000}{500000}",
        r"\binom{10^9}{5}",
        r"\sum_{n=1}^{1000000000} n",
        "{" * 60 + "1" + "}" * 60,
        "1+" * 200 + "1",
        "1" * 100,
    ],
)
def test_predictions_that_explode_are_refused_before_parsing(grader, prediction):
    verdict = grade(grader, "expression", r"2\sqrt{3}", prediction)
    assert verdict.outcome is Outcome.NO_ANSWER
    assert "too complex" in verdict.reason
    assert verdict.milliseconds < 1000


@pytest.mark.parametrize("kind", list(AnswerType))
def test_code_in_an_answer_is_not_executed(grader, kind, tmp_path: Path):
    target = tmp_path / "executed"
    attacks = [
        f"__import__('os').system('touch {target}')",
        f"\\text{{__import__('os').system('touch {target}')}}",
        f"x = open('{target}', 'w')",
        f'exec(chr(49)) + open("{target}", "w")',
        f"\\operatorname{{open}}('{target}','w')",
    ]
    for attack in attacks:
        assert grade(grader, kind, "A", attack).outcome is not Outcome.CORRECT
    assert not target.exists()


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        ("Thursday", "thursday."),
        ("Product B", r"\text{Product B}"),
        ("68, 27, 20", "68,27,20"),
        ("(3.000, 1.000)", "( 3.000, 1.000 )"),
        ("rhombus.", '"Rhombus"'),
    ],
)
def test_text_ignores_case_and_typesetting_only(grader, gold, prediction):
    assert grade(grader, "text", gold, prediction).outcome is Outcome.CORRECT
    assert grade(grader, "text", gold, prediction + " x").outcome is Outcome.INCORRECT


def test_the_malformed_gold_makes_the_sample_invalid(grader):
    verdict = grade(grader, "choice", "AC", "A")
    assert verdict.outcome is Outcome.INVALID
    assert not verdict.gradable
    assert "AC" in verdict.reason
    verdict = grade(grader, "expression", r"\frac{1}{", "2")
    assert verdict.outcome is Outcome.INVALID


def test_verdicts_keep_the_order_of_the_requests(grader):
    golds = ["1", r"2\sqrt{3}", "3", r"4\pi"]
    predictions = ["1", r"\sqrt{12}", "4", r"\pi+3\pi"]
    verdicts = grader.grade(
        [
            GradeRequest(f"◁think▷x◁/think▷Answer: {prediction}", gold, AnswerType.EXPRESSION)
            for gold, prediction in zip(golds, predictions, strict=True)
        ]
    )
    assert [verdict.accuracy for verdict in verdicts] == [1.0, 1.0, 0.0, 1.0]
    assert [verdict.extracted for verdict in verdicts] == predictions
    assert all(verdict.milliseconds > 0 for verdict in verdicts)


WORDS = ("Answer: ", "The answer is ", "答案是", "or", "cm", "A", "B", "x", "e", "\x00", "\ud800")
MARKERS = ("◁think▷", "◁/think▷", "<|im_end|>")
LATEX = ("\\boxed{", "}", "{", "\\frac", "\\sqrt", "\\text{", "$", "\\(", "\\)", "^", "_", "°", "π")
SIGNS = ("0", "7", "12", "-", "/", "(", ")", ",", ".", ":", "=", "%", "!", " ", "\n")
FRAGMENTS = WORDS + MARKERS + LATEX + SIGNS


GOLDS = [
    ("B", AnswerType.CHOICE),
    ("BD", AnswerType.MULTI_SELECT),
    ("7", AnswerType.NUMBER),
    ("0.5", AnswerType.NUMBER),
    (r"\frac{1}{2}", AnswerType.EXPRESSION),
    ("1:2", AnswerType.EXPRESSION),
    ("[1, 2]", AnswerType.LIST),
    ("True", AnswerType.BOOL),
    ("May", AnswerType.TEXT),
    ("x+1", AnswerType.OPEN),
]


@pytest.mark.parametrize("policy", list(Strictness))
def test_no_content_makes_the_grader_raise_or_fail(policy):
    with Grader(workers=1, timeout_seconds=30, policy=policy) as grader:

        @settings(max_examples=150)
        @given(
            tail=st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join),
            gold=st.sampled_from(GOLDS),
        )
        def any_tail(tail, gold):
            options = ("7", "12", "cm", "10") if gold[1] is AnswerType.CHOICE else ()
            answer, kind = gold
            request = GradeRequest(f"◁think▷x◁/think▷{tail}", answer, kind, options)
            (verdict,) = grader.grade([request])
            assert verdict.gradable, verdict.reason

        any_tail()


def test_a_very_long_response_is_graded_quickly(grader):
    for tail in (
        "\\boxed{" + "\\text{" * 50_000 + "}" * 50_001,
        "Answer: 5 " * 20_000,
        "answer" + " " * 200_000,
        "\\boxed{" * 30_000,
        "$" * 200_000,
    ):
        request = GradeRequest(f"◁think▷x◁/think▷{tail}", "5", AnswerType.EXPRESSION)
        (verdict,) = grader.grade([request])
        assert verdict.gradable
        assert verdict.milliseconds < 10_000


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        ("number", "5", "AB = 5", "AB = 6"),
        ("number", "45", "\\angle ABC = 45^\\circ", "\\angle ABC = 54^\\circ"),
        ("expression", "3x^2", "f(x) = 3x^2", "f(x) = 3x"),
        ("expression", "3x^2", "f'(x) = 3x^2", "f'(x) = 2x^3"),
        ("expression", r"\ln 2", "ln(2)", "log(20)"),
        ("expression", r"\sin x", "sin(x)", "cos(x)"),
        ("expression", r"\frac{\sqrt{3}}{2}", "sqrt(3)/2", "sqrt(2)/3"),
        ("expression", "x_1+1", "x₁+1", "x₂+1"),
        ("bool", "False", "错误", "正确"),
        ("bool", "True", "对", "不对"),
    ],
)
def test_a_name_before_the_value_and_unicode_spellings_are_read(grader, kind, gold, right, wrong):
    assert grade(grader, kind, gold, right).outcome is Outcome.CORRECT
    assert grade(grader, kind, gold, wrong).outcome is not Outcome.CORRECT


def test_a_multi_select_gold_outside_the_options_is_invalid(grader):
    assert grade(grader, "multi-select", "AF", "AF", ("1", "2", "3")).outcome is Outcome.INVALID
