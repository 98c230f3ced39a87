"""How close an answer must be: relative, by the gold answer's own significant digits."""

import pytest
from kvl.rewards.types import Outcome


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("number", ".33", "1/3"),
        ("number", "3.14", "\\pi"),
        ("number", "0.67", "2/3"),
        ("number", "0.17", "1/6"),
        ("number", "0.14", "1/7"),
        ("number", "1.41", "\\sqrt{2}"),
        ("number", "2.72", "e"),
        ("number", "0.866", "\\frac{\\sqrt{3}}{2}"),
        ("number", "1.73", "\\sqrt3"),
        ("number", "6.28", "2\\pi"),
        ("number", "1.33", "4/3"),
        ("number", "0.87", "\\frac{\\sqrt{3}}{2}"),
        ("number", "2.5e-4", "2.5 \\times 10^{-4}"),
        ("number", "6.67\\times10^{-11}", "6.67e-11"),
        ("number", "0.0001", "0.0001"),
        ("number", "3.14", "3.1416"),
        ("number", "1.6 × 10^-19 C", "1.6 \\times 10^{-19} C"),
        ("number", "1.6 × 10^-19 C", "1.6e-19"),
        ("number", "1.6 × 10^-19 C", "1.6 \\times 10^{-19}\\,\\text{C}"),
        ("number", "0.5", "\\sin 30^\\circ"),
        ("number", "0.5", "\\cos 60^\\circ"),
        ("number", "1/3", "0.333333"),
        ("number", "\\frac{1}{7}", "0.142857"),
        ("number", "1/3", "⅓"),
        ("number", "7/3", "2⅓"),
        ("number", "7/3", "2 ⅓"),
    ],
)
def test_an_answer_that_rounds_to_the_gold_decimal_is_correct(outcome_of, kind, gold, answer):
    assert outcome_of(kind, gold, answer) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("number", "2.5", "2.54"),
        ("number", "0.2", "0.249"),
        ("number", "0.4", "0.44"),
        ("number", "1.5", "1.54"),
        ("number", "0.9", "\\frac{\\sqrt{3}}{2}"),
        ("number", "0.3", "0.349"),
        ("number", "0.6", "0.64"),
        ("number", "3.5", "3.54"),
        ("number", "1.2", "1.24"),
        ("number", "0.7", "\\frac{\\sqrt2}{2}"),
        ("number", "4.5", "4.54"),
        ("number", "0.5", "0.54"),
        ("number", "0.25", "0.254"),
        ("number", "0.75", "0.754"),
        ("number", "2.5e-4", "2.54e-4"),
        ("number", "1e-10", "1.4e-10"),
        ("number", "0.0001", "0.00014"),
        ("number", "0.333", "0.33"),
        ("number", "2.0", "2.04"),
        ("number", "100", "100.4"),
        ("number", "1.6 × 10^-19 C", "1.6 \\times 10^{-18} C"),
        ("number", "1.6 × 10^-19 C", "1.6 \\times 10^{-19} J"),
        ("number", "0.1", "0.14"),
        ("number", "12", "12.4"),
        ("number", "0.05", "0.054"),
        ("number", "0.5", "\\frac{\\sqrt{3}}{3}"),
        ("number", "0", "1e-9"),
        ("number", "1e-12", "2e-12"),
        ("number", "0.6", "\\frac{\\sqrt{3}}{3}"),
        ("number", "1/3", "0.333"),
        ("number", "1/3", "0.3333"),
    ],
)
def test_a_value_that_the_gold_decimal_does_not_mean_is_not_correct(outcome_of, kind, gold, answer):
    assert outcome_of(kind, gold, answer) is not Outcome.CORRECT
