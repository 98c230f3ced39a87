"""Paths of a config whose process will have another working directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from kvl.configs.errors import ConfigError
from kvl.configs.job_paths import paths_of, require_lasting_paths, with_absolute_paths
from kvl.configs.loading import dump_config, load_config
from kvl.configs.rl import RLConfig

CONFIG = """
run_dir: runs/one
checkpoint: ${KVL_TEST_CHECKPOINT}
problems:
  - {path: train.jsonl, image_roots: [images, /data/images]}
evaluation: {problems: {path: heldout.jsonl}}
ptx: {problems: {path: solved.jsonl}}
rewards: [{type: "./mine.py:score", note: "${KVL_TEST_NOTE}"}]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RLConfig:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVL_TEST_CHECKPOINT", "models/start")
    monkeypatch.setenv("KVL_TEST_NOTE", "a secret")
    (tmp_path / "mine.py").write_text("def score(sample): return 0.0\n")
    (tmp_path / "rl.yaml").write_text(CONFIG)
    return load_config("rl.yaml", RLConfig)


def test_every_path_becomes_absolute_and_nothing_else_changes(
    config: RLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative, absolute = dict(paths_of(config)), dict(paths_of(with_absolute_paths(config)))
    assert absolute == {field: tmp_path / path for field, path in relative.items()}
    assert {
        "run_dir",
        "checkpoint",
        "problems.0.path",
        "problems.0.image_roots.0",
        "problems.0.image_roots.1",
        "evaluation.problems.path",
        "ptx.problems.path",
    } <= absolute.keys()
    # Elsewhere, without the first variable and with another secret, it is the same config.
    resolved = with_absolute_paths(config)
    text = dump_config(resolved)
    assert "a secret" not in text
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    monkeypatch.delenv("KVL_TEST_CHECKPOINT")
    Path("config.yaml").write_text(text)
    read = load_config("config.yaml", RLConfig)
    assert read == resolved
    assert read.rewards[0].type == f"{tmp_path}/mine.py:score"


def test_a_run_folder_in_rays_copy_is_refused_with_the_fix(
    config: RLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_lasting_paths(config)
    copy = tmp_path / "session/runtime_resources/working_dir_files/_ray_pkg_1"
    copy.mkdir(parents=True)
    (copy / "train.jsonl").touch()
    monkeypatch.chdir(copy)
    with pytest.raises(ConfigError) as caught:
        require_lasting_paths(config)
    said = str(caught.value).splitlines()
    assert said[0].startswith("run_dir runs/one: lies in Ray's copy")
    assert said[1].startswith("checkpoint models/start: is not in Ray's copy")
    assert all("absolute path" in line and "kvl-rl submit" in line for line in said)
    assert not any(line.startswith("problems.0.path") for line in said)


def test_absolute_paths_of_a_job_are_its_own_business(
    config: RLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = with_absolute_paths(config)
    copy = tmp_path / "session/runtime_resources/working_dir_files/_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    require_lasting_paths(absolute)
