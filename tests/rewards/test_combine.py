"""Configured rewards together: weights, warm-up, plugins that work and plugins that do not."""

import sys

import pytest
from kvl.configs.base import SettingsError
from kvl.rewards.combine import Combination, Rewards, RewardSpec
from kvl.rewards.plugins.registry import UnknownReward, find
from kvl.rewards.testing import make_batch, make_sample
from kvl.rewards.types import Outcome

PLUGINS = '''
import asyncio
import os
import time

from kvl.configs.base import StrictModel
from kvl.rewards.types import Outcome, Verdict


class Words:
    """Counts words."""

    class Config(StrictModel):
        scale: float = 1.0

    def __init__(self, config):
        self.config = config

    async def grade(self, batch):
        await asyncio.sleep(0)
        return [self.config.scale * len(sample.response.split()) for sample in batch.samples]


class Judge:
    def __init__(self, config):
        pass

    def grade(self, batch):
        return [
            Verdict(Outcome.CORRECT if sample.tokens < 50 else Outcome.INVALID, reason="unsure")
            for sample in batch.samples
        ]


class Short:
    def __init__(self, config):
        pass

    def grade(self, batch):
        return [1.0]


class Unloadable:
    def __init__(self, config):
        raise RuntimeError("no licence key")

    def grade(self, batch):
        return []


def constant(sample, *, value: float = 1.0):
    return value


async def slow(sample, *, seconds: float):
    await asyncio.sleep(seconds if sample.tokens > 100 else 0)
    return 1.0


def raises(sample):
    if sample.tokens > 100:
        raise ValueError("too many tokens")
    return 1.0


def exits(sample):
    if sample.tokens > 100:
        os._exit(3)
    return 1.0


def hangs(sample):
    while sample.tokens > 100:
        time.sleep(0.1)
    return 1.0


def not_a_number(sample):
    return float("nan")


class Plain:
    pass


class Parts(Short):
    """A verdict of its own for every sample, every third of them of no use."""

    def grade(self, batch):
        values = [1.0, float("nan"), None]
        return [
            Verdict(Outcome.CORRECT, parts={"style": values[index % 3]})
            for index, sample in enumerate(batch.samples)
        ]


def noisy(sample):
    print("noise " * 20_000)
    os.write(1, b"more noise\\n" * 1000)
    return 1.0


not_callable = 3
'''


@pytest.fixture(scope="module", autouse=True)
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "plugin_rewards.py").write_text(PLUGINS)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def scored(*specs, samples=None, combination: Combination = "sum", iteration=0):
    samples = samples or (make_sample("7", tokens=40), make_sample("8", tokens=200))
    with Rewards(specs, combination) as rewards:
        (verdicts,) = rewards.score([make_batch(*samples, iteration=iteration)])
    return verdicts


def test_a_reward_is_the_sum_of_its_weighted_parts():
    first, second = scored(RewardSpec("accuracy"), RewardSpec("length", 0.2))
    assert first.parts == {"accuracy": 1.0, "length": pytest.approx(0.1)}
    assert first.reward == pytest.approx(1.1)
    assert second.reward == pytest.approx(-0.1)
    assert second.outcome is Outcome.INCORRECT


def test_a_reward_starts_at_its_iteration():
    specs = (RewardSpec("accuracy"), RewardSpec("length", 0.2, start=5))
    assert "length" not in scored(*specs, iteration=4)[0].parts
    assert "length" in scored(*specs, iteration=5)[0].parts


def test_gated_rewards_go_to_correct_responses_only():
    specs = (RewardSpec("accuracy"), RewardSpec("format", 0.5))
    assert [verdict.reward for verdict in scored(*specs)] == [1.5, 0.5]
    assert [verdict.reward for verdict in scored(*specs, combination="gated")] == [1.5, 0.0]


def test_one_reward_twice_has_two_parts():
    first, _ = scored(RewardSpec("accuracy"), RewardSpec("accuracy", 2.0))
    assert first.parts == {"accuracy": 1.0, "accuracy#2": 2.0}


def test_objects_functions_and_coroutines_are_rewards():
    verdicts = scored(
        RewardSpec("accuracy"),
        RewardSpec("plugin_rewards:Words", 0.1, settings={"scale": 2.0}),
        RewardSpec("plugin_rewards:constant", settings={"value": 0.25}),
        RewardSpec("plugin_rewards:slow", 0.5, settings={"seconds": 0.01}),
    )
    for verdict, accuracy in zip(verdicts, (1.0, 0.0), strict=True):
        assert verdict.gradable
        assert verdict.parts["accuracy"] == accuracy
        assert verdict.parts["plugin_rewards:Words"] > 0
        assert verdict.parts["plugin_rewards:constant"] == 0.25
        assert verdict.parts["plugin_rewards:slow"] == 0.5


@pytest.mark.parametrize(
    ("name", "settings", "timeout", "outcome", "reason"),
    [
        ("raises", {}, 60, Outcome.INVALID, "ValueError: too many tokens (plugin_rewards.py:"),
        ("exits", {}, 60, Outcome.INVALID, "worker died"),
        ("hangs", {}, 1, Outcome.TIMEOUT, "killed after 1 s"),
        ("slow", {"seconds": 60}, 1, Outcome.TIMEOUT, "took more than 1 s"),
        ("Judge", {}, 60, Outcome.INVALID, "unsure"),
    ],
)
def test_a_failing_plugin_costs_its_sample_and_is_named(name, settings, timeout, outcome, reason):
    name = f"plugin_rewards:{name}"
    spec = RewardSpec(name, settings=settings, timeout_seconds=timeout)
    good, bad = scored(RewardSpec("accuracy"), spec)
    assert good.parts == {"accuracy": 1.0, name: 1.0}
    assert bad.outcome is outcome
    assert bad.reason.startswith(f"reward {name}: ")
    assert reason in bad.reason
    assert not bad.gradable
    assert not bad.parts


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Short", "returned 1 values for 2 samples"),
        ("Unloadable", "cannot be loaded: RuntimeError: no licence key"),
        ("not_a_number", "not a finite number"),
    ],
)
def test_a_plugin_that_breaks_the_contract_costs_all_samples(name, reason):
    verdicts = scored(RewardSpec("accuracy"), RewardSpec(f"plugin_rewards:{name}"))
    assert all(
        verdict.outcome is Outcome.INVALID and reason in verdict.reason for verdict in verdicts
    )


def test_a_bad_part_of_a_verdict_costs_its_sample():
    samples = [make_sample("7", tokens=tokens) for tokens in (10, 20, 30)]
    first, second, third = scored(RewardSpec("plugin_rewards:Parts", 2.0), samples=samples)
    assert first.parts == {"plugin_rewards:Parts": 2.0}
    assert "a Verdict whose part 'style' is nan" in second.reason
    assert "a Verdict whose part 'style' is None" in third.reason
    assert not second.gradable
    assert not third.gradable


def test_a_plugin_that_prints_disturbs_nothing(capfd):
    assert all(verdict.gradable for verdict in scored(RewardSpec("plugin_rewards:noisy")))
    assert capfd.readouterr().out == ""


def test_rewards_that_compare_do_not_see_samples_that_a_plugin_lost():
    samples = [make_sample("7", tokens=tokens) for tokens in (60, 90, 5000)]
    verdicts = scored(RewardSpec("length"), RewardSpec("plugin_rewards:raises"), samples=samples)
    assert [verdict.parts.get("length") for verdict in verdicts] == [0.5, -0.5, None]


def test_the_state_of_rewards_survives_a_restart():
    specs = [RewardSpec("accuracy"), RewardSpec("toggle")]
    short = make_batch(make_sample("7", tokens=50), make_sample("7", tokens=50))
    long = make_batch(make_sample("7", tokens=90), make_sample("7", tokens=90))
    with Rewards(specs) as rewards:
        rewards.score([short])
        state = rewards.state_dict()
    with Rewards(specs) as resumed:
        resumed.load_state_dict(state)
        ((first, _),) = resumed.score([long])
    assert first.reward == 0.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenght", "no reward 'lenght': known are accuracy, length"),
        ("no_such_module:Reward", "cannot be imported (ModuleNotFoundError"),
        ("plugin_rewards:Missing", "cannot be imported (AttributeError"),
        ("plugin_rewards:not_callable", "must be a class with grade(batch) or a function"),
        ("plugin_rewards:Plain", "must be a class with grade(batch) or a function"),
        ("plugin_rewards:", "write it as package.module:Name"),
        ("plugin-rewards:constant", "is no module's name"),
        ("./no_such_file.py:constant", "no file "),
        ("./no_such_file.py", "no reward './no_such_file.py'"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name, message):
    with pytest.raises(UnknownReward) as error:
        find(name)
    assert message in str(error.value)
    with pytest.raises(UnknownReward) as error:
        Rewards([RewardSpec("accuracy"), RewardSpec(name)])
    assert message in str(error.value)


def test_settings_are_checked_before_anything_runs():
    with pytest.raises(SettingsError, match="unknown key scael; plugin_rewards:Words knows scale"):
        Rewards([RewardSpec("plugin_rewards:Words", settings={"scael": 1})])
    with pytest.raises(SettingsError, match="seconds is missing"):
        Rewards([RewardSpec("plugin_rewards:slow")])
