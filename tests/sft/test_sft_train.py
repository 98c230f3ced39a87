"""The whole stage on the tiny model: resume, export, accumulation, bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kvl.configs.errors import CheckpointError, KVLError
from kvl.configs.sft import SFTConfig
from kvl.kimi_vl_model.checkpoint import iterate_tensors, load_model
from kvl.run_files.checkpoints import Checkpoints
from kvl.run_files.identity import identity
from kvl.sft.progress import ProgressBar
from kvl.sft.train import MAY_CHANGE, train
from pydantic import ValidationError

MakeConfig = Callable[..., SFTConfig]


@pytest.fixture(scope="module")
def make_config(checkpoint: Path, problems_file: Path) -> MakeConfig:
    def make(run_dir: Path, **changes: Any) -> SFTConfig:
        fields: dict[str, Any] = {
            "run_dir": run_dir,
            "checkpoint": checkpoint,
            "problems": {"path": problems_file},
            "max_steps": 8,
            "batch_size": 4,
            "optimizer": {"learning_rate": 2e-3},
            "precision": {"threads": 1},
            "log_every": 1,
            "save_every": 2,
            "trackers": (),
        }
        return SFTConfig.model_validate({**fields, **changes})

    return make


def metrics(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor, _file in iterate_tensors(folder)}


def newest(config: SFTConfig) -> Path | None:
    run = identity(config, MAY_CHANGE)
    found = Checkpoints(config.run_dir / "checkpoints", "step", 2, run, print).latest()
    return None if found is None else found.folder


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die as from Ctrl-C in the middle of a run, after `step` steps and before they are saved."""

    def on_step_end(bar: ProgressBar, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "on_step_end", on_step_end)


@pytest.fixture(scope="module")
def finished(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> SFTConfig:
    config = make_config(tmp_path_factory.mktemp("finished"), trackers=("tensorboard",))
    assert train(config) == config.run_dir / "final"
    return config


def test_a_finished_run_learned_and_exported(finished: SFTConfig) -> None:
    lines = metrics(finished.run_dir)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    expected = {"step", "epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second"}
    assert set(lines[0]) == {*expected, "seconds", "expert_load_max", "experts_idle"}
    floor = finished.optimizer.learning_rate * finished.final_learning_rate_fraction
    assert lines[-1]["learning_rate"] == pytest.approx(floor)
    assert lines[0]["learning_rate"] == finished.optimizer.learning_rate  # one warm-up step
    exported = load_model(finished.run_dir / "final").state_dict()
    source = load_model(finished.checkpoint).state_dict()
    moved = [name for name in source if not torch.equal(source[name], exported[name])]
    for part in ("vision_tower", "multi_modal_projector", "language_model.model.layers.1.mlp"):
        assert any(name.startswith(part) for name in moved)
    assert not any("e_score_correction_bias" in name for name in moved)
    assert (finished.run_dir / "skipped.jsonl").read_text() == ""
    assert list((finished.run_dir / "tensorboard").iterdir())
    steps = sorted(path.name for path in (finished.run_dir / "checkpoints").glob("step_*"))
    assert steps == ["step_000006", "step_000008"]


def test_a_finished_run_is_not_trained_again(
    finished: SFTConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished.run_dir / "metrics.jsonl").read_text()
    assert train(finished) == finished.run_dir / "final"
    assert "already finished" in capsys.readouterr().out.replace("\n", " ")
    assert (finished.run_dir / "metrics.jsonl").read_text() == before


def test_another_config_does_not_take_over_a_run(finished: SFTConfig) -> None:
    other = finished.model_copy(update={"seed": 1, "log_every": 3})
    with pytest.raises(KVLError, match=r"holds a run with another seed;"):
        train(other)


def test_a_killed_run_ends_with_the_same_weights(
    finished: SFTConfig,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(tmp_path / "run")
    with monkeypatch.context() as patch:
        stop_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    checkpoints = config.run_dir / "checkpoints"
    whole = checkpoints / "step_000004"
    assert newest(config) == whole
    # Two half-written checkpoints: the list of files not yet there, and weights cut short.
    shutil.copytree(whole, checkpoints / "step_000006")
    (checkpoints / "step_000006" / "complete.json").unlink()
    shutil.copytree(whole, checkpoints / "step_000007")
    weights_file = checkpoints / "step_000007" / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1000])
    with (config.run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert newest(config) == whole

    final = train(config)
    assert [line["step"] for line in metrics(config.run_dir)] == list(range(1, 9))
    straight, resumed = weights(finished.run_dir / "final"), weights(final)
    assert straight.keys() == resumed.keys()
    for name in straight:
        assert torch.equal(straight[name], resumed[name]), name


def test_a_run_killed_before_its_export_is_only_exported(
    finished: SFTConfig, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished.run_dir, run_dir, ignore=shutil.ignore_patterns("final"))
    final = train(finished.model_copy(update={"run_dir": run_dir}))
    exported, expected = weights(final), weights(finished.run_dir / "final")
    assert all(torch.equal(expected[name], exported[name]) for name in expected)
    assert len(metrics(run_dir)) == 8


def test_muon_resumes_too(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"optimizer": {"name": "muon", "learning_rate": 2e-3}, "max_steps": 4}
    straight = weights(train(make_config(tmp_path / "straight", **changes)))
    config = make_config(tmp_path / "run", **changes)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    resumed = weights(train(config))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_rows_bf16_and_recomputation_change_no_more_than_rounding(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    def first(name: str, **changes: Any) -> dict[str, float]:
        config = make_config(tmp_path / name, max_steps=1, save_every=5, **changes)
        train(config)
        return metrics(config.run_dir)[0]

    plain = first("plain")
    # The four documents carry unequal numbers of labels: a mean of row means would differ.
    for name, changes in (
        ("rows", {"gradient_accumulation": 4}),
        ("recomputed", {"activation_checkpointing": True}),
    ):
        other = first(name, **changes)
        assert other["loss"] == pytest.approx(plain["loss"], abs=1e-5), name
        assert other["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4), name
    bf16 = first("bf16", precision={"mixed_precision": "bf16", "threads": 1})
    assert bf16["loss"] == pytest.approx(plain["loss"], abs=0.05)


def test_adapters_resume_and_leave_an_adapter_beside_the_merged_checkpoint(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"lora": {"rank": 4, "routed_experts": True}, "max_steps": 4}
    config = make_config(tmp_path / "straight", **changes)
    straight, source = weights(train(config)), weights(config.checkpoint)
    assert metrics(config.run_dir)[-1]["loss"] < metrics(config.run_dir)[0]["loss"]
    moved = {name for name in source if not torch.equal(straight[name], source[name])}
    assert {name.split(".")[4] for name in moved} == {"self_attn", "mlp"}
    assert any(".experts." in name for name in moved)
    adapter = config.run_dir / "adapter" / "adapter_model.safetensors"
    # A training checkpoint holds the adapters and not the frozen model.
    saved = config.run_dir / "checkpoints" / "step_000004" / "model.safetensors"
    assert saved.stat().st_size < 1.2 * adapter.stat().st_size

    killed = make_config(tmp_path / "run", **changes)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(killed)
    resumed = weights(train(killed))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_frozen_parts_stay_and_the_selection_bias_follows_the_load(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    changes = {"freeze": ["vision_tower", "experts"], "load_balance_rate": 0.01, "max_steps": 3}
    config = make_config(tmp_path / "run", gradient_accumulation=2, **changes)
    final, source = weights(train(config)), weights(config.checkpoint)
    for name, tensor in source.items():
        if name.startswith("vision_tower") or ".experts." in name:
            assert final[name].equal(tensor), name
        if "e_score_correction_bias" in name:
            # Three steps of ±0.01 each.
            steps = (final[name] - tensor) / 0.01
            torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
            assert 0 < steps.abs().max() <= 3 + 1e-3
    assert not final["language_model.lm_head.weight"].equal(source["language_model.lm_head.weight"])
    assert all(line["expert_load_max"] > 1 for line in metrics(config.run_dir))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {}, "freeze": ["router"]}, "remove freeze"),
        ({"load_balance_rate": 0.1, "freeze": ["router"]}, "remove router from freeze"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    make_config: MakeConfig, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        make_config(tmp_path / "run", **changes)


def test_wrong_input_is_one_clear_error(make_config: MakeConfig, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"nowhere.config\.json: missing"):
        train(make_config(run_dir, checkpoint=tmp_path / "nowhere"))
    with pytest.raises(KVLError, match="batch_size 4 does not divide"):
        train(make_config(run_dir, gradient_accumulation=3))
    assert not run_dir.exists()
