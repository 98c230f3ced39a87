"""Whether a response has the trained form: thinking, then an answer."""

from __future__ import annotations

from .grading.reading.extraction import NoAnswer, answer_region


def has_format(response: str) -> bool:
    """One `◁think▷…◁/think▷` with something in it, and something after it.

    An empty thinking section, or one of spaces, has no format: a policy would learn to skip it.
    """
    try:
        start, end = answer_region(response)
    except NoAnswer:
        return False
    return end > start
