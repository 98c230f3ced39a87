"""How much of a response repeats itself."""

from __future__ import annotations

import re

_UNIT = re.compile(r"[一-鿿]|[^\W_]+|[^\w\s]")


def repeated_share(text: str, ngram: int) -> float:
    """The share of the text's n-grams that occurred before, in [0, 1).

    A unit is a word, a Chinese character or a sign. Example: "a b a b a b" with bigrams has 5 of
    which 2 are new, so 0.6. Texts shorter than one n-gram repeat nothing.
    """
    units = _UNIT.findall(text.casefold())
    total = len(units) - ngram + 1
    if total < 1:
        return 0.0
    # Hashes of the windows: the tuples of a long response would take n times its memory.
    distinct = {hash(tuple(units[start : start + ngram])) for start in range(total)}
    return 1.0 - len(distinct) / total
