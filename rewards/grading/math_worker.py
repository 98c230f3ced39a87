"""What runs in the processes of `MathPool`. The parent imports it too, but without math-verify."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil
from typing import Any, Literal

from ..types import Outcome
from .numeric import equal_by_value

MEMORY_BYTES = 4 * 2**30
# Decimals inside sets and relations; single numbers never get there.
FLOAT_ROUNDING = 6
# The parent kills a late worker; this only ends a worker whose parent died while it was busy.
_ORPHAN_GRACE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    r"""Is `prediction` equal to `gold`? Both are normalised LaTeX without delimiters.

    Example: `Comparison(r"2\sqrt{3}", r"\sqrt{12}")`. Numbers closer than `tolerance` are
    equal as well. With `relations_as_sets`, 1<x<2 equals the gold
    interval (1,2).
    """

    gold: str
    prediction: str
    tolerance: float | None = None
    relations_as_sets: bool = False


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Comparisons of which all, or any one, must hold.

    Example: `Comparisons("all", (Comparison("1", "\\frac22"), Comparison("2", "\\sqrt4")))`.
    """

    need: Literal["all", "any"]
    jobs: tuple[Comparison | Comparisons, ...]


MathJob = Comparison | Comparisons


@dataclass(frozen=True, slots=True)
class MathResult:
    """CORRECT, INCORRECT, TIMEOUT (killed) or INVALID (an error or a dead worker)."""

    outcome: Outcome
    reason: str = ""
    milliseconds: float = 0.0


class GoldError(Exception):
    """The gold answer cannot be parsed, so nothing can be said about the prediction."""


def initialize() -> None:
    """Prepare a worker process, before it takes its first job."""
    # The parent decides when workers end: not Ctrl-C, and at once, without pebble's clean-up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(2, 1)  # stray prints of the parsers go to stderr
    holds(
        Comparison("1", r"\frac{2}{2}")
    )  # the first parse builds the grammar; not on a job's clock
    # What is loaded by now (sympy, the grammar) stays for good: traversing it again and again took
    # a quarter of a job's time.
    gc.collect()
    gc.freeze()


def solve(job: MathJob, timeout_seconds: float) -> MathResult:
    """Run one job. Errors are returned: not every library's exceptions survive pickling."""
    signal.alarm(ceil(timeout_seconds) + _ORPHAN_GRACE_SECONDS)
    started = time.perf_counter()
    reason = ""
    try:
        outcome = Outcome.CORRECT if holds(job) else Outcome.INCORRECT
    except Exception as error:
        outcome, reason = Outcome.INVALID, f"math-verify: {type(error).__name__}: {error}"[:200]
    signal.alarm(0)
    return MathResult(outcome, reason, 1000 * (time.perf_counter() - started))


def holds(job: MathJob) -> bool:
    """Whether the comparison holds. Raises `GoldError` if a gold answer cannot be parsed."""
    if isinstance(job, Comparison):
        return _equal(job)
    if job.need == "all":
        return all(holds(part) for part in job.jobs)
    failure = None
    for part in job.jobs:
        try:
            if holds(part):
                return True
        except GoldError as error:
            failure = error
    if failure is not None:
        raise failure
    return False


@lru_cache(maxsize=1024)  # the ways to pair up two lists repeat the same comparisons
def _equal(job: Comparison) -> bool:
    # Imported here to keep sympy out of a parent that never meets an expression.
    from math_verify import verify

    golds = _gold(job.gold)
    if not golds:
        raise GoldError("gold answer cannot be parsed")
    predictions = parse_latex(job.prediction)
    if not predictions:
        return False
    decided = equal_by_value(golds[0], predictions[0], job.tolerance)
    if decided is not None:
        return decided
    # In this order: verify is not symmetric.
    return verify(
        golds,
        predictions,
        float_rounding=FLOAT_ROUNDING,
        allow_set_relation_comp=job.relations_as_sets,
        timeout_seconds=0,
        raise_on_error=True,
    )


@lru_cache(maxsize=256)  # the samples of a group share their gold answer
def _gold(latex: str) -> list[Any]:
    return parse_latex(latex)


def parse_latex(latex: str) -> list[Any]:
    """What math-verify reads in normalised LaTeX without delimiters; empty if nothing."""
    from math_verify import parse

    # math-verify's own timeouts use SIGALRM and swallow the result: off, the parent has the clock.
    return parse(f"${latex}$", _extraction(), "no_fallback", parsing_timeout=0, raise_on_error=True)


@cache
def _extraction() -> list[Any]:
    from math_verify import LatexExtractionConfig
    from math_verify.parser import NormalizationConfig

    # It warns that its timeouts are off, on every start.
    logging.getLogger("math_verify").setLevel(logging.ERROR)

    # Only LaTeX extraction: math-verify's expression config hands the text to sympy's parse_expr,
    # which evaluates code. Its unit stripping is off because it removes letters that may be
    # variables.
    return [
        LatexExtractionConfig(
            boxed_match_priority=-1,
            normalization_config=NormalizationConfig(
                basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
            ),
        )
    ]
