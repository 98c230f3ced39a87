r"""Does a prediction say more than one thing?

math-verify takes the convenient part of `1=2=3=4=5`, "5 or 6" and `5 \pm 0`. So before it is asked,
a prediction may hold relations, alternatives, lists and words only as far as the gold answer does.
"""

from __future__ import annotations

import re

_RELATION = re.compile(
    r"=|<|>|:|\\(?:le|ge|lt|gt|ne|neq|approx|equiv|sim|simeq|cong|to|rightarrow|Rightarrow|implies"
    r"|iff|in|mid|parallel)(?![A-Za-z])"
)
_ALTERNATIVE = re.compile(
    r"\\(?:pm|mp|lor|vee|land|wedge|cup)(?![A-Za-z])|\+-|-\+|;|\||%|[?、或和与]"
    r"|(?<![A-Za-z\\])(?:or|and|vs|versus)(?![A-Za-z])"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))")
_ADJACENT_NUMBERS = re.compile(r"\d \d")
# A variable, a function f(x), a segment AB or an angle ∠ABC before its value.
_ASSIGNMENT = re.compile(
    r"^(?:(?:\\angle|∠) ?(?:[A-Z]{1,3}|\d)|[A-Z]{2,3}"
    r"|[A-Za-z]'{0,2}(?:\([a-z](?:,[a-z])*\))?|\\[a-z]+)"
    r"(?:_(?:\w|\{\w+\}))?(?:=|\\in(?![A-Za-z]))"
)
_LEFT_SIDE = re.compile(r"^[^=<>]{0,60}(?:=|\\approx)(?=[^=<>]+$)")
_BETWEEN = re.compile(r"[^<>=]+(?:<|\\le)\s?[A-Za-z]\s?(?:<|\\le)(?![A-Za-z])[^<>=]+")
_SHORT_WORDS = frozenset(
    ["an", "as", "at", "be", "by", "he", "if", "in", "is", "it", "no", "of", "on", "or", "so", "to"]
)
_CHINESE = re.compile(r"[一-鿿]")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]+\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]+")


def without_assignment(prediction: str, gold: str, lenient: bool = False) -> str:
    """`x=5` -> `5` when the gold answer is a bare value; `lenient` takes any one left-hand side."""
    if _RELATION.search(gold):
        return prediction
    prediction = _ASSIGNMENT.sub("", prediction)
    return _LEFT_SIDE.sub("", prediction) if lenient else prediction


def is_value(text: str) -> bool:
    """Whether normalised text reads as mathematics alone, without a word of any language."""
    runs = _WORD.findall(_COMMAND.sub(" ", text))
    return not any(
        len(run) > 2 or run.casefold() in _SHORT_WORDS or _CHINESE.search(run) for run in runs
    )


def says_more(prediction: str, gold: str) -> str | None:
    """What the prediction has and the gold answer lacks, in normalised text; None if nothing."""
    if _relations(prediction) > _relations(gold):
        return "a relation or a chain of equations"
    if len(_ALTERNATIVE.findall(prediction)) > len(_ALTERNATIVE.findall(gold)):
        return "alternatives"
    if _lists_more(prediction, gold):
        return "a list"
    if not _names(prediction) <= _names(gold):
        return "letters or words"
    return None


def _relations(text: str) -> int:
    """How many relations a text states; a double inequality such as 1<x<2 is one."""
    return 1 if _BETWEEN.fullmatch(text) else len(_RELATION.findall(text))


def _lists_more(prediction: str, gold: str) -> bool:
    if _ADJACENT_NUMBERS.search(prediction) and not _ADJACENT_NUMBERS.search(gold):
        return True
    outside, inside = commas(prediction)
    gold_outside, gold_inside = commas(gold)
    if outside > gold_outside:
        return True
    # An interval may stand for the gold's inequality: (1,2) for 1<x<2.
    return inside > 0 and not (gold_inside or gold_outside or _RELATION.search(gold))


def commas(text: str) -> tuple[int, int]:
    """How many commas separate items, outside and inside brackets."""
    depth = outside = inside = 0
    thousands = {match.start() for match in _THOUSANDS.finditer(text)}
    for position, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth > 0:
            inside += 1
        elif character == "," and position not in thousands:
            outside += 1
    return outside, inside


def _names(text: str) -> set[str]:
    """Words and variables, in lower case because math-verify does not tell a from A.

    Two letters are two variables (ab); more are a word, unless all of them are variables of a
    product such as abc, which the gold then holds as well.
    """
    names = set()
    for run in _WORD.findall(_COMMAND.sub(" ", text).casefold()):
        names |= set(run) if len(run) <= 2 else {run}
    return names
