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


class Positional(Forgetful):
    def grade(self, batch):
        return [float(index) for index, sample in enumerate(batch.samples)]
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    (folder / "contract_breakers.py").write_text(BROKEN)
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
        ("wordy", "no finite number"),
        ("Positional", "depend on the order"),
    ],
)
def test_the_kit_names_what_is_broken(broken, name, message):
    with pytest.raises(AssertionError, match=message):
        check_reward(f"contract_breakers:{name}")
