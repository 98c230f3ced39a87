"""Patterns of option letters in running text, for the letters that a question has.

"I" and "A" are words as well: without brackets, an option noun or the end of a sentence beside
them they are no letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

NOUN = r"(?:option|choice|answer|statement|figure|image|picture|diagram|graph|选项)"
_NOT_A_WORD = r"(?![A-Za-z'’])"
_ENDS = r"(?=\s*[)\]]?\s*(?:[.,;:!。，；]|\n|$))"
_RIGHT = r"(?:correct|right|best|true|answer|most\s+likely)"


@dataclass(frozen=True, slots=True)
class LetterPatterns:
    """What names one of a question's letters.

    opening  at the start of a commitment or a response; its groups: wrapped, bare, subject, small,
             spaced
    another  a second letter joined to one: " or C", "/C", "(or C)"; group letter
    stated   statements such as "option C is right"; one group of many
    wrapped  a letter in brackets
    listed   a letter that starts an item: "B) …"
    closing  a letter that is the whole last sentence or line
    """

    opening: re.Pattern[str]
    another: re.Pattern[str]
    stated: re.Pattern[str]
    wrapped: re.Pattern[str]
    listed: re.Pattern[str]
    closing: re.Pattern[str]


@cache
def letter_patterns(letters: str) -> LetterPatterns:
    """The patterns for the letters of a question, such as "ABCD"."""
    one, small = f"[{letters}]", f"[{letters.lower()}]"
    either = f"[{letters}{letters.lower()}]"
    no_article = "[" + "".join(letter for letter in letters if letter not in "AI") + "]"
    subject = (
        "[" + letters.replace("I", "") + r"](?=\s(?:is|was|are|will|would|has|because|since)\s)"
    )
    if "I" in letters:
        subject += r"|I(?=\sis\s)"
    opening = rf"""
        (?:the\s+)? (?:{NOUN}s?\s*(?:letter\s*)?[:\s]?\s*)? (?:选)?
        (?: [(\[]\s*(?P<wrapped>{either})\s*[)\]]
          | (?P<bare>{one})(?=\s*(?:[).:,;、|。，\]/]|-+\s|–\s|—|$|\())
          | (?P<subject>{subject})
          | (?P<small>{small})(?=\s*(?:[).]\s|$|\n))
          | (?P<spaced>{no_article})(?=\s) )
        """
    another = rf"""
        [\s).\]:?\-–—]{{0,20}}[(\[]?\s{{0,20}}
        (?: ,\s*(?:or|and)\b | ,|/|&|\+|;|、|或者?|和|与|及
          | \b(?:or|and|vs\.?|as\ well\ as)\b | \b(?:maybe|perhaps|possibly)\b )
        (?:\s*(?:also|even|else|maybe|perhaps|possibly|probably|alternatively|(?:it\ )?could\ be
          |可能是?)\b)*
        \s*{NOUN}?\s*[(\[]?\s*(?P<letter>{one}){_NOT_A_WORD}
        """
    return LetterPatterns(
        re.compile(opening, re.VERBOSE | re.IGNORECASE),
        re.compile(another, re.VERBOSE),
        re.compile("|".join(_statements(one, no_article))),
        re.compile(rf"[(\[]\s*({one})\s*[)\]]"),
        re.compile(rf"(?:^|\n|\s)[*(\[]{{0,9}}({one})[)\].:]\**\s*\S"),
        re.compile(
            rf"(?:^|\n|(?<=[.!?。！？:：])[ \t]|(?<=[.!?。！？]))[\s*_$(\[#>]{{0,20}}"
            rf"({one})[)\]*_$\s]{{0,20}}[.。]?[)\]*_$\s]{{0,20}}\Z"
        ),
    )


def _statements(one: str, no_article: str) -> tuple[str, ...]:
    letter = rf"{NOUN}?\s*[(\[]?({one}){_NOT_A_WORD}[)\]]?"
    return (
        rf"{NOUN}s?\s*\(?({one})\)?{_NOT_A_WORD}"
        rf"(?=[^.\n]{{0,60}}?(?:\b(?:is|are|{_RIGHT})\b|正确|符合))",
        rf"[(\[]({one})[)\]](?=[^.\n]{{0,80}}?\bis\s+(?:the\s+)?{_RIGHT})",
        r"\b(?:correspond|match|lead|point|belong|refer|equal|agree)\w*\s+(?:to|with)\s+(?:the\s+)?"
        + letter,
        r"\b(?:choose|select|pick|choosing|go\s+(?:with|for)|opt\s+for|answer)\s+(?:is\s+)?"
        + letter,
        rf"\b(?:is|are|be|was|therefore|thus|hence|so|=)[,:]?\s*{NOUN}?\s*[(\[]({one})[)\]]",
        rf"\b(?:letter|choice|pick|guess|selection)\s+(?:is|would\s+be)\s*:?\s*"
        rf"[(\[]?({one}){_NOT_A_WORD}",
        rf"(?:{NOUN}|letter)[^.\n]{{0,40}}\bis\s+({one})(?=\s*(?:\.|\n|$))",
        rf"\b(?:[Ss]o|[Tt]hus|[Hh]ence|[Tt]herefore),?\s+({one})(?=\s*(?:\.\s*|\n|$))",
        rf"\b(?i:it|this|that)(?:['’]s|\s+is|\s+must\s+be|\s+has\s+to\s+be)\s+(?:the\s+)?{NOUN}?\s*"
        rf"[(\[]?({one}){_ENDS}",
        rf"\b(?:leaves?|leaving|left\s+with)\s+(?:us\s+)?(?:with\s+)?(?:only\s+|just\s+)?(?:the\s+)?"
        rf"{NOUN}?\s*[(\[]?({one}){_ENDS}",
        rf"\b[Oo]nly\s+{NOUN}?\s*[(\[]?({one})[)\]]?\s+(?!and\b|or\b)[a-z]+",
        rf"\bbut\s+(?:rather\s+)?(?:it\s+is\s+|it['’]s\s+)?{NOUN}?\s*[(\[]?({one}){_ENDS}",
        rf"\b(?:say|guess|think|believe)\s+(?:that\s+)?(?:it\s+is\s+|it['’]s\s+)?{NOUN}?\s*"
        rf"[(\[]?({one}){_ENDS}",
        rf"(?:→|⇒|=>|->|\\(?:right|Right)arrow)\s*[(\[]?({one}){_ENDS}",
        rf"(?<![A-Za-z'’])({one})[)\]]?\s+(?:is|must\s+be|has\s+to\s+be)\s+(?:\w+ly\s+)?(?:the\s+)?"
        rf"(?:only\s+)?{_RIGHT}\b",
        rf"(?<![A-Za-z'’])({no_article})[)\]]?\s+(?:it\s+is\b(?!\s+not)|(?:fits|remains|works)\b)",
        rf"选择?\s*(?:项\s*)?[(\[]?({one})(?![A-Za-z])",
        rf"(?:只有|剩下)\s*(?:选项)?\s*[(\[]?({one})(?![A-Za-z])",
        rf"({one})\s*(?:选项|项)?[)\]]?\s*是?(?:正确|符合)",
    )
