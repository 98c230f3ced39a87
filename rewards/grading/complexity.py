r"""Predictions refused before any parser sees them.

A policy can write `9^{9^9}` in ten tokens; evaluating it costs seconds to forever. The wall clock
in math_pool.py would catch it, but a TIMEOUT removes the sample from its group, so a policy could
hide wrong answers there. A refused prediction is a graded one: no_answer, accuracy 0.
"""

from __future__ import annotations

import re
from math import prod

MAX_CHARACTERS = 300
MAX_NESTING = 12
MAX_NUMBER_DIGITS = 60
MAX_EXPONENT_DIGITS = 4
# Exponents may multiply, as in ((9^a)^b)^c; 3^{1008}/3^{1009} has to pass.
MAX_EXPONENT_PRODUCT = 10**7
MAX_NUMBERS = 40
MAX_COUNTING_DIGITS = 3  # 170! is fine, 99999! is not; the same for binomials

_EXPENSIVE = re.compile(r"\\(?:sum|prod|i{0,3}nt|oint|lim|bigcup|bigcap|coprod)(?![A-Za-z])")
_NUMERIC_EXPONENT = re.compile(r"\^\{?-?(\d+)")
_POWER_OF_POWER = re.compile(r"\^\{?\d{2,}[^()]*\)\^\{?\d{2,}")
_SMALL_FACTORIAL = re.compile(rf"(?<!\d)(?:\d{{1,{MAX_COUNTING_DIGITS}}}|[A-Za-z])!(?!!)")
_LARGE_BINOMIAL = re.compile(rf"\\[dt]?binom.*(?:\^|\d{{{MAX_COUNTING_DIGITS + 1},}})")


def refusal(text: str) -> str | None:
    """Why `text` (normalised LaTeX) is too complex to evaluate, or None if it is not."""
    text = text.replace("**", "^")
    if len(text) > MAX_CHARACTERS:
        return "too complex: long expression"
    if _nesting(text) > MAX_NESTING:
        return "too complex: deep nesting"
    if re.search(rf"\d{{{MAX_NUMBER_DIGITS + 1},}}", text):
        return "too complex: huge number"
    if _has_tower(text):
        return "too complex: power tower"
    if len(re.findall(r"\d+", text)) > MAX_NUMBERS:
        return "too complex: many terms"
    if _POWER_OF_POWER.search(text):
        return "too complex: power of a power"
    exponents = _NUMERIC_EXPONENT.findall(text)
    if any(len(digits) > MAX_EXPONENT_DIGITS for digits in exponents):
        return "too complex: huge exponent"
    if prod(max(1, int(digits)) for digits in exponents) > MAX_EXPONENT_PRODUCT:
        return "too complex: huge power"
    if "!" in _SMALL_FACTORIAL.sub("", text) or _LARGE_BINOMIAL.search(text):
        return "too complex: huge factorial"
    # math-verify rewrites (n)_{k} into factorials.
    if _EXPENSIVE.search(text) or ")_" in text:
        return "too complex: sum, product, integral or limit"
    return None


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "{([":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "})]":
            depth -= 1
    return deepest


def _has_tower(text: str) -> bool:
    """Whether some exponent is itself a power: `a^{b^c}`, `a^b^c` or `a^(b^c)`."""
    for match in re.finditer(r"\^", text):
        exponent = _group_at(text, match.end())
        after = text[match.end() + len(exponent) :]
        if exponent != r"\circ" and ("^" in exponent or after.startswith("^")):
            return True
    return False


def _group_at(text: str, start: int) -> str:
    """The argument of a LaTeX operator at `start`: a bracketed group, a command or a character."""
    if text[start : start + 1] not in ("{", "("):
        command = re.compile(r"\\[A-Za-z]+|-?\w+").match(text, start)
        return command[0] if command else text[start : start + 1]
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] in "{(") - (text[position] in "})")
        if depth == 0:
            return text[start : position + 1]
    return text[start:]
