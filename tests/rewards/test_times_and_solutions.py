"""Times of day, ranges, and answers of several solutions."""

import pytest
from kvl.rewards.types import Outcome


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("expression", "8:30 p.m.", "8:30 pm"),
        ("expression", "8:30 p.m.", "20:30"),
        ("expression", "1:30", "1:30"),
        ("expression", "1:30", "half past one"),
        ("expression", "1:2", "2:4"),
        ("expression", "2:3", "10:15"),
        ("expression", "00:30", "12:30 am"),
        ("expression", "13:05", "1:05 pm"),
        ("expression", "6:15", "quarter past six"),
        ("expression", "6:45", "quarter to seven"),
        ("expression", "3:00", "3 o'clock"),
        ("expression", "3:00", "three o’clock"),
        ("expression", "1:1", "1:1"),
        ("expression", "1:1", "2:2"),
        ("expression", "3:4:5", "6:8:10"),
    ],
)
def test_a_time_however_it_is_written_is_that_time(outcome_of, kind, gold, answer):
    assert outcome_of(kind, gold, answer) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("expression", "8:30 p.m.", "8:30 a.m."),
        ("expression", "1:30", "3:90"),
        ("expression", "1:30", "2:60"),
        ("expression", "1:30", "0.0333"),
        ("expression", "1:2", "1:3"),
        ("expression", "12:00", "0:00"),
        ("expression", "13:05", "1:05"),
        ("expression", "1:05", "13:05"),
        ("expression", "6:45", "quarter past seven"),
        ("expression", "3:00", "3"),
        ("expression", "7:00", "0:07"),
        ("expression", "2:30", "2.5"),
        ("expression", "3:4:5", "3:4"),
        ("expression", "2:30", "5:75"),
        ("expression", "10:30", "21:63"),
    ],
)
def test_a_time_is_never_a_ratio(outcome_of, kind, gold, answer):
    assert outcome_of(kind, gold, answer) is not Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("expression", "x=1 or x=-2", "x=-2 or x=1"),
        ("expression", "x=1 or x=-2", "x=1, x=-2"),
        ("expression", "x=1 or x=-2", "1, -2"),
        ("expression", "\\pm 3", "3, -3"),
        ("expression", "\\pm 3", "-3, 3"),
        ("expression", "\\pm\\sqrt{2}", "\\sqrt2, -\\sqrt2"),
        ("expression", "x=1,y=2", "y=2,x=1"),
        ("expression", "x=1,y=2", "1,2"),
        ("expression", "\\frac{1\\pm\\sqrt5}{2}", "\\frac{1+\\sqrt5}{2}, \\frac{1-\\sqrt5}{2}"),
        ("expression", "\\frac{1\\pm\\sqrt5}{2}", "\\frac{1}{2}\\pm\\frac{\\sqrt5}{2}"),
        ("expression", "x<-1 or x>3", "x>3 or x<-1"),
        ("expression", "x=\\pm2", "x=2 \\text{ or } x=-2"),
        ("expression", "x=1或x=2", "x=2或x=1"),
        ("expression", "x=3", "3"),
        ("expression", "x=2 or x=3", "2 or 3"),
        ("expression", "x=-1\\pm\\sqrt2", "x=-1+\\sqrt2 \\text{ or } x=-1-\\sqrt2"),
    ],
)
def test_solutions_may_come_in_any_order_and_form(outcome_of, kind, gold, answer):
    assert outcome_of(kind, gold, answer) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("kind", "gold", "answer"),
    [
        ("expression", "x=1 or x=-2", "x=1"),
        ("expression", "x=1 or x=-2", "x=1 or x=2"),
        ("expression", "x=1 or x=-2", "x=1 or x=-2 or x=3"),
        ("expression", "x=1 or x=-2", "y=1 or y=-2"),
        ("expression", "\\pm 3", "3"),
        ("expression", "x=1,y=2", "x=2,y=1"),
        ("expression", "x=1,y=2", "2,1"),
        ("expression", "x=2", "x=2 or x=3"),
        ("expression", "x<-1 or x>3", "x>3"),
        ("expression", "x=\\pm2", "x=2"),
        ("expression", "x=3", "y=3"),
        ("expression", "x=\\frac{1}{2^{99}}", "x=\\frac{1}{2^{98}}"),
        ("expression", "x=0", "x=0 or x=1"),
        ("expression", "x=-1\\pm\\sqrt2", "x=1\\pm\\sqrt2"),
    ],
)
def test_missing_further_and_other_solutions_are_not_correct(outcome_of, kind, gold, answer):
    assert outcome_of(kind, gold, answer) is not Outcome.CORRECT
