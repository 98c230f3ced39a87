"""Whether a committed phrase or sentence says the words of a gold answer (`eval` policy).

MMMU's rule for open text, the gold words stand together in a short phrase, without what a reader
would not take for that answer: a denial, another answer beside it, an item of an enumeration.
"""

from __future__ import annotations

import re

from .denials import is_taken_back
from .normalization import narrow, words

MAX_FURTHER_WORDS = 20
MAX_FURTHER_CHARACTERS = 40  # of text that is written without spaces
_CHINESE = re.compile(r"[一-鿿]")
_FONT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|boxed)\s*\{([^{}]*)\}")
_DRESS = re.compile(r"\\ |[$`~]|\*\*")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})
_CHINESE_BEFORE = r"(?:^|(?<=[是为叫即称选在于有:,.;。\"'(\s]))"
_CHINESE_AFTER = r"(?=$|[。,.;!\"')\s]|因为|所以|的$)"
_WORD_BEFORE, _WORD_AFTER = r"(?:^|(?<=\s))[\"'(*]*", r"(?=[.,;:!?\"')*]*(?:\s|$))"
_ITEM = r"(?:(?:an?|the)\s+)?[\w'-]+(?:\s[\w'-]+)?"
_OTHER_AFTER = re.compile(
    rf"[\"')*]*\s*(?:,?\s*\bor\b|/|或)\s*\w"
    rf"|[\"')*]*\s+and\s+(?!(?:it|he|she|they|we|is|was|has|so|then|not)\b){_ITEM}\W*(?:$|[.;])"
    rf"|[\"')*]*(?:,\s*{_ITEM}){{2,}}\W*$|[\"')*]*(?:,\s*{_ITEM})+,?\s+(?:and|or)\s"
    r"|、\w|和\w"
)
_OTHER_BEFORE = re.compile(
    rf"\w[\"')*]*\s*(?:,?\s*\bor\b|/|或)\s*(?:(?:an?|the)\s+)?[\"'(*]*$"
    rf"|(?:^|[.:;,]|\b(?:is|are|was|were|both)\b)\s*{_ITEM}\s+and\s+(?:(?:an?|the)\s+)?[\"'(*]*$"
    rf"|(?:{_ITEM},\s*){{2,}}(?:and\s+|or\s+)?[\"'(*]*$|\w[\"']?\s*[、和]$"
)


def says(text: str, gold: str) -> bool:
    """Whether `text` commits to the words `gold`: equal, or inside a short phrase."""
    if words(text).translate(_QUOTES) == words(gold).translate(_QUOTES):
        return True
    text, wanted = _running(text), _running(gold).strip("\"'. ")
    if not wanted or _is_long(text, wanted):
        return False
    before, after = _WORD_BEFORE, _WORD_AFTER
    if _CHINESE.match(wanted):
        before, after = _CHINESE_BEFORE, _CHINESE_AFTER
    body = r"\s+".join(map(re.escape, wanted.split()))
    places = [match.span(1) for match in re.finditer(f"{before}({body}){after}", text)]
    return bool(places) and not any(
        is_taken_back(text, start, end)
        or _OTHER_AFTER.match(text, end)
        or _OTHER_BEFORE.search(text[:start])
        for start, end in places
    )


def _running(text: str) -> str:
    """Lower case, without fonts, with straight quotes; spaces stay where they separate words."""
    text = narrow(text)
    while _FONT.search(text):
        text = _FONT.sub(r" \1 ", text)
    return " ".join(_DRESS.sub(" ", text).translate(_QUOTES).casefold().split())


def _is_long(text: str, wanted: str) -> bool:
    if _CHINESE.match(wanted):
        return len(text) > len(wanted) + MAX_FURTHER_CHARACTERS
    return len(text.split()) > len(wanted.split()) + MAX_FURTHER_WORDS
