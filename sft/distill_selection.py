"""Which sampled responses become training rows: pure functions, no model and no files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..evaluation.records import Response
from ..problems.prompt import THINK_CLOSE, THINK_OPEN, target_text
from ..problems.types import Problem
from ..rewards.format import has_format
from ..rewards.grading.reading.extraction import END_OF_TURN
from ..rewards.types import Outcome

# Words, single Chinese characters and signs; spacing is no difference.
_PIECE = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+|[^\w\s]")
# Kimi k1.5 §2.4: a correct response this many times longer is a negative for DPO.
LONGER_RATIO = 1.5


def usable(response: Response) -> bool:
    """Correct, and in exactly the form to be trained on: thinking first, then an answer."""
    return (
        bool(response.accuracy)
        and response.complete
        and response.text.startswith(THINK_OPEN)
        and END_OF_TURN not in response.text
        and has_format(response.text)
    )


def shortest(responses: Sequence[Response]) -> Response | None:
    """The usable response with the fewest tokens, the first sampled of equals."""
    candidates = filter(usable, responses)
    return min(candidates, key=lambda response: (response.tokens, response.sample), default=None)


def diverse(responses: Sequence[Response], most: int) -> list[Response]:
    """Up to `most` usable responses that differ most, by greedy farthest-point selection.

    Starts from the shortest; each next one is the response whose nearest neighbour among those
    taken is farthest away, the first sampled of equals. The distance of two responses is the
    Jaccard distance of their sets of words, so a copy is never taken twice.
    """
    first = shortest(responses)
    if first is None:
        return []
    taken = [first]
    left = sorted((r for r in responses if usable(r) and r != first), key=lambda r: r.sample)
    pieces = {response.sample: frozenset(_PIECE.findall(response.text)) for response in responses}
    nearest = {r.sample: _jaccard_distance(pieces[r.sample], pieces[first.sample]) for r in left}
    while left and len(taken) < most:
        farthest = max(left, key=lambda response: nearest[response.sample])
        if nearest[farthest.sample] == 0:
            break
        taken.append(farthest)
        left.remove(farthest)
        for other in left:
            distance = _jaccard_distance(pieces[other.sample], pieces[farthest.sample])
            nearest[other.sample] = min(nearest[other.sample], distance)
    return taken


def longer_negatives(chosen: Response, responses: Sequence[Response]) -> list[Response]:
    """What DPO should turn away from (Kimi k1.5 §2.4): longer wrong responses, and correct ones
    at least 1.5 times as long.

    Ungraded responses are neither right nor wrong, and ones that were cut would be taught
    with an end that the policy never wrote: both are left out. So are copies.
    """
    negatives: list[Response] = []
    seen = {chosen.text}
    for response in responses:
        wrong = response.outcome in (Outcome.INCORRECT, Outcome.NO_ANSWER)
        longer = (
            response.tokens > chosen.tokens
            if wrong
            else response.accuracy and response.tokens >= LONGER_RATIO * chosen.tokens
        )
        if longer and response.complete and response.text not in seen:
            seen.add(response.text)
            negatives.append(response)
    return negatives


def demonstration(problem: Problem, response: Response) -> Problem:
    """The problem with a usable response as its solution: `target_text` of it is the response.

    `conclusion` is set only where "Answer: <gold>" is not what the policy wrote.
    """
    thinking, _, conclusion = response.text.removeprefix(THINK_OPEN).partition(THINK_CLOSE)
    plain = replace(problem, solution=thinking, conclusion=None)
    if target_text(plain) == response.text:
        return plain
    return replace(plain, conclusion=conclusion)


def _jaccard_distance(one: frozenset[str], other: frozenset[str]) -> float:
    union = len(one | other)
    return 1 - len(one & other) / union if union else 0.0
