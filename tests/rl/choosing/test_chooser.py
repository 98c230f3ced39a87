"""Which problems come when: passes, mixtures, curricula, priorities and an exact resume."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvl.configs.errors import ConfigError
from kvl.configs.rl import ChoosingConfig
from kvl.problems.types import AnswerType, Problem
from kvl.rl.choosing.chooser import ProblemChooser, source_turns
from kvl.rl.choosing.difficulty import SuccessRates, difficulties, priorities


def problem(name: str, level: int | None = None, pass_rate: float | None = None) -> Problem:
    return Problem(name, "How many?", (), "1", AnswerType.NUMBER, level=level, pass_rate=pass_rate)


def leveled(count: int, levels: int = 4, prefix: str = "p") -> list[Problem]:
    """Sorted by level, as generated files are."""
    return [problem(f"{prefix}{i}", level=1 + i * levels // count) for i in range(count)]


def sampler(problems: Sequence[Problem], seed: int = 0, **settings: Any) -> ProblemChooser:
    return ProblemChooser([problems], seed, ChoosingConfig(**settings))


def ids(problems: Sequence[Problem]) -> list[str]:
    return [one.id for one in problems]


def levels(problems: Sequence[Problem]) -> set[int | None]:
    return {one.level for one in problems}


def test_by_default_an_epoch_is_a_seeded_permutation() -> None:
    """The order that runs had before curricula and priorities existed."""
    problems = leveled(12)
    drawn = sampler(problems, seed=3)
    for epoch in range(3):
        expected = list(problems)
        random.Random(f"3/{epoch}").shuffle(expected)
        assert [one for part in range(3) for one in drawn.next(4, part)] == expected


def test_another_seed_is_another_order() -> None:
    problems = leveled(12)
    assert ids(sampler(problems, 1).next(12, 0)) != ids(sampler(problems, 2).next(12, 0))


@pytest.mark.parametrize("settings", [{}, {"prioritized": True}])
def test_a_batch_never_holds_a_problem_twice(settings: dict[str, Any]) -> None:
    drawn = sampler(leveled(5), **settings)
    for iteration in range(20):
        batch = ids(drawn.next(4, iteration))
        assert len(batch) == len(set(batch)) == 4
        drawn.update({one: (0.0 if one == "p0" else 1.0) for one in batch})


@pytest.mark.parametrize("settings", [{}, {"curriculum": "easy_to_hard"}, {"prioritized": True}])
def test_further_rounds_of_an_iteration_get_other_problems(settings: dict[str, Any]) -> None:
    drawn = sampler(leveled(12), **settings)
    drawn.next(10, 0)
    rounds = [ids(drawn.next(5, 1)) for _ in range(4)]
    assert [len(part) for part in rounds] == [5, 5, 2, 0]
    assert len({name for part in rounds for name in part}) == 12
    assert len(drawn.next(12, 2)) == 12


def test_fewer_problems_than_asked_for_come_all() -> None:
    drawn = sampler(leveled(4))
    drawn.exclude("p2")
    assert sorted(ids(drawn.next(10, 0))) == ["p0", "p1", "p3"]
    assert sorted(ids(drawn.next(10, 1))) == ["p0", "p1", "p3"]


def test_a_difficulty_is_the_failure_rate_else_the_middle_of_the_levels_bin() -> None:
    mixed = [problem("a", level=1), problem("b", level=4), problem("c", 2, 0.9), problem("d")]
    assert difficulties(mixed) == pytest.approx([0.125, 0.875, 0.1, None])
    assert difficulties([problem("a", level=7)]) == [0.5]


def test_easy_to_hard_reaches_further_every_iteration() -> None:
    drawn = sampler(leveled(400), curriculum="easy_to_hard", curriculum_iterations=7)
    seen = [levels(drawn.next(40, iteration)) for iteration in range(8)]
    assert seen[:2] == [{1}, {1}]
    assert max(level or 0 for level in seen[3]) == 2
    assert max(level or 0 for level in seen[5]) == 3
    assert seen[7] == {1, 2, 3, 4}


def test_easy_to_hard_fills_a_batch_with_the_next_easiest() -> None:
    drawn = sampler(leveled(8), curriculum="easy_to_hard", curriculum_iterations=50)
    assert sorted(ids(drawn.next(4, 0))) == ["p0", "p1", "p2", "p3"]
    assert len(drawn.next(8, 1)) == 8


def test_equal_labels_are_reached_in_no_particular_order() -> None:
    same = [problem(f"p{i}", level=1) for i in range(100)]
    drawn = sampler(same, curriculum="easy_to_hard", curriculum_iterations=9)
    assert {int(name[1:]) // 50 for name in ids(drawn.next(10, 0))} == {0, 1}


def test_uniform_then_hard_switches_at_its_iteration() -> None:
    settings = {"curriculum": "uniform_then_hard", "curriculum_iterations": 3}
    drawn = sampler(leveled(80), **settings)
    assert levels(drawn.next(40, 2)) == {1, 2, 3, 4}
    assert levels(drawn.next(40, 3)) == {3, 4}
    assert levels(drawn.next(50, 4)) == {2, 3, 4}  # the hardest of the rest fill up
    strict = sampler(leveled(80), **settings, hard_from=0.8)
    assert levels(strict.next(20, 3)) == {4}


def test_a_pass_rate_counts_more_than_the_level() -> None:
    rated = [problem("easy", 4, 1.0), problem("hard", 1, 0.0)]
    settings = {"curriculum": "uniform_then_hard", "curriculum_iterations": 1}
    assert ids(sampler(rated, **settings).next(1, 1)) == ["hard"]


def test_a_curriculum_without_labels_says_where_to_get_them() -> None:
    with pytest.raises(ConfigError, match=r"easy_to_hard: .* has a pass_rate .*kvl-rl rate"):
        sampler([problem("a"), problem("b")], curriculum="easy_to_hard")
    with pytest.raises(ConfigError, match=r"hard_from 0.9: .*the hardest is 0.875; lower it"):
        sampler(leveled(8), curriculum="uniform_then_hard", hard_from=0.9)


def test_priorities_are_one_minus_success_above_a_uniform_floor() -> None:
    assert priorities([0.5, 0.75, 1.0], [False] * 3, 0.0) == pytest.approx([2 / 3, 1 / 3, 0])
    assert priorities([0.5, 0.75, 1.0], [False] * 3, 0.3) == pytest.approx([17 / 30, 1 / 3, 0.1])
    assert priorities([0.0, 0.5], [True, False], 0.2) == pytest.approx([0.1, 0.9])
    assert priorities([1.0, 1.0], [False] * 2, 0.0) == [0.5, 0.5]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_priorities_are_a_distribution_with_a_floor(
    problems: list[tuple[float, bool]], uniform_share: float
) -> None:
    success, capped = zip(*problems, strict=True)
    found = priorities(success, capped, uniform_share)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= uniform_share / len(found) - 1e-12


def test_draws_are_in_proportion_to_the_priorities() -> None:
    rates = [0.0, 0.5, 0.75, 0.9]
    rated = [problem(f"p{i}", pass_rate=rates[i % 4]) for i in range(400)]
    drawn = sampler(rated, prioritized=True, uniform_share=0.0)
    counts: Counter[float | None] = Counter()
    for iteration in range(500):
        counts.update(one.pass_rate for one in drawn.next(16, iteration))
    for rate in rates:
        assert counts[rate] / 8000 == pytest.approx((1 - rate) / 1.85, rel=0.1)


def test_prioritized_draws_do_not_repeat_within_a_pass() -> None:
    rated = [problem(f"p{i}", pass_rate=(i % 10) / 10) for i in range(100)]
    drawn = sampler(rated, prioritized=True)
    seen: set[str] = set()
    epoch = 0
    for iteration in range(100):
        (one,) = drawn.next(1, iteration)
        if (now := drawn.state_dict()["sources"][0]["epoch"]) != epoch:
            seen, epoch = set(), now
        assert one.id not in seen
        seen.add(one.id)
    assert epoch > 0


def test_success_is_a_moving_average_from_its_prior() -> None:
    rates = SuccessRates({"a": 0.5, "b": 0.25}, rate=0.5, capped_after=2)
    rates.update({"a": 0.75, "elsewhere": 1.0})
    assert (rates.success("a"), rates.success("b")) == (0.625, 0.25)
    assert rates.metrics() == {
        "choosing/success_mean": 0.4375,
        "choosing/seen_share": 0.5,
        "choosing/capped_share": 0.0,
    }


def test_a_problem_is_capped_while_it_is_never_right() -> None:
    rates = SuccessRates({"a": 0.5}, rate=0.5, capped_after=2)
    capped = []
    for accuracy in (0.0, 0.0, 0.125, 0.0, 0.0):
        rates.update({"a": accuracy})
        capped.append(rates.capped("a"))
    assert capped == [False, True, False, False, True]


def test_the_label_is_the_first_estimate_and_an_unlabelled_problem_is_middling() -> None:
    drawn = sampler([problem("a", 1, 0.75), problem("b", 1), problem("c", 4), problem("d")])
    assert [drawn.success(name) for name in "abcd"] == pytest.approx([0.75, 0.875, 0.125, 0.5])


def test_a_problem_that_always_fails_is_drawn_less_than_before() -> None:
    rated = [problem(f"p{i}", pass_rate=0.5) for i in range(20)]
    drawn = sampler(rated, prioritized=True, uniform_share=0.1, capped_after=3)
    counts: Counter[str] = Counter()
    for iteration in range(300):
        batch = ids(drawn.next(4, iteration))
        drawn.update({one: 0.0 if one == "p0" else 0.5 for one in batch})
        counts.update(batch)
    others = (1200 - counts["p0"]) / 19
    assert counts["p0"] < 0.35 * others


def test_turns_follow_the_weights() -> None:
    assert source_turns([3, 1], [0, 0], [9, 9], 8) == [0, 0, 0, 1, 0, 0, 0, 1]
    assert source_turns([3, 1], [3, 0], [9, 9], 1) == [1]
    assert source_turns([1, 1], [0, 0], [1, 9], 4) == [0, 1, 1, 1]
    assert source_turns([1, 1], [0, 0], [1, 1], 4) == [0, 1]


def test_sources_are_mixed_by_weight_and_each_has_its_own_epochs() -> None:
    small, large = leveled(10, prefix="s"), leveled(90, prefix="l")
    drawn = ProblemChooser([small, large], 0, weights=[1, 3])
    batches = [ids(drawn.next(20, iteration)) for iteration in range(6)]
    assert [sum(name[0] == "s" for name in batch) for batch in batches] == [5] * 6
    assert len({name for batch in batches for name in batch if name[0] == "l"}) == 90
    for epoch in range(3):
        pair = batches[2 * epoch] + batches[2 * epoch + 1]
        assert len({name for name in pair if name[0] == "s"}) == 10


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"curriculum": "easy_to_hard", "curriculum_iterations": 9},
        {"curriculum": "uniform_then_hard", "curriculum_iterations": 5, "prioritized": True},
    ],
)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_resumed_sampler_goes_on_as_if_it_had_never_stopped(
    settings: dict[str, Any], stop: int
) -> None:
    def fresh() -> ProblemChooser:
        sources = [leveled(15, prefix="a"), leveled(40, prefix="b")]
        return ProblemChooser(sources, 7, ChoosingConfig(**settings), [2, 1])

    def step(drawn: ProblemChooser, iteration: int) -> list[str]:
        batch = ids(drawn.next(9, iteration))
        drawn.update({one: (ord(one[0]) + int(one[1:])) % 3 / 2 for one in batch})
        if iteration == 2:
            drawn.exclude("a3")
        return batch

    whole = fresh()
    expected = [step(whole, iteration) for iteration in range(12)]
    stopped = fresh()
    for iteration in range(stop):
        step(stopped, iteration)
    resumed = fresh()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    assert [step(resumed, iteration) for iteration in range(stop, 12)] == expected[stop:]
    assert resumed.state_dict() == whole.state_dict()


def test_a_state_of_other_sources_is_refused() -> None:
    state = sampler(leveled(4)).state_dict()
    other = ProblemChooser([leveled(4), leveled(4, prefix="q")], 0)
    with pytest.raises(ConfigError, match=r"checkpoint has 1 source.*the config 2"):
        other.load_state_dict(state)
