from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kvl.configs.common import OptimizerConfig, ProblemSource, WeightedSource
from kvl.configs.errors import ConfigError
from kvl.configs.loading import PRESETS, load_config, preset_names, save_config
from kvl.configs.rl import EvalConfig, RLConfig
from kvl.configs.sft import SFTConfig
from kvl.rl.config import load_rl_config

MINIMAL = """\
run_dir: runs/x
checkpoint: start
problems: {path: train.jsonl}
"""


@pytest.fixture
def write(tmp_path):
    def write_config(extra: str = "", text: str = MINIMAL) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text + extra, encoding="utf-8")
        return path

    return write_config


def problems_of(path, *overrides, model=RLConfig) -> list[str]:
    load = load_rl_config if model is RLConfig else partial(load_config, model=model)
    with pytest.raises(ConfigError) as caught:
        load(path, overrides=overrides)
    return str(caught.value).splitlines()


def test_defaults_fill_what_the_file_leaves_out(write):
    config = load_config(write("rollout: {workers: 2}\n"), RLConfig)
    assert config.rollout.workers == 2
    assert config.rollout.samples_per_problem == 8
    assert config.run_dir == Path("runs/x")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("iteratons: 3\n", "4: unknown key iteratons; did you mean iterations?"),
        ("rollout:\n  workrs: 2\n", "5: unknown key rollout.workrs; did you mean rollout.workers?"),
        (
            "samples_per_problem: 4\n",
            "4: unknown key samples_per_problem; did you mean rollout.samples_per_problem?",
        ),
        ("dtype: float32\n", "4: unknown key dtype; did you mean rollout.engine.dtype?"),
        (
            "evaluation:\n  problems: {path: a, limt: 3}\n",
            "5: unknown key evaluation.problems.limt; did you mean evaluation.problems.limit?",
        ),
    ],
)
def test_unknown_key_names_file_line_field_and_suggestion(write, extra, expected):
    path = write(extra)
    assert problems_of(path) == [f"{path}:{expected}"]


def test_unknown_key_without_a_likely_meaning_lists_the_section(write):
    (problem,) = problems_of(write("objective: {zzzzzz: 1}\n"))
    assert problem.endswith("unknown key zzzzzz; mirror_descent knows tau, baseline")


@pytest.mark.parametrize(
    ("extra", "field", "got"),
    [
        ("iterations: many\n", "iterations", "'many'"),
        ("iterations: 0\n", "iterations", "0"),
        ("rollout: {samples_per_problem: 1}\n", "rollout.samples_per_problem", "1"),
        ("learner: {optimizer: {name: sgd}}\n", "learner.optimizer.name", "'sgd'"),
        ("trackers: [tensorbord]\n", "trackers.0", "'tensorbord'"),
        ("evaluation: 3\n", "evaluation", "3"),
    ],
)
def test_wrong_value_names_the_field_and_the_value(write, extra, field, got):
    path = write(extra)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}:4: {field} ")
    assert f"got {got}" in problem


def test_every_problem_has_its_own_line(write):
    problems = problems_of(write("iterations: many\nseed: x\nfoo: 1\n"))
    assert len(problems) == 3


def test_missing_field_says_what_it_is_for(write):
    path = write(text="run_dir: r\nproblems: {path: p}\n")
    (problem,) = problems_of(path)
    assert problem == (
        f"{path}: checkpoint is missing: the checkpoint folder to start from; add `checkpoint: …`"
    )


def test_cross_field_error_is_one_line(write):
    (problem,) = problems_of(write("rollout: {max_response_tokens: 9000}\n"))
    assert "rollout.max_response_tokens (9000) must be smaller" in problem
    assert "Value error" not in problem


def test_adapters_and_frozen_groups_do_not_go_together(write):
    (problem,) = problems_of(write("learner: {lora: {rank: 8}, freeze: [router]}\n"))
    assert "learner" in problem
    assert "remove freeze" in problem
    assert load_config(write("learner: {lora: {}}\n"), RLConfig).learner.lora is not None


def test_missing_file(tmp_path):
    (problem,) = problems_of(tmp_path / "none.yaml")
    assert problem.startswith(f"{tmp_path / 'none.yaml'}: no such config file")


def test_folder_instead_of_file(tmp_path):
    (problem,) = problems_of(tmp_path)
    assert "is a folder" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run_dir: [1\nseed: 2\n", ":2: not valid YAML"),
        ("run_dir: \x07\n", ": not valid YAML"),
        ("- 1\n", ": holds a list, a config is a mapping"),
        ("just words\n", ": holds a str, a config is a mapping"),
        ("seed: 1\nseed: 2\n", ":2: seed is set twice"),
    ],
)
def test_bad_yaml_is_one_line(write, text, expected):
    path = write(text=text)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}{expected}")


def test_empty_file_reports_the_missing_fields(write):
    assert len(problems_of(write(text=""))) == 3


def test_overrides_win_and_open_sections(write):
    config = load_config(
        write("iterations: 5\n"),
        RLConfig,
        (
            "iterations=7",
            "rollout.engine.dtype=float32",
            "learner.optimizer.learning_rate=3e-5",
            "evaluation.problems.path=held.jsonl",
            "trackers=[]",
            "problems.prefix=a=b",
        ),
    )
    assert config.iterations == 7
    assert config.rollout.engine.dtype == "float32"
    assert config.learner.optimizer.learning_rate == 3e-5
    assert config.evaluation == EvalConfig(problems=ProblemSource(path=Path("held.jsonl")))
    assert config.trackers == ()
    assert config.sources[0].prefix == "a=b"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rollout.workrs=2", "unknown key rollout.workrs; did you mean rollout.workers?"),
        ("rollout.workers=two", "rollout.workers should be a valid integer"),
        ("rollout.workers", "write it as key=value, such as rollout.workers=2"),
        ("=3", "write it as key=value, such as rollout.workers=2"),
        ("rollout..workers=3", "write it as key=value, such as rollout.workers=2"),
        ("seed.x=3", "seed is a value, not a section"),
        ("trackers=[a", "the value is not valid YAML; quote it?"),
        ("run_dir=", "run_dir should be a path, got None"),
    ],
)
def test_bad_override_is_named(write, override, expected):
    (problem,) = problems_of(write("seed: 1\n"), override)
    assert problem.startswith(f"override {override}: {expected}")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rewards.weight=2", "rewards is a list; write rewards.0.weight=… for its first item, or"),
        ("rewards.2.weight=2", "rewards has 1 item, counted from 0; rewards.1 adds one"),
        ("trackers.0=x", "trackers.0 should be 'tensorboard', 'trackio' or 'wandb', got 'x'"),
        ("rewards=[{type: length, wieght: 3}]", "rewards.0: unknown key wieght; length knows"),
        ("rewards=[{type: lenght}]", "rewards.0: "),
        ("objective.tau=x", "objective: tau should be a valid number"),
        ("objective.ta=1", "objective: unknown key ta; mirror_descent knows tau, baseline"),
        ("objective.name=nosuch", "objective: no objective 'nosuch'"),
    ],
)
def test_an_override_is_named_rather_than_the_lines_it_replaces(write, override, expected):
    extra = "rewards:\n  - {type: length}\nobjective: {name: mirror_descent, tau: 0.1}\n"
    (problem,) = problems_of(write(extra), override)
    assert problem.startswith(f"override {override}: {expected}")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("sampling: {prioritized: true}\n", "sampling is called choosing since version 0.2"),
        ("reward: {grader_workers: 2}\n", "reward is called grader (grader_workers: workers"),
    ],
)
def test_a_key_of_an_earlier_version_is_named_with_its_new_name(write, extra, expected):
    (problem,) = problems_of(write(extra))
    assert expected in problem


def test_every_wrong_setting_of_an_objective_has_its_own_line(write):
    path = write("objective:\n  tau: x\n  ta: 1\n")
    assert [problem.partition(" ")[0] for problem in problems_of(path, "objective.tau=0")] == [
        "override",
        f"{path}:6:",
    ]


def test_environment_and_home_are_filled_in(write, monkeypatch):
    monkeypatch.setenv("KVL_TEST_DATA", "/data")
    monkeypatch.delenv("KVL_TEST_OTHER", raising=False)
    config = load_config(
        write(),
        RLConfig,
        (
            "problems.path=${KVL_TEST_DATA}/a.jsonl",
            "checkpoint=${KVL_TEST_OTHER:-../shared}/b",
            "run_dir=~/runs",
        ),
    )
    assert config.sources[0].path == Path("/data/a.jsonl")
    assert config.checkpoint == Path("../shared/b")
    assert config.run_dir == Path.home() / "runs"


def test_unset_variable_is_an_error(write, monkeypatch):
    monkeypatch.delenv("KVL_TEST_OTHER", raising=False)
    (problem,) = problems_of(write(), "problems.path=${KVL_TEST_OTHER}/a")
    assert "problems.path: environment variable KVL_TEST_OTHER is not set" in problem


def test_saved_config_loads_back_equal(tmp_path):
    config = RLConfig(
        run_dir=tmp_path / "ünï: code # run",
        checkpoint=Path("c"),
        problems=WeightedSource(path=Path("p.jsonl"), prefix="yes"),
        evaluation=EvalConfig(problems=ProblemSource(path=Path("h.jsonl"), limit=3)),
        trackers=(),
    )
    path = tmp_path / "deep" / "config.yaml"
    save_config(config, path)
    assert load_config(path, RLConfig) == config
    assert os.listdir(path.parent) == ["config.yaml"]


@example(learning_rate=1.0, momentum=0.0, seed=0, limit=None, prefix="a\x85b\u2028")
@given(
    learning_rate=st.floats(min_value=1e-12, max_value=1e3),
    momentum=st.floats(min_value=0, max_value=1, exclude_max=True),
    seed=st.integers(-(2**40), 2**40),
    limit=st.none() | st.integers(1, 10**9),
    prefix=st.none() | st.text(st.characters(exclude_characters="$~", codec="utf-8")),
)
def test_round_trip_keeps_every_value(
    tmp_path_factory, learning_rate, momentum, seed, limit, prefix
):
    config = SFTConfig(
        run_dir=Path("r"),
        checkpoint=Path("c"),
        problems=ProblemSource(path=Path("p"), limit=limit, prefix=prefix),
        optimizer=OptimizerConfig(name="muon", learning_rate=learning_rate, momentum=momentum),
        seed=seed,
    )
    path = tmp_path_factory.mktemp("round") / "config.yaml"
    save_config(config, path)
    assert load_config(path, SFTConfig) == config


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_by_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = RLConfig if name.startswith("rl/") else SFTConfig
    by_name = load_config(name, model)
    assert by_name == load_config(PRESETS / f"{name}.yaml", model)
    assert by_name == load_config(f"configs/{name}.yaml", model)


LISTED = """\
run_dir: runs/x
checkpoint: start
problems:
  - path: a.jsonl
  - {path: b.jsonl, weight: 3, limit: 5}
"""


def test_problems_are_one_source_or_several_with_weights(write, tmp_path):
    assert [one.weight for one in load_config(write(), RLConfig).sources] == [1.0]
    config = load_config(write(text=LISTED), RLConfig)
    assert [(str(one.path), one.weight) for one in config.sources] == [
        ("a.jsonl", 1.0),
        ("b.jsonl", 3.0),
    ]
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml", RLConfig).sources == config.sources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            LISTED.replace("weight", "wieght"),
            ":5: unknown key problems.1.wieght; did you mean problems.weight?",
        ),
        (LISTED.replace("weight: 3", "weight: 0"), ":5: problems.1.weight should be greater than"),
        (MINIMAL.replace("{path: train.jsonl}", "[]"), ":3: problems: no source is listed; add"),
        (MINIMAL.replace("{path: train.jsonl}", "{limit: 3}"), ":3: problems.path is missing"),
        (MINIMAL.replace("path:", "pth:"), ":3: unknown key problems.pth; did you mean"),
    ],
)
def test_errors_in_sources_name_the_source(write, text, expected):
    path = write(text=text)
    assert any(line.startswith(f"{path}{expected}") for line in problems_of(path))


def test_a_curriculum_longer_than_the_run_is_refused(write):
    extra = "iterations: 20\nchoosing: {curriculum: uniform_then_hard}\n"
    (problem,) = problems_of(write(extra))
    assert "curriculum_iterations (24) must be smaller than iterations (20)" in problem


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("correction: {icepop_range: [5, 0.5]}", "correction.icepop_range: [5.0, 0.5] is no range"),
        ("correction: {sequence_mask: [2, 1]}", "correction.sequence_mask: [2.0, 1.0] is no range"),
        (
            "schedule: {temperature: {start: 1, end: 5, iterations: 9}}",
            "schedule.temperature: 5 is too hot: vLLM samples up to 2",
        ),
        (
            "correction: {routing_replay: true}",
            "routing_replay needs the engine's routes: set rollout.engine.return_routes: true",
        ),
        ("objective: {tau: .inf}", "tau should be a finite number"),
        ("rewards: []", "rewards: no reward is listed; add `- type: accuracy`"),
        ("rewards: [{type: length, strat: 3}]", "rewards.0: unknown key strat"),
        ("rewards: [{type: accuracy, weight: .nan}]", "rewards.0.weight should be a finite number"),
    ],
)
def test_nonsense_of_the_algorithms_settings_is_one_line(write, extra, expected):
    (problem,) = problems_of(write(f"{extra}\n"))
    assert expected in problem
