"""The example of rewards written for verl and TRL, as its config names them."""

from pathlib import Path

import pytest
from kvl.configs.loading import load_config
from kvl.configs.rl import RLConfig
from kvl.rewards.testing import check_reward, make_batch, make_sample
from kvl.rl.loop.run import open_rewards

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/other_trainers"


def test_its_config_scores_with_both():
    config = load_config(EXAMPLE / "rl.yaml", RLConfig)
    right, wrong = make_sample("7", gold="7"), make_sample("8", gold="7", thinking="Is it 7?")
    with open_rewards(config) as rewards:
        ((first, second),) = rewards.score([make_batch(right, wrong)])
    assert first.parts == {
        "accuracy": 1.0,
        "rewards.py:compute_score": 0.2,
        "rewards.py:mentions_answer": 0.1,
    }
    assert second.reward == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["compute_score", "mentions_answer"])
def test_its_rewards_keep_the_contract(name):
    check_reward(f"{EXAMPLE}/rewards.py:{name}")
