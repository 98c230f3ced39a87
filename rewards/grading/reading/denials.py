"""Words beside an answer that take it back or bound it: "7 is wrong", "not B", "at least 7"."""

from __future__ import annotations

import re

_SEEN_CHARACTERS = 60
_JUDGED_WRONG = (
    r"(?:wrong|incorrect|false|untrue|impossible|invalid|mistaken|excluded|out|ruled\s+out)"
)
_JUDGED_RIGHT = (
    r"(?:(?:the|a|an|our|my)\s+)?(?:(?:final|correct|right|best)\s+)?"
    r"(?:correct|right|true|possible|valid|answer|solution|choice|option|it|one)"
)
_NEGATION = r"(?:not|n['’]t|never|cannot|can\s+not)"
# What may stand between a negation and what it denies.
_FILLER = (
    r"(?:[\s*_$\"'“”‘’(\[{\\:]|\b(?:an?|the|be|being|equal|equals|to|option|choice|answer|letter"
    r"|exactly|really|text|mathrm|textbf|boxed)\b|选项|答案|选|为)*"
)
_DENIED_BEFORE = re.compile(
    rf"""
    (?: (?<![A-Za-z])(?:not|never|nor|neither|cannot) | n['’]t
      | \b(?:any|every)(?:thing|one)?\s+(?:but|except|other\s+than) | \ball\s+(?:but|except)
      | \b(?:except(?:\s+for)?|excluding|other\s+than|rather\s+than|instead\s+of|unlike)
      | \b(?:ruled?|ruling)\s+out | \b(?:eliminat|exclud|reject)(?:e|es|ed|ing)
      | (?:并非|不是|不为|不等于|不选|不能是|不能选|不会是|不可能是|不应选|不应是|排除|除了|而非
        |绝非)
    ){_FILLER}\Z
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BOUND_BEFORE = re.compile(
    r"""
    (?: \b(?:at\s+(?:least|most)|up\s+to|(?:no|not)\s+(?:more|less|fewer|greater|larger)\s+than
        |(?:more|less|fewer|greater|larger|bigger|smaller|higher|lower|longer|shorter|older|younger)
          \s+than|exceeds?|exceeding)
      | (?:^|\b(?:is|are|was|were|be|has|have|just|well|slightly|little|costs?|weighs?))\s*
        (?:over|under|above|below|beyond)
      | (?:不少于|不多于|不超过|不大于|不小于|不低于|不高于|至少|至多|最多|最少|超过|大于|小于|多于
        |少于|高于|低于|不到|不足) | \d\s*[一-鿿]?\s*(?:到|至|~)
    )(?:[\s*_$(\[{\\]|\b(?:an?|the|or|equal|to)\b|是|为)*\Z
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CLOSING = r"[\s)\]}*_$\"'”’.,:]*"
_DENIED_AFTER = re.compile(
    rf"""
    {_CLOSING}(?:[A-Za-z°%²³]+\s+){{0,2}}?
    (?: (?:is|are|was|were|be|seems|looks|must\s+be|would\s+be)\s+
        (?:\w+ly\s+|also\s+|just\s+|an?\s+|the\s+)*{_JUDGED_WRONG}\b
      | (?:is|are|was|were|would|could|can|must|does)?\s*{_NEGATION}
        (?:\s+(?:be|\w+ly))*\s+{_JUDGED_RIGHT}\b
    )
    | {_CLOSING}[一-鿿]{{0,2}}?(?:是|都|均|也|为|就)?\s*
      (?:错|不对|不正确|不成立|不可能|不符|不是(?:正确)?(?:的)?(?:答案|选项)|不是对|有误
        |(?:应|可以|要)该?(?:被)?排除|被排除)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BOUND_AFTER = re.compile(
    rf"""
    {_CLOSING}(?:[A-Za-z°%²³]+\s+){{0,2}}?
    (?:or|and)\s+(?:more|less|fewer|greater|larger|smaller|above|below|over|under|higher|lower|up)\b
    | \s?\+(?=[\s.)]|\Z) | \s*[一-鿿]{{0,2}}?(?:以上|以下|以内|或更多|或更少|(?:到|至|~)\s*\d)
    | \s+(?:[A-Za-z]+\s+)?(?:at\s+(?:least|most)|or\s+so)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_taken_back(text: str, start: int, end: int) -> bool:
    """Whether the words beside `text[start:end]` deny it: "not 7", "7 is wrong", 不是7."""
    before = text[max(0, start - _SEEN_CHARACTERS) : start]
    if _DENIED_BEFORE.search(before):
        return True
    return _DENIED_AFTER.match(text, end, end + _SEEN_CHARACTERS) is not None


def is_bound(text: str, start: int, end: int) -> bool:
    """Whether a value is only a bound there: "at least 7", "7 or more", 至少7."""
    before = text[max(0, start - _SEEN_CHARACTERS) : start]
    if _BOUND_BEFORE.search(before):
        return True
    return _BOUND_AFTER.match(text, end, end + _SEEN_CHARACTERS) is not None
