"""The contract that every reward keeps, and that the kit notices when one does not."""

import sys

import pytest
from kvl.rewards.builtin import BUILTIN
from kvl.rewards.testing import check_reward

SETTINGS = {
    "overlong": {"max_tokens": 400, "cache_tokens": 100},
    "budget": {"tokens": 100},
}

BROKEN = """
from pydantic import BaseModel
from kvl.configs.base import StrictModel

calls = 0


class Loose:
    class Config(BaseModel):
        pass

    def __init__(self, config):
        pass

    def grade(self, batch):
        return [0.0 for sample in batch.samples]


class Forgetful(Loose):
    class Config(StrictModel):
        pass

    def grade(self, batch):
        return [0.0]


def unsteady(sample):
    global calls
    calls += 1
    return float(calls)


def fragile(sample):
    return 1.0 / len(sample.response.split("Answer: ")[1])


def wordy(sample):
    return "good"


def infinite(sample):
    return float("inf")


class Named(Forgetful):
    def grade(self, batch):
        return {index: 1.0 for index, sample in enumerate(batch.samples)}


class Positional(Forgetful):
    def grade(self, batch):
        return [float(index) for index, sample in enumerate(batch.samples)]
"""


KEPT = """
import functools
from decimal import Decimal

import numpy as np


def keywords(sample, *args, scale: float = 1.0, **kwargs):
    return np.float32(scale * sample.tokens)


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(ground_truth in solution_str)}


def reward(completions, answer, **columns):
    texts = [completion[0]["content"] for completion in completions]
    return [float(gold in text) for gold, text in zip(answer, texts, strict=True)]


class Scorer:
    async def __call__(self, sample, pattern=None):
        return Decimal(sample.tokens)


class Several:
    def grade(self, batch):
        return np.array([sample.tokens for sample in batch.samples])


partial = functools.partial(keywords, scale=2.0)
scorer = Scorer()
several = Several()
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    (folder / "contract_breakers.py").write_text(BROKEN)
    (folder / "contract_keepers.py").write_text(KEPT)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_rewards_keep_the_contract(name):
    check_reward(name, SETTINGS.get(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Loose", "unknown setting is accepted"),
        ("Forgetful", "1 values for 2 samples"),
        ("unsteady", "two calls give different values"),
        ("fragile", "for a hostile response"),
        ("wordy", "not a finite number"),
        ("infinite", "not a finite number"),
        ("Named", "returned dict, not a list"),
        ("Positional", "depend on the order"),
    ],
)
def test_the_kit_names_what_is_broken(broken, name, message):
    with pytest.raises(AssertionError, match=message):
        check_reward(f"contract_breakers:{name}")


@pytest.mark.parametrize(
    "name", ["keywords", "compute_score", "reward", "partial", "scorer", "several"]
)
def test_rewards_of_every_shape_keep_the_contract(broken, name):
    check_reward(f"contract_keepers:{name}")
