"""Yes or no in running text: "Therefore, no: …", "the statement is not false", 该说法错误."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .commitments import Commitment
from .extraction import NoAnswer
from .free_form import commitments, concluding_sentences, is_cut_off, sentences
from .normalization import narrow

_POLES = {
    True: "yes true correct right valid 正确 对 是 是的 对的 真 成立 没错 真命题",
    False: "no false incorrect wrong invalid 错误 错 否 不是 不对 不正确 假 不成立 错的 假命题",
}
_POLE = {word: pole for pole, said in _POLES.items() for word in said.split()}
# Of an option these only count beside their opposite: "right" may be a side, 是 a verb.
_OPPOSITES = (("yes", "no"), ("true", "false"), ("correct", "incorrect"), ("right", "wrong"))
_CHINESE_OPPOSITES = (("正确", "错误"), ("对", "错"), ("是", "否"), ("是", "不是"), ("真", "假"))
_ENGLISH = r"yes|no|true|false|correct|incorrect|right|wrong|valid|invalid"
_CHINESE = "|".join(sorted((w for w in _POLE if not w.isascii()), key=len, reverse=True))
_DRESS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|boxed)\b|[{}$*_`\"“”‘]")
_OPENING = re.compile(
    rf"""
    \W*(?:(?:so|thus|therefore|hence|in\ conclusion|overall|finally|and|then|well|it\ is
        |(?:the\ )?answer\ is|因此|所以|故|综上(?:所述)?|答案?)[\s,:;]*)*
    (?: (?P<not>not\s+(?:a\s+)?)?(?P<word>{_ENGLISH})
        (?=\s*(?:[^\s\w/]|$)|\s+(?:because|since|as|it|the|this|that|these|those|they|there|he|she|we
           |you|if|in|to|by|for)\b)
      | (?P<chinese>{_CHINESE})(?=的?\s*(?:[^\w]|$))
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SUBJECT = (
    r"(?:statement|claim|assertion|proposition|hypothesis|conclusion|sentence|answer|conjecture"
    r"|assumption|description|it|this|that|which)(?:\s+(?:above|given|\d+))?"
)
_STATED = re.compile(
    rf"""
    \b{_SUBJECT}\s*
    (?:(?:\b(?:is|was|are|would\s+be|must\s+be|has\s+to\s+be|can(?=not|'t))|'s)\s*|[:=]\s*)
    (?P<between>(?:n?'t|not\b|\s|\b(?:also|be|therefore|thus|indeed|clearly|actually|definitely
       |certainly|always|hence|then|in\s+fact|a|an)\b|,)*)
    (?P<word>{_ENGLISH})\b(?!\s*(?:angle|side|triangle|hand|or\b|/))
    | \b(?P<case>(?:is\s+|isn['’]t\s+)(?:not\s+)?the\s+case)\b
    | (?:说法|命题|结论|判断|陈述|表述|答案|题)\s*(?:是|为|应为|应该是)?\s*
      (?P<chinese>{_CHINESE})(?:的)?(?=\W|$)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TRAILING = re.compile(
    r"(?:[,.:;]|\b(?:so|thus|hence|therefore),?)\s+(yes|no|true|false)\W*$", re.I
)
_BOTH = re.compile(
    r"\b(?:yes|true|correct|right)\W{0,3}\s*(?:or|and|/|,)?\s*(?:maybe|perhaps)?\s*"
    r"(?:no|not|false|incorrect|wrong)\b(?!\s+(?:because|doubt|matter))"
    r"|\b(?:no|false|incorrect|wrong)\W{0,3}\s*(?:or|and|/)\s*(?:maybe|perhaps)?\s*"
    r"(?:yes|true|correct|right)\b"
    r"|\b(?:yes|true)\b\W+(?:actually|wait|or\s+rather)\W+(?:no|not)\b"
    r"|(?:是|对|正确)\s*(?:或者?|还是|/|和|、)\s*(?:否|错|不)",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:maybe|perhaps|depends|either|unclear|not\s+sure|unable|cannot|can['’]t|impossible"
    r"|not\s+(?:enough|possible|clear|provide|valid)|doesn['’]t\s+provide|incomplete|insufficient"
    r"|missing|sorry|no\s+information)\b|无法|不确定",
    re.IGNORECASE,
)
_YES = re.compile(r"\b(?:yes|true)\b", re.IGNORECASE)
_NO = re.compile(r"\b(?:no|false)\b", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:not|never|cannot|no)\b|n['’]t\b|不|没有|没|并非", re.IGNORECASE)
_DOES = re.compile(
    r"\b(?:is|are|was|were|has|have|had|does|do|did|can|could|will|would|\w+s)\b", re.IGNORECASE
)
# A plain sentence: no code, no formula, no label, nobody's opinion.
_PROSE = re.compile(r"(?!I\b|We\b|You\b)[A-Z一-鿿][\w\s,'’%°./-]*[.!]?")
_WORD = re.compile(r"[一-鿿]|[^\W_]+(?:['’][a-z]+)?")
_ASIDES = re.compile(
    r",?\s*\b(?:because|since|(?<=,\s)as|as there|due to|(?<=,\s)which|(?<=,\s)but)\b",
    re.IGNORECASE,
)
_PREFACE = re.compile(
    r"\s*(?:based on|according to|from|in|looking at|as shown in)\b[^,]{0,60},", re.IGNORECASE
)
_EMPTY_WORDS = frozenset(
    _WORD.findall(
        "a an the is are was were be been do does did has have had this that there it its of in on"
        " at to and image picture figure photo shown any 吗 的 了 是 否 呢"
    )
)
MAX_PROPOSITION_CHARACTERS = 200


def polar_letters(options: Sequence[str]) -> list[bool | None]:
    """For each option whether it is "yes" or "no" (by any of their names), else None.

    All None unless both are options: "right" alone is a side.
    """
    texts = [option.strip().strip(".。").casefold() for option in options]
    for pair in _OPPOSITES + _CHINESE_OPPOSITES:
        if set(pair) <= set(texts):
            return [_POLE[text] if text in pair else None for text in texts]
    return [None] * len(texts)


def polarity(text: str) -> bool | None:
    """What one sentence or phrase says; None if it says neither, or both ("yes or no")."""
    text = _DRESS.sub("", narrow(text)).replace("’", "'")
    if text.rstrip().endswith("?"):
        return None
    if _BOTH.search(text) or (_UNSURE.search(text) and _YES.search(text) and _NO.search(text)):
        return None
    opening = _OPENING.match(text)
    if opening and opening["chinese"]:
        return _POLE[opening["chinese"]]
    if opening:
        return _POLE[opening["word"].casefold()] != bool(opening["not"])
    stated = list(_STATED.finditer(text))
    if stated:
        return _of_statement(stated[-1])
    trailing = _TRAILING.search(text)
    return _POLE[trailing[1].casefold()] if trailing else None


def _of_statement(match: re.Match[str]) -> bool:
    if match["chinese"]:
        return _POLE[match["chinese"]]
    if match["case"]:
        return not _NEGATED.search(match["case"])
    negations = len(re.findall(r"n?'t|not", match["between"]))
    return _POLE[match["word"].casefold()] != bool(negations % 2)


def truth_in(text: str, question: str = "") -> tuple[Commitment, bool]:
    """Where a response says yes or no, and which; the last commitment, else a conclusion.

    A sentence that restates the question's proposition, or denies it, says yes or no as well.
    Raises `NoAnswer` if nothing does.
    """
    text = narrow(text)
    for commitment in reversed(commitments(text)):
        if (said := polarity(commitment.text)) is not None:
            return commitment, said
        if commitment.kind != "phrase":
            raise NoAnswer("the committed answer is neither yes nor no")
    if is_cut_off(text):
        raise NoAnswer("cut off")
    for offset, sentence in concluding_sentences(text):
        if (said := polarity(sentence)) is not None:
            return Commitment(sentence, offset, offset + len(sentence), "phrase"), said
    if (restated := proposition(text, question)) is not None:
        return restated
    raise NoAnswer("no committed answer")


def proposition(text: str, question: str) -> tuple[Commitment, bool] | None:
    """The conclusion that restates a yes/no question as a sentence, and what that answers.

    Where the question is not known, only a short response of plain sentences counts: it says no if
    the one that concludes denies something, else yes. None if there is no such sentence.
    """
    found = sentences(text)
    if not found:
        return None
    if _UNSURE.search(text):
        return None
    candidates = concluding_sentences(text)
    for offset, sentence in candidates if question else candidates[:1]:
        said = _restates(sentence, question) if question else _asserts(sentence, text.strip())
        if said is not None:
            return Commitment(sentence, offset, offset + len(sentence), "phrase"), said
    return None


def _asserts(sentence: str, text: str) -> bool | None:
    if len(text) > MAX_PROPOSITION_CHARACTERS or not _PROSE.fullmatch(text) or commitments(text):
        return None
    clause = _clause(sentence)
    if len(_WORD.findall(clause)) < 4 or not _DOES.search(clause):
        return None
    return not _NEGATED.search(clause)


def _restates(sentence: str, question: str) -> bool | None:
    asked = re.findall(r"[^.?!。？！\n]*[?？]", narrow(question)) or [question]
    wanted = [word for word in _stems(asked[-1]) if word not in ("not", "no")]
    clause = _clause(sentence)
    said = iter(_stems(clause))
    if not wanted or not all(word in said for word in wanted):
        return None
    return _NEGATED.search(clause) is None


def _clause(sentence: str) -> str:
    """The sentence without "based on the image, …" and "…, because"."""
    sentence = _PREFACE.sub("", sentence, count=1)
    return _ASIDES.split(sentence, maxsplit=1)[0]


def _stems(text: str) -> list[str]:
    words = [word.casefold() for word in _WORD.findall(re.sub(r"<image ?\d+>", " ", text))]
    words = [word for word in words if word not in _EMPTY_WORDS]
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]
