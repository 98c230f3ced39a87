r"""The value that a phrase or sentence states: "there are 5 objects left" -> "5".

For the `eval` policy only: here words around a value are expected. Numbers are found as written
(`$1,234.50`, `3\frac{1}{2}`, "fifteen"); which of several is meant follows from their place: after
the last equals sign, in bold, after the verb.
"""

from __future__ import annotations

import re
from itertools import pairwise

from .number_words import NUMBER_WORD

_DIGITS = (
    r"\d{1,3}(?:(?:,|\{,\}|,\\!\s?|['’\u00a0\u2009\u202f])\d{3})+(?!\d)"
    r"|\d{1,3}(?:\.\d{3}){2,}(?!\d)|\d+"
)
_VULGAR = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_NUMBER = re.compile(
    rf"""(?<![A-Za-z0-9.^_\\#√])(?<!√\{{)(?<!sqrt\{{)
    (?: [-−–+]\s?(?=[\d.$\\{_VULGAR}])(?<![\d)\]]\s[-−–+]\s)(?<![\d)\]][-−–+]) )?
    (?:\\?[$€£¥₹]\s?)?
    (?: \\[dt]?frac\s*\{{\s*[-−]?[\d.]+\s*\}}\s*\{{\s*[\d.]+\s*\}}
      | \d+,\d{{1,2}}(?![\d,])
      | [{_VULGAR}]
      | (?:(?:{_DIGITS})(?:\.\d+)?|\.\d+)
        (?: \s?\\[dt]?frac\s*\{{\s*\d+\s*\}}\s*\{{\s*\d+\s*\}}
          | \s?[{_VULGAR}]
          | \s+\d+/\d+
          | \s?(?:×|x|\\times|\*|\\cdot|·)\s?10
            (?: \s?(?:\^|\*\*)\s?[{{(]?[-−]?\d+[}})]? | [⁻⁺]?[{_SUPERSCRIPT}]+ )
          | [eE][-+]?\d+(?![\w])
          | \s?/\s?\d+(?:\.\d+)?(?![\d/])
          | \s(?:thousand|million|billion|trillion)\b
          | \s?[万亿]
        )?
    )
    (?:\s?\\?%)?
    (?![\d_^{_VULGAR}{_SUPERSCRIPT}⁻]|\.\d|\s?(?:[a-cknpqrtx-z](?![A-Za-z])|\\?pi\b|π|\\sqrt|√))""",
    re.VERBOSE,
)
_NOT = re.compile(
    r"\b(?:not|cannot be|can't be|isn't|(?:less|greater|more|fewer|larger|smaller) than)"
    r"\s+(?:a\s+)?\$?\Z"
)
_BOLD = re.compile(r"\*\*(.+?)\*\*")
# A dollar sign before an amount ("$20 per day", "$17-$12") is no delimiter.
_MATH = re.compile(
    r"""\\\((.+?)\\\) | \\\[(.+?)\\\] | (?<!\\)\$\$(.+?)\$\$
    | (?<!\\)\$(?!\d[\d,.]*\s?(?:[A-Za-z,.]|[-+]\s?\$))([^$]+?)(?<!\\)\$""",
    re.DOTALL | re.VERBOSE,
)
_EQUALS = re.compile(r"=|≈|\\approx|\bequals\b|\bequal to\b")
_STATES = re.compile(
    r"\b(?:is|are|was|were|be|by|equals?|of|has|have|had|left with|total|to|in|about|approximately"
    r"|therefore|only|remains?|became|becomes|needs?|takes?|gets?|got|makes?|made|costs?|will)\b"
    r"|[:=≈]|是|为|有",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"(?:[\s${}]|\\text)*"
    r"(?:,|\bor\b|\band\b|,\s*(?:or|and)\b|\\pm|±|\bto\b|-|–|/|或|和|与|及|、)"
    r"(?:[\s${}]|\\text)*"
)
_OPEN_ENDED = re.compile(r"\s*or\s+(?:more|less|fewer|greater|above|below)\b")
_UNSURE = re.compile(
    r"\b(?:maybe|perhaps|possibly|either|not sure|alternatively|otherwise|could also|might also)\b"
    r"|也许|可能",
    re.IGNORECASE,
)
_SUBORDINATE = re.compile(
    r",?\s*\b(?:because|since|(?<=,\s)as|as there|as the|which|after|if|when|where|while|given"
    r"|due to|with|between|than|from|out of)\b",
    re.IGNORECASE,
)


def math_segments(text: str) -> list[str]:
    r"""The contents of `$…$`, `\(…\)`, `\[…\]`, in order."""
    return [next(group for group in m.groups() if group).strip() for m in _MATH.finditer(text)]


def numbers(text: str) -> list[re.Match[str]]:
    """Every number written in digits or words."""
    found = [*_NUMBER.finditer(text), *NUMBER_WORD.finditer(text)]
    found = [
        match for match in found if not _NOT.search(text, max(0, match.start() - 16), match.start())
    ]
    return sorted(found, key=lambda match: match.start())


def stated_number(text: str, short: bool) -> tuple[str, int, int] | None:
    """(number, start, end) of the one number a text states, or None.

    `short` texts follow "the answer is": their first number counts. In a sentence it is the one
    after the last equals sign, in bold, or the last in the main clause.
    """
    found = numbers(text)
    if not found:
        return None
    if len({match[0] for match in found}) == 1:
        return _spanned(found[0])
    if equals := list(_EQUALS.finditer(text)):
        after = [match for match in found if match.start() >= equals[-1].end()]
        if after:
            return _spanned(after[0])
    if short:
        return _spanned(found[0])
    if bold := [m for b in _BOLD.finditer(text) for m in found if b.start() <= m.start() < b.end()]:
        return _spanned(bold[-1])
    clause = main_clause(text, numeric=True)
    inside = [match for match in found if clause[0] <= match.start() < clause[1]]
    if not inside:
        return _spanned(found[0])
    stated = [
        match
        for match in inside
        if (verb := list(_STATES.finditer(text, clause[0], match.start())))
        and match.start() - verb[-1].end() < 24
    ]
    return _spanned((stated or inside)[-1])


def offers_several(text: str) -> bool:
    """Whether a text hedges: two numbers joined by "or", a range, a list, or a "maybe"."""
    found = numbers(text)
    if len({match[0] for match in found}) > 1 and _UNSURE.search(text):
        return True
    if any(_OPEN_ENDED.match(text, match.end()) for match in found):
        return True
    return any(
        _HEDGE.fullmatch(text, one.end(), other.start())
        for one, other in pairwise(found)
        if one[0] != other[0]
    )


def main_clause(text: str, numeric: bool = False) -> tuple[int, int]:
    """(start, end) of the clause that states something, without "because …" and "than …".

    With `numeric` it must hold a number, so a first clause without one does not end it.
    """
    start = 0
    opening = re.match(
        r"\s*(?:after|if|since|because|as|when|given|based|with|in)\b[^,]*,", text, re.IGNORECASE
    )
    if opening:
        start = opening.end()
    cut = _SUBORDINATE.search(text, start + 1)
    while numeric and cut and not numbers(text[start : cut.start()]):
        cut = _SUBORDINATE.search(text, cut.end())
    return start, cut.start() if cut else len(text)


def _spanned(match: re.Match[str]) -> tuple[str, int, int]:
    return match[0].strip(), match.start(), match.end()
