"""Gold answers: which can be met, and problems that accept several."""

import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.grading.gold import BadGold, check_gold
from kvl.rewards.types import GradeRequest, Outcome, Strictness


def request(kind, gold, options=0):
    return GradeRequest("", gold, AnswerType(kind), tuple(map(str, range(options))))


@pytest.mark.parametrize(
    ("kind", "gold"),
    [
        ("number", "1.6 × 10^-19 C"),
        ("expression", "x^-1"),
        ("expression", "2^-3"),
        ("number", "½"),
        ("open", "8:30 p.m."),
        ("open", "4:30p.."),
        ("expression", r"0.\overline{3}"),
        ("expression", "5:0"),
        ("expression", "4-7"),
        ("expression", "12 meters."),
        ("expression", "360 sets"),
        ("expression", r"\sin 30^\circ"),
        ("expression", r"x=1 \text{ or } x=-2"),
        ("expression", "north east southeast $$107^{\\circ}$$"),
        ("expression", r"$\frac{3^{1008}-1}{3^{1009}}$"),
        ("number", "#### 72"),
        ("number", r"So it is $\boxed{7}$."),
        ("list", "['cat', 'dog']"),
        ("text", "3rd"),
        ("bool", "No"),
    ],
)
def test_a_gold_that_some_answer_meets_passes(kind, gold):
    check_gold(request(kind, gold))


@pytest.mark.parametrize(
    ("kind", "gold", "options"),
    [
        ("number", "", 0),
        ("number", "about 5", 0),
        ("number", "N/A", 0),
        ("number", "1/0", 0),
        ("expression", r"\frac{1}{", 0),
        ("expression", r"\frac{0}{0}", 0),
        ("expression", "x = ", 0),
        ("expression", "$$", 0),
        ("expression", "(1, 2", 0),
        ("list", "[]", 0),
        ("list", "[A, F]", 3),
        ("multi-select", "AF", 3),
        ("choice", "E", 4),
        ("choice", "AC", 4),
        ("bool", "maybe", 0),
    ],
)
def test_a_gold_that_no_answer_can_meet_is_reported(kind, gold, options):
    with pytest.raises(BadGold, match=r"gold answer"):
        check_gold(request(kind, gold, options))


def test_of_several_golds_the_bad_one_is_named():
    with pytest.raises(BadGold, match="about 7"):
        check_gold(request("number", ("5", "about 7")))
    with pytest.raises(BadGold, match="no gold answer"):
        check_gold(request("number", ()))


@pytest.fixture(scope="module", params=list(Strictness))
def grade(request):
    with Grader(workers=1, timeout_seconds=30, policy=request.param) as grader:

        def verdict(kind, gold, answer):
            response = f"◁think▷Some thoughts.◁/think▷Answer: {answer}"
            return grader.grade([GradeRequest(response, gold, AnswerType(kind))])[0]

        yield verdict


@pytest.mark.parametrize(
    ("kind", "golds", "right", "wrong"),
    [
        ("number", ("5", "7"), "7", "6"),
        ("number", ("5", "7"), "5", "5 or 7"),
        ("expression", (r"2\sqrt{3}", r"\frac{1}{2}"), r"$\sqrt{12}$", r"$\sqrt{13}$"),
        ("expression", (r"2\sqrt{3}", r"\pi"), r"$\frac{2\pi}{2}$", r"$\frac{\pi}{2}$"),
        ("text", ("cat", "feline"), "Feline", "dog"),
        ("choice", ("A", "C"), "(C)", "(B)"),
        ("open", ("8:30", "half past eight"), "8:30", "8:00"),
        ("list", ("[1, 2]", "[2, 1]"), "[2, 1]", "[1, 3]"),
    ],
)
def test_meeting_any_accepted_gold_is_enough(grade, kind, golds, right, wrong):
    assert grade(kind, golds, right).outcome is Outcome.CORRECT
    assert grade(kind, golds, wrong).outcome in (Outcome.INCORRECT, Outcome.NO_ANSWER)


def test_an_unusable_gold_beside_a_met_one_costs_nothing_but_is_not_hidden(grade):
    golds = (r"\frac{1}{", r"2\sqrt{3}")
    assert grade("expression", golds, r"$\sqrt{12}$").outcome is Outcome.CORRECT
    assert grade("expression", golds, r"$\sqrt{13}$").outcome is Outcome.INVALID


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        ("number", "#### 72", "72", "71"),
        ("number", r"So it is $\boxed{7}$.", "7", "8"),
        ("number", "1.6 × 10^-19 C", "1.6e-19 C", "1.6e-18 C"),
        ("expression", "360 sets", "360", "36"),
        ("expression", "5:0", "5:0", "0:5"),
        ("expression", "12 meters.", "12 m", "12 cm"),
    ],
)
def test_a_gold_that_only_needs_another_form_is_met(grade, kind, gold, right, wrong):
    assert grade(kind, gold, right).outcome is Outcome.CORRECT
    assert grade(kind, gold, wrong).outcome is Outcome.INCORRECT
