"""A part of the hostile corpus on every run; benchmarks/grading.py takes all of it."""

import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.testing.hostile_corpus import hostile_answers
from kvl.rewards.types import GradeRequest, Outcome, Strictness

EVERY = 7
SANE = GradeRequest("◁think▷x◁/think▷\\boxed{\\sqrt{12}}", "2\\sqrt{3}", AnswerType.EXPRESSION)


def test_the_corpus_is_large_and_varied():
    attacks = hostile_answers()
    assert len(attacks) >= 1000
    assert len({attack.family for attack in attacks}) >= 10
    assert max(len(attack.request.response) for attack in attacks) >= 1_000_000


@pytest.mark.parametrize("policy", list(Strictness))
def test_no_attack_is_correct_runs_code_or_ends_the_pool(policy, tmp_path):
    marker = tmp_path / "executed"
    attacks = [a for a in hostile_answers(str(marker)) if policy in a.policies][::EVERY]
    with Grader(workers=2, timeout_seconds=30, policy=policy) as grader:
        verdicts = grader.grade([attack.request for attack in attacks])
        (after,) = grader.grade([SANE])
    for attack, verdict in zip(attacks, verdicts, strict=True):
        shown = (attack.family, attack.request.answer, attack.request.response[-80:])
        assert verdict.outcome in (Outcome.INCORRECT, Outcome.NO_ANSWER), shown
    assert after.outcome is Outcome.CORRECT
    assert not marker.exists()
