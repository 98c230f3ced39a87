"""When a run folder is taken up, refused, or done; without any process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kvl.configs.errors import CheckpointError, KVLError
from kvl.configs.loading import save_config
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.combine import Rewards, RewardSpec
from kvl.rl.choosing.chooser import ProblemChooser
from kvl.rl.loop.partial import PartialRollouts
from kvl.rl.loop.run import (
    is_finished,
    load_driver_state,
    resumable,
    run_identity,
    take_back_end,
)
from kvl.run_files.checkpoints import Checkpoint, Checkpoints

MakeConfig = Callable[..., RLConfig]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("run") / "tiny", texts=["What? 7"] * 9)


@pytest.fixture
def make_config(tmp_path: Path, tiny: Path) -> MakeConfig:
    (tmp_path / "p.jsonl").write_text("{}\n")

    def make(**changes: Any) -> RLConfig:
        fields = {"run_dir": tmp_path / "run", "checkpoint": tiny, "iterations": 3}
        fields["problems"] = {"path": tmp_path / "p.jsonl"}
        return RLConfig.model_validate({**fields, **changes})

    return make


def checkpoints_of(config: RLConfig, say: Callable[[str], None] = print) -> Checkpoints:
    folder = config.run_dir / "checkpoints"
    return Checkpoints(folder, "iteration", config.keep_checkpoints, run_identity(config), say)


def latest(config: RLConfig) -> Checkpoint | None:
    return resumable(config, run_identity(config), checkpoints_of(config))


def trained(config: RLConfig, iterations: int, finished: bool = False) -> None:
    """The folder that a run leaves after so many iterations."""
    save_config(config, config.run_dir / "config.yaml")
    checkpoints_of(config).save(iterations, {"chooser": {}}, lambda folder: None)
    if finished:
        (config.run_dir / "final").mkdir()
        (config.run_dir / "evaluation").mkdir()
        summary = json.dumps({"iteration": iterations})
        (config.run_dir / "evaluation/after.json").write_text(summary)


def test_a_finished_run_is_finished_until_more_is_asked_for(make_config: MakeConfig) -> None:
    config = make_config()
    assert latest(config) is None
    assert not is_finished(config, None)
    trained(config, 3, finished=True)
    assert is_finished(config, latest(config))
    more = make_config(iterations=5)
    found = latest(more)
    assert found is not None
    assert found.position == 3
    assert not is_finished(more, found)
    take_back_end(config.run_dir)
    assert not (config.run_dir / "final").exists()
    names = [path.name for path in (config.run_dir / "evaluation").iterdir()]
    assert names == ["iteration_000003.json"]
    assert not is_finished(config, latest(config)), "its end has to be made again"


def test_a_finished_run_without_checkpoints_cannot_go_on_and_says_so(
    make_config: MakeConfig,
) -> None:
    config = make_config()
    save_config(config, config.run_dir / "config.yaml")
    (config.run_dir / "final").mkdir()
    assert is_finished(config, latest(config))
    with pytest.raises(KVLError, match="nothing to go on from after 3 iterations; start a new"):
        latest(make_config(iterations=4))


def test_fewer_iterations_than_an_unfinished_run_has_are_refused(make_config: MakeConfig) -> None:
    trained(make_config(), 2)
    with pytest.raises(KVLError, match="set iterations to 2 or more"):
        latest(make_config(iterations=1))


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, "another seed; seed was 0, is 1;"),
        ({"objective": {"tau": 0.5}}, "another objective.tau; objective.tau was 0.01, is 0.5;"),
        ({"objective": {"name": "grpo"}}, "objective.name was mirror_descent, is grpo;"),
        ({"learner": {"lora": {"rank": 4}}}, "another learner.lora; learner.lora was null,"),
        ({"rollout": {"temperature": 0.5}}, "rollout.temperature was 1.0, is 0.5;"),
        ({"rewards": [{"type": "accuracy", "weight": 2}]}, "rewards.0.weight was 1.0, is 2.0;"),
        (
            {"evaluation": {"problems": {"path": "other.jsonl"}}},
            "another problems.path; problems.path was held.jsonl, is other.jsonl;",
        ),
    ],
)
def test_another_run_is_refused_with_every_difference(
    make_config: MakeConfig, changes: dict[str, Any], difference: str
) -> None:
    trained(make_config(evaluation={"problems": {"path": "held.jsonl"}}), 1)
    config = make_config(**{"evaluation": {"problems": {"path": "held.jsonl"}}, **changes})
    with pytest.raises(KVLError) as caught:
        latest(config)
    assert "config.yaml: " in str(caught.value)
    assert "this run_dir holds a run with" in str(caught.value)
    assert difference in str(caught.value)


def test_other_data_or_weights_under_the_same_path_are_another_run(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    trained(make_config(), 1)
    (tmp_path / "p.jsonl").write_text('{"id": "new"}\n')
    with pytest.raises(KVLError, match=r"another problems.path; .* has other contents now"):
        latest(make_config())
    write_tiny_checkpoint(tmp_path / "tiny", seed=5, texts=["What? 7"] * 9)
    with pytest.raises(KVLError, match=r"another checkpoint, problems\.path"):
        latest(make_config(checkpoint=tmp_path / "tiny"))


def test_the_same_data_and_weights_may_lie_elsewhere(
    make_config: MakeConfig, tmp_path: Path, tiny: Path
) -> None:
    trained(make_config(), 1)
    shutil.copytree(tiny, tmp_path / "moved")
    (tmp_path / "p.jsonl").rename(tmp_path / "q.jsonl")
    moved = {"checkpoint": tmp_path / "moved", "problems": {"path": tmp_path / "q.jsonl"}}
    assert latest(make_config(**moved)) is not None


def test_what_changes_nothing_that_is_learned_may_change(make_config: MakeConfig) -> None:
    evaluation = {"problems": {"path": "held.jsonl"}, "every": 1}
    trained(make_config(evaluation=evaluation), 1)
    changes: dict[str, Any] = {
        "iterations": 9,
        "checkpoint_every": 2,
        "trackers": [],
        "mismatch_tolerance": 0.1,
        "rollout": {"workers": 2, "engine": {"max_num_seqs": 8, "threads": 2}},
        "rewards": [{"type": "accuracy", "timeout_seconds": 3}],
        "learner": {"pack_tokens": 128},
    }
    found = latest(make_config(evaluation={**evaluation, "every": 2}, **changes))
    assert found is not None
    assert latest(make_config(**changes)) is not None, "without an evaluation"


def test_a_run_that_never_got_to_a_checkpoint_starts_anew_with_any_settings(
    make_config: MakeConfig,
) -> None:
    config = make_config()
    save_config(config, config.run_dir / "config.yaml")
    (config.run_dir / "evaluation").mkdir()
    before = config.run_dir / "evaluation/before.json"
    before.write_text('{"iteration": 0}')
    assert latest(config) is None
    assert before.exists()
    assert latest(make_config(seed=1)) is None
    assert not before.exists(), "it was measured with other settings"


def test_a_config_that_is_none_of_this_command_is_one_line(make_config: MakeConfig) -> None:
    config = make_config()
    trained(config, 1)
    (config.run_dir / "config.yaml").write_text("epochs: 3\nbatch_size: 4\n")
    with pytest.raises(KVLError, match=r"config.yaml: cannot be compared .* another run_dir") as e:
        latest(config)
    assert "\n" not in str(e.value)


def test_a_state_that_is_not_the_drivers_is_one_line(make_config: MakeConfig) -> None:
    config = make_config()
    trained(config, 1)
    found = latest(config)
    assert found is not None
    chooser = ProblemChooser([[Problem("p", "?", (), "7", AnswerType.NUMBER)]], 0)
    with pytest.raises(CheckpointError, match=r"driver.json: is not the state of a run"):
        load_driver_state(found, chooser, Rewards([RewardSpec("accuracy")]), PartialRollouts(0))
