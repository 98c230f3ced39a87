"""The part of a concluding sentence that states its result, without the givens it repeats."""

from __future__ import annotations

import re

from .values import numbers, offers_several, stated_number

_GIVENS = re.compile(
    r"\s*(?:(?:so|therefore|thus|hence|in conclusion|finally)\s*,?\s+)?"
    r"(?:after|if|since|because|as|when|given|based|with|in|for|from|by|using|starting|having)\b"
    r"(?:[^,]|,(?=\d))*,\s+(?=[a-z\d$])"
    r"|\s*(?:(?:所以|因此|故),?)?(?:当|若|如果|已知|设|由于|因为).*?(?:时|,|，)[,，]?(?=[^,，]*$)",
    re.IGNORECASE,
)
_THEN = re.compile(
    r"[,;]\s*(?:so|therefore|thus|hence|which\s+(?:means|gives|makes|leaves)|giving|leaving|making)\b"
    r"|(?<=\s)(?:so|therefore|thus|hence)\s|所以|因此|故",
    re.IGNORECASE,
)
_RESULT = re.compile(
    r"\b(?:is|are|was|were|equals?|has|have|measures?|becomes?|totals?|costs?|comes\s+to|amounts\s+to"
    r"|adds?\s+up\s+to|leaves?|makes?|gives?|gets?|contains?|holds?|covers?|weighs?|needs?|takes?)\b"
    r"|等于|是|为|有|得|共",
    re.IGNORECASE,
)
_REASON = re.compile(
    r",?\s*\b(?:because|since|(?<=,\s)as|as\s+there|which|if|when|where|while|given|due\s+to|than"
    r"|compared|if|unless)\b",
    re.IGNORECASE,
)
# "12 of the 30 students": the whole is no result.
_WHOLE = re.compile(
    r"(?<=\d)(%?\s+(?:out\s+)?of\s+(?:the|his|her|its|their|our|my|all|these|those)\s+)\d[\d,]*"
)


def result_part(sentence: str) -> tuple[int, str] | None:
    """(offset, text) of the part of a sentence that states one number; None if none does.

    "With sides of 12 and 14, the perimeter is 52": what follows the givens, what follows "so", what
    follows the last verb where only one number does, or else the whole sentence.
    """
    sentence = _WHOLE.sub(lambda match: match[1] + " " * (len(match[0]) - len(match[1])), sentence)
    if len({match[0] for match in numbers(sentence)}) > 1:
        for start, end in _parts(sentence):
            if _states_one(part := sentence[start:end]):
                return start, part
    return (0, sentence) if _states_one(sentence) else None


def last_clause(sentence: str) -> str:
    """What follows the last "so" of a sentence; the sentence if there is none."""
    found = list(_THEN.finditer(sentence))
    return sentence[found[-1].end() :] if found else sentence


def _parts(sentence: str) -> list[tuple[int, int]]:
    """Where the result may stand, most trusted first."""
    reason = _REASON.search(sentence, 1)
    end = reason.start() if reason else len(sentence)
    parts = [(match.end(), len(sentence)) for match in [_GIVENS.match(sentence)] if match]
    parts += [(match.end(), len(sentence)) for match in list(_THEN.finditer(sentence))[-1:]]
    found = numbers(sentence[:end])
    if found and "=" not in sentence:  # a value after the last "=" is the result anyway
        verbs = list(_RESULT.finditer(sentence, 0, found[-1].start()))
        following = [m for m in found if verbs and m.start() >= verbs[-1].end()]
        if len(following) == 1:
            parts.append((verbs[-1].end(), end))
    return parts


def _states_one(text: str) -> bool:
    return stated_number(text, short=False) is not None and not offers_several(
        text.rpartition("=")[2] or text
    )
