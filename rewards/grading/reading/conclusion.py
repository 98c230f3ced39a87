"""The part of a concluding sentence that states its result, without the givens it repeats."""

from __future__ import annotations

import re

from .values import numbers, offers_several, stated_number

_GIVENS = re.compile(
    r"\s*(?:(?:so|therefore|thus|hence|in conclusion|finally)\s*,?\s+)?"
    r"(?:after|if|since|because|as|when|given|based|with|in|for|from|by|using|starting|having)\b"
    r"(?:[^,]|,(?=\d))*(?:,\s+(?=[a-z\d$])|,\s+(?=the\b))",
    re.IGNORECASE,
)
_THEN = re.compile(
    r"[,;]\s*(?:so|therefore|thus|hence|which\s+(?:means|gives|makes|leaves)|giving|leaving|making)\b"
    r"|(?<=\s)(?:so|therefore|thus|hence)\s|所以|因此|故",
    re.IGNORECASE,
)
_RESULT = re.compile(
    r"\b(?:is|are|was|were|equals?|has|have|measures?|becomes?|totals?|costs?|comes\s+to|amounts\s+to"
    r"|adds?\s+up\s+to|leaves|makes|gives)\b|(?:等于|是|为|有|得|共)",
    re.IGNORECASE,
)


def result_part(sentence: str) -> tuple[int, str] | None:
    """(offset, text) of the part of a sentence that states one number; None if none does.

    The whole sentence where it joins no numbers; otherwise ("with sides of 12 and 14, the perimeter
    is 52") what follows the givens, then what follows "so", then what follows the last verb.
    """
    if _states_one(sentence):
        return 0, sentence
    for start in _starts(sentence):
        part = sentence[start:]
        if numbers(part) and _states_one(part):
            return start, part
    return None


def _starts(sentence: str) -> list[int]:
    starts = [match.end() for match in [_GIVENS.match(sentence)] if match]
    starts += [match.end() for match in list(_THEN.finditer(sentence))[-1:]]
    found = numbers(sentence)
    last = found[-1].start() if found else 0
    starts += [match.end() for match in list(_RESULT.finditer(sentence, 0, last))[-1:]]
    return starts


def _states_one(text: str) -> bool:
    return stated_number(text, short=False) is not None and not offers_several(
        text.rpartition("=")[2] or text
    )
