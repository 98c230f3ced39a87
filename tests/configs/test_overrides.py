"""Overrides: what was meant by a wrong key, items of lists, and another objective's settings."""

from __future__ import annotations

import pytest
from kvl.configs.errors import ConfigError
from kvl.configs.loading import load_config
from kvl.configs.rl import RLConfig
from kvl.configs.sft import SFTConfig
from kvl.configs.text.suggestions import COMMON_NAMES, fields

MINIMAL = "run_dir: r\ncheckpoint: c\nproblems: {path: p.jsonl}\n"


@pytest.fixture
def load(tmp_path):
    def load_text(*overrides, text=MINIMAL, model=RLConfig):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, model, overrides)

    return load_text


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", "learner.optimizer.learning_rate"),
        ("LR", "learner.optimizer.learning_rate"),
        ("learning_rate", "learner.optimizer.learning_rate"),
        ("optimizer.lr", "learner.optimizer.learning_rate"),
        ("actor.optim.lr", "learner.optimizer.learning_rate"),
        ("optimizer.weight_decay", "learner.optimizer.weight_decay"),
        ("batch_size", "rollout.problems_per_iteration"),
        ("epochs", "iterations"),
        ("model", "checkpoint"),
        ("model.path", "checkpoint"),
        ("kl", "objective.tau"),
        ("beta", "objective.tau"),
        ("tau", "objective.tau"),
        ("data.train_files", "problems.path"),
        ("learner.n", "rollout.samples_per_problem"),
        ("evaluation.n", "evaluation.samples"),
        ("temperature", "rollout.temperature"),
        ("max-new-tokens", "rollout.max_response_tokens"),
        ("threads", "rollout.engine.threads or learner.precision.threads"),
        ("sampels_per_problem", "rollout.samples_per_problem"),
    ],
)
def test_a_key_that_people_use_leads_to_ours(load, key, meant):
    with pytest.raises(ConfigError) as error:
        load(f"{key}=1")
    assert str(error.value).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", "optimizer.learning_rate"),
        ("learner.optimizer.learning_rate", "optimizer.learning_rate"),
        ("iterations", "max_steps"),
        ("max_length", "max_tokens"),
    ],
)
def test_each_command_is_led_to_its_own_keys(load, key, meant):
    with pytest.raises(ConfigError) as error:
        load(f"{key}=1", model=SFTConfig)
    assert str(error.value).endswith(f"; did you mean {meant}?")


def test_a_key_that_means_nothing_gets_the_list_of_what_there_is(load):
    with pytest.raises(ConfigError, match=r"unknown key zzz; the config knows run_dir, checkpoint"):
        load("zzz.yyy=1")


def test_the_table_of_names_leads_to_keys_that_exist():
    known = {name for model in (RLConfig, SFTConfig) for name, _about in fields(model)}
    assert {key for keys in COMMON_NAMES.values() for key in keys} <= known


def test_the_table_says_every_name_once():
    names = [name for group in COMMON_NAMES for name in group]
    assert len(names) == len(set(names))


def test_items_of_a_list_can_be_set_and_added(load):
    text = MINIMAL + "rewards:\n  - type: accuracy\n  - {type: length, weight: 0.5}\n"
    config = load(
        "rewards.1.weight=2",
        "rewards.2.type=repetition",
        "rewards.2.weight=0.1",
        "trackers.1=wandb",
        text=text,
    )
    assert [(one.type, one.weight) for one in config.rewards] == [
        ("accuracy", 1.0),
        ("length", 2.0),
        ("repetition", 0.1),
    ]
    assert config.trackers == ("tensorboard", "wandb")


def test_a_list_that_the_file_leaves_out_begins_as_its_default(load):
    config = load("rewards.0.weight=2", "learner.optimizer.betas.1=0.99", "learner.freeze.0=router")
    assert [(one.type, one.weight) for one in config.rewards] == [("accuracy", 2.0)]
    assert config.learner.optimizer.betas == (0.9, 0.99)
    assert config.learner.freeze == ("router",)


def test_a_single_source_becomes_the_first_of_several(load):
    text = "run_dir: r\ncheckpoint: c\nproblems: {path: p.jsonl, prefix: 12}\n"
    sources = load("problems.1.path=q.jsonl", "problems.1.weight=3", text=text).sources
    assert [(str(one.path), one.prefix, one.weight) for one in sources] == [
        ("p.jsonl", "12", 1.0),
        ("q.jsonl", None, 3.0),
    ]


def test_an_error_in_an_item_names_the_override_that_set_it(load):
    with pytest.raises(ConfigError, match=r"^override problems\.1\.path=: problems\.1\.path"):
        load("problems.1.path=")


@pytest.mark.parametrize("name", ["", "name: mirror_descent, "])
def test_another_objective_leaves_out_the_settings_of_the_former_and_says_so(load, name, capsys):
    text = f"{MINIMAL}objective: {{{name}tau: 0.1}}\n"
    settings = load("objective.clip_high=0.3", "objective.name=grpo", text=text).objective.settings
    assert settings["clip_high"] == 0.3
    assert "tau" not in settings
    note = "note: override objective.name=grpo: leaves out tau of mirror_descent\n"
    assert capsys.readouterr() == ("", note)


def test_the_same_objective_keeps_its_settings(load, capsys):
    text = MINIMAL + "objective: {tau: 0.1}\n"
    assert load("objective.name=mirror_descent", text=text).objective.settings["tau"] == 0.1
    assert capsys.readouterr().err == ""


def test_a_setting_given_for_another_objective_stays_an_error(load):
    with pytest.raises(ConfigError, match="unknown key tau; grpo knows"):
        load("objective.name=grpo", "objective.tau=0.1")


def test_another_reward_leaves_out_the_settings_of_the_former_and_keeps_its_weight(load, capsys):
    text = MINIMAL + "rewards: [{type: length, weight: 0.5, min_spread: 3}]\n"
    (reward,) = load("rewards.0.type=accuracy", text=text).rewards
    assert (reward.type, reward.weight, reward.settings) == ("accuracy", 0.5, {})
    assert "leaves out min_spread of length" in capsys.readouterr().err
