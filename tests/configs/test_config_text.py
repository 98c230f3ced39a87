"""What the text of a config means: words, numbers, and variables that stay unprinted."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml
from kvl.configs.errors import ConfigError, FileError
from kvl.configs.loading import dump_config, load_config, save_config
from kvl.configs.rl import RLConfig
from kvl.configs.sft import SFTConfig
from kvl.rl.config import load_rl_config

MINIMAL = """\
run_dir: runs/x
checkpoint: start
problems: {path: train.jsonl}
"""
SECRET = "hunter2-of-the-vault"


@pytest.fixture
def write(tmp_path: Path):
    def write_config(extra: str = "", text: str = MINIMAL) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text + extra, encoding="utf-8")
        return path

    return write_config


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KVL_SECRET", SECRET)
    monkeypatch.setenv("KVL_SHORT", "ab")
    monkeypatch.delenv("KVL_UNSET", raising=False)
    return SECRET


def problem_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_rl_config(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("extra", "overrides"),
    [
        ("learner: {precision: {mixed_precision: no}}\n", ()),
        ("learner:\n  precision:\n    mixed_precision: no\n    threads: 2\n", ()),
        ("learner: {precision: {<<: {mixed_precision: no}}}\n", ()),
        ("learner: {precision: {mixed_precision: 'no'}}\n", ()),
        ("learner: {precision: {mixed_precision: bf16}}\n", ("learner.precision={}",)),
        (
            "learner: {precision: {mixed_precision: bf16}}\n",
            ("learner.precision.mixed_precision=no",),
        ),
        ("", ("learner={precision: {mixed_precision: no}}",)),
        ("learner: {precision: {mixed_precision: '${KVL_UNSET:-no}'}}\n", ()),
    ],
)
@pytest.mark.usefixtures("secret")
def test_no_is_a_word_where_a_word_is_meant(write, tmp_path, extra, overrides):
    config = load_config(write(extra), RLConfig, overrides)
    assert config.learner.precision.mixed_precision == "no"
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml", RLConfig) == config


@pytest.mark.parametrize("word", ["no", "off", "yes", "On", "2024", "2024-01-01", "1e5", "007"])
def test_text_is_what_was_written(write, tmp_path, word):
    config = load_config(write(f"evaluation: {{problems: {{path: {word}}}}}\n"), RLConfig)
    assert config.evaluation is not None
    assert str(config.evaluation.problems.path) == word
    config = load_config(write(), RLConfig, (f"problems.prefix={word}",))
    assert config.sources[0].prefix == word
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml", RLConfig) == config
    # Whoever reads the saved file as YAML 1.1 sees the same.
    assert yaml.safe_load((tmp_path / "saved.yaml").read_text())["problems"]["prefix"] == word


@pytest.mark.parametrize(
    ("written", "value"),
    [("yes", True), ("on", True), ("true", True), ("no", False), ("Off", False), ("false", False)],
)
def test_a_truth_value_may_be_any_of_yamls_words(write, written, value):
    config = load_config(write(f"learner: {{activation_checkpointing: {written}}}\n"), RLConfig)
    assert config.learner.activation_checkpointing is value


@pytest.mark.parametrize(
    ("extra", "got"),
    [
        ("learner: {precision: {mixed_precision: off}}", "'no' or 'bf16', got 'off'"),
        ("trackers: [no]", "trackers.0 should be 'tensorboard', 'trackio' or 'wandb', got 'no'"),
        ("objective: {baseline: no}", "'log_partition', got 'no'"),
        ("iterations: yes", "iterations should be a valid integer"),
        ("rollout: {temperature: true}", "rollout.temperature should be a valid number"),
        ("learner: {optimizer: {betas: [true, 0.9]}}", "learner.optimizer.betas should be a"),
        ("seed: 1:30", "seed should be a valid integer"),
        ("no: 3", "unknown key no;"),
        ("7: 3", "unknown key 7;"),
        ("rollout: {temperature: 1e999}", "should be a finite number"),
    ],
)
def test_a_word_that_does_not_fit_is_shown_as_it_was_written(write, extra, got):
    assert got in problem_of(write(f"{extra}\n"))


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-6", 1e-6), ("1E-6", 1e-6), ("1.e-6", 1e-6), (".5e-5", 5e-6), ("5e-06", 5e-6)],
)
def test_exponents_are_numbers(write, written, value):
    place = "learner.optimizer.learning_rate"
    extra = f"learner: {{optimizer: {{learning_rate: {written}}}}}\n"
    assert load_config(write(extra), RLConfig).learner.optimizer.learning_rate == value
    config = load_config(write(), RLConfig, (f"{place}={written}",))
    assert config.learner.optimizer.learning_rate == value
    tau = load_config(write(f"objective: {{tau: {written}}}\n"), RLConfig).objective.settings["tau"]
    assert tau == value


def test_a_leading_zero_does_not_make_a_number_octal(write):
    assert load_config(write("seed: 010\n"), RLConfig).seed == 10


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5000,
        "a: &x [*x]\n",
        "a: &x {b: *x}\n",
        "".join(
            f"{name}: &{name} [{', '.join([f'*{inner}' if inner else 'x'] * 10)}]\n"
            for name, inner in zip("abcdefgh", ["", *"abcdefg"], strict=True)
        ),
        "? [a]\n: 3\n",
        "seed: 1" + "0" * 5000,
        "a: !!binary abc\n",
        "a: !!python/object:os.system x\n",
    ],
)
def test_yaml_without_end_or_sense_is_one_line(write, text):
    problem = problem_of(write(text=text))
    assert "not valid YAML" in problem
    assert "\n" not in problem


def test_variables_are_used_filled_in_and_printed_and_saved_as_written(write, tmp_path, secret):
    text = """\
run_dir: runs/${KVL_SECRET}
checkpoint: ${KVL_UNSET:-start}
problems:
  - {path: "${KVL_SECRET}/a.jsonl"}
  - path: b.jsonl
    prefix: "<${KVL_SECRET}>"
evaluation:
  problems:
    path: "${KVL_SECRET}/held.jsonl"
"""
    overrides = ("trackers=['${KVL_UNSET:-wandb}']", "evaluation.problems.prefix=${KVL_SHORT}")
    config = load_config(write(text=text), RLConfig, overrides)
    assert config.evaluation is not None
    assert config.run_dir == Path("runs") / secret
    assert config.checkpoint == Path("start")
    assert config.sources[0].path == Path(secret) / "a.jsonl"
    assert config.sources[1].prefix == f"<{secret}>"
    assert config.evaluation.problems.path == Path(secret) / "held.jsonl"
    assert config.evaluation.problems.prefix == "ab"
    assert config.trackers == ("wandb",)
    path = tmp_path / "saved.yaml"
    save_config(pickle.loads(pickle.dumps(config)), path)
    saved = path.read_text(encoding="utf-8")
    assert dump_config(config) == saved
    assert secret not in saved
    for written in (
        "run_dir: runs/${KVL_SECRET}\n",
        "checkpoint: ${KVL_UNSET:-start}\n",
        "path: ${KVL_SECRET}/a.jsonl\n",
        "prefix: <${KVL_SECRET}>\n",
        "prefix: ${KVL_SHORT}\n",
        "- ${KVL_UNSET:-wandb}\n",
    ):
        assert written in saved, written
    assert load_config(path, RLConfig) == config


def test_a_number_from_a_variable_is_saved_as_a_number(write, monkeypatch):
    monkeypatch.setenv("KVL_ITERATIONS", "7")
    config = load_config(write("iterations: ${KVL_ITERATIONS}\n"), RLConfig)
    assert config.iterations == 7
    assert "\niterations: 7\n" in dump_config(config)


def test_a_value_that_was_replaced_since_is_printed_as_it_is(write, secret):
    config = load_config(write(), RLConfig, ("run_dir=${KVL_SECRET}",))
    assert "run_dir: ${KVL_SECRET}\n" in dump_config(config)
    assert "run_dir: other\n" in dump_config(config.model_copy(update={"run_dir": Path("other")}))


def test_a_saved_config_needs_its_variables(write, tmp_path, monkeypatch, secret):
    config = load_config(write(), SFTConfig, ("problems.path=${KVL_SECRET}/a",))
    save_config(config, tmp_path / "saved.yaml")
    monkeypatch.delenv("KVL_SECRET")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "saved.yaml", SFTConfig)
    assert str(caught.value) == (
        f"{tmp_path / 'saved.yaml'}:4: problems.path: environment variable KVL_SECRET is not set; "
        "set it or give a default: ${KVL_SECRET:-default}"
    )


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ("trackers: ['${KVL_UNSET}']\n", ":4: trackers.0"),
        ("evaluation:\n  problems:\n    path: ${KVL_UNSET}/x\n", ":6: evaluation.problems.path"),
        ("rewards:\n  - {type: accuracy}\n  - type: ${KVL_UNSET}\n", ":6: rewards.1.type"),
    ],
)
@pytest.mark.usefixtures("secret")
def test_an_unset_variable_is_named_with_its_place(write, extra, field):
    path = write(extra)
    assert problem_of(path).startswith(f"{path}{field}: environment variable KVL_UNSET is not set")


@pytest.mark.parametrize(
    "extra",
    [
        "iterations: ${KVL_SECRET}",
        "iterations: ${KVL_SHORT}",
        "evaluation: ${KVL_SECRET}",
        "trackers: ['${KVL_SECRET}']",
        "trackers: {a: '${KVL_SECRET}'}",
        "learner: [{a: '${KVL_SECRET}'}]",
        "learner: {optimizer: {name: '${KVL_SECRET}'}}",
        "rewards: [{type: '${KVL_SECRET}'}]",
        "rewards: [{type: length, min_spread: '${KVL_SECRET}'}]",
        "rewards: [{type: length, min_spread: 'x${KVL_SHORT}'}]",
        "objective: {name: '${KVL_SECRET}'}",
        "objective: {tau: '${KVL_SECRET}'}",
        "objective: {tau: '${KVL_SHORT}'}",
    ],
)
def test_no_error_prints_what_a_variable_stands_for(write, secret, extra):
    problem = problem_of(write(f"{extra}\n"))
    assert secret not in problem
    assert "'ab'" not in problem
    assert "'xab'" not in problem
    assert "${KVL_S" in problem


def test_a_variable_that_flow_yaml_cannot_hold_comes_with_a_hint(write):
    path = write("learner: {precision: {mixed_precision: ${A:-no}}}\n")
    assert "quote what holds ${…}" in problem_of(path)


def test_a_config_that_cannot_be_saved_is_one_line(write, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match=r"config\.yaml: cannot be written"):
        save_config(load_config(write(), RLConfig), tmp_path / "file" / "config.yaml")
