"""What a plugin may return, value by value."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import inf, nan, pi

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kvl.rewards.plugins.returned import (
    LARGEST_VALUE,
    Crash,
    checked,
    checked_batch,
    contribution,
    number_of,
)
from kvl.rewards.types import Outcome, Verdict


class Hostile:
    """Everything that can be asked of it ends the process, if one lets it."""

    def _exit(self, *arguments):
        raise SystemExit(7)

    __repr__ = __str__ = __float__ = __iter__ = __len__ = __eq__ = __getitem__ = _exit
    __hash__ = object.__hash__


class ExitingNumber(float):
    def __float__(self):
        raise KeyboardInterrupt

    def __repr__(self):
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0.0),
        (-3, -3.0),
        (0.5, 0.5),
        (True, 1.0),
        (False, 0.0),
        (5e-324, 5e-324),
        (10**6, 1e6),
        (Decimal("0.25"), 0.25),
        (Decimal("-0"), 0.0),
        (Fraction(1, 3), 1 / 3),
        *((kind(1), 1.0) for kind in (np.float16, np.float32, np.float64, np.longdouble)),
        *((kind(1), 1.0) for kind in (np.int8, np.uint8, np.int64, np.uint64, np.bool_)),
        (np.array(0.5), 0.5),
        (np.array(True), 1.0),
        (np.array(2, dtype=object), 2.0),
        (np.ones(3, dtype=np.float32)[1], 1.0),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(3), 3.0),
        (torch.tensor(True), 1.0),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (torch.tensor(2.0, requires_grad=True), 2.0),
    ],
)
def test_finite_real_numbers_of_any_kind_are_values(value, number):
    (result,) = checked_batch([value], 1)
    assert type(result) is float
    assert result == number


@given(st.floats(min_value=-LARGEST_VALUE, max_value=LARGEST_VALUE) | st.integers(-(10**6), 10**6))
def test_a_number_keeps_its_value(value):
    assert number_of(value) == value


NO_NUMBERS = [
    nan, inf, -inf, None, "1", "", b"1", 1j, complex(1, 0), object(), [], [1.0], (1.0,), {}, {1.0},
    1e300, -1e300, 1.1e6, -(10**6) - 1, 10**400, -(10**5000), Fraction(10**400, 3),
    Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e400"), Decimal("1e7"),
    np.float32("nan"), np.float16("inf"), np.float64(1e7), np.complex64(1), np.str_("1"),
    np.datetime64("2026-01-01"), np.timedelta64(1), np.array([0.5]), np.array([]), np.array("1"),
    np.array(None), np.array(nan), np.array(1j), np.ones((1, 1)),
    torch.tensor(nan), torch.tensor([0.5]), torch.tensor([]), torch.tensor(1 + 2j),
    lambda: 1.0, float, Ellipsis, NotImplemented, range(1), Crash("forged"), Outcome.CORRECT,
    ExitingNumber(1), Hostile(), Hostile,
]  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_everything_else_is_refused_in_one_short_line(value):
    result = checked(value)
    assert isinstance(result, Crash)
    assert result.reason.startswith("returned ")
    assert len(result.reason) < 200
    assert result.reason.isprintable()


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_a_verdict_with_such_a_part_is_refused_and_the_part_is_named(value):
    result = checked(Verdict(Outcome.CORRECT, parts={"good": 1.0, "bad one": value}))
    assert isinstance(result, Crash)
    if not isinstance(value, ExitingNumber | Hostile):
        assert "a Verdict whose part 'bad one' is " in result.reason


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict("right"),  # type: ignore[arg-type]
        Verdict(""),  # type: ignore[arg-type]
        Verdict(None),  # type: ignore[arg-type]
        Verdict(1),  # type: ignore[arg-type]
        Verdict(True),  # type: ignore[arg-type]
        Verdict([]),  # type: ignore[arg-type]
        Verdict({}),  # type: ignore[arg-type]
        Verdict(Outcome),  # type: ignore[arg-type]
        Verdict(Hostile()),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts=None),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts=1.0),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts=[1.0]),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts="abc"),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts={1: 1.0}),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts={None: 1.0}),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts=Hostile()),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, parts={str(i): 1e6 for i in range(3)}),
        Verdict(Outcome.INVALID, reason=None),  # type: ignore[arg-type]
        Verdict(Outcome.INVALID, reason=b"no"),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, reason=Hostile()),  # type: ignore[arg-type]
        Verdict(Outcome.CORRECT, extracted=3),  # type: ignore[arg-type]
    ],
)
def test_a_verdict_of_wrong_types_is_refused(verdict):
    assert isinstance(checked(verdict), Crash)


def test_a_verdict_comes_back_in_plain_types():
    given = Verdict(
        "correct",  # type: ignore[arg-type]
        extracted="7",
        parts={"style": np.float32(0.5), "length": Decimal(1)},  # type: ignore[dict-item]
        reason="two\nlines \ud800",
    )
    result = checked(given)
    assert isinstance(result, Verdict)
    assert result.outcome is Outcome.CORRECT
    assert result.parts == {"style": 0.5, "length": 1.0}
    assert all(type(part) is float for part in result.parts.values())
    assert result.reason == "two lines \\ud800"
    assert contribution(result) == 1.5


@dataclass
class Rows:
    """Something with a length and items by number, as a table's column has."""

    values: list

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 0.0],
        (True, False),
        np.array([1, 0]),
        np.array([1.0, 0.0], dtype=np.float16),
        torch.tensor([1.0, 0.0]),
        (value for value in (1.0, 0.0)),
        map(float, "10"),
        Rows([1, 0]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_a_batch_is_anything_with_one_value_per_sample_in_order(values):
    assert checked_batch(values, 2) == [1.0, 0.0]


def _endless():
    while True:
        yield 1.0


def _broken():
    yield 1.0
    raise SystemExit(1)


async def _async():
    yield 1.0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "returned 0 values for 2 samples"),
        ([1.0], "returned 1 values for 2 samples"),
        ([1.0] * 3, "returned 3 values for 2 samples"),
        (np.ones(5), "returned 5 values for 2 samples"),
        (_endless(), "returned at least 3 values for 2 samples"),
        (_broken(), "SystemExit"),
        (_async(), "returned async_generator, not a list"),
        (None, "returned NoneType, not a list"),
        (1.0, "returned float, not a list"),
        (np.array(0.5), "TypeError"),
        ("10", "returned str, not a list"),
        (b"10", "returned bytes, not a list"),
        ({0: 0.5, 1: 0.5}, "returned dict, not a list"),
        ({0.5, 1.0}, "returned set, not a list"),
        (Verdict(Outcome.CORRECT), "returned Verdict, not a list"),
        (Hostile(), "SystemExit"),
    ],
)
def test_a_batch_of_another_form_or_size_loses_all_its_samples(values, reason):
    results = checked_batch(values, 2)
    assert len(results) == 2
    for result in results:
        assert isinstance(result, Crash)
        assert reason in result.reason


def test_one_bad_value_of_a_batch_costs_its_own_sample():
    first, second, third = checked_batch([pi, nan, np.ones((2, 1))[0]], 3)
    assert first == pi
    assert isinstance(second, Crash)
    assert isinstance(third, Crash)
