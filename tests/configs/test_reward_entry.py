"""Where a config's reward is found, once, and what the loaded entry says about it."""

import os
import subprocess
import sys

import pytest
from kvl.configs.errors import ConfigError
from kvl.configs.loading import save_config
from kvl.rewards.combine import Rewards
from kvl.rewards.testing import make_batch
from kvl.rl.config import load_rl_config
from kvl.rl.loop.run import open_rewards

REWARD = """
from helper_of_reward import ONE


def score(sample, scale: float = 1.0):
    return scale * ONE


class Inner:
    score = staticmethod(score)
"""
HEAD = "run_dir: run\ncheckpoint: ckpt\nproblems: {path: p.jsonl}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A config's folder with a file, a package and a namespace package; the current directory is
    another one with a file of its own."""
    beside = tmp_path / "mein Ordner #1 ü 数学"
    (beside / "pack").mkdir(parents=True)
    (beside / "space").mkdir()
    (beside / "helper_of_reward.py").write_text("ONE = 1.0\n")
    (beside / "my_reward.py").write_text(REWARD)
    (beside / "pack/__init__.py").write_text("")
    (beside / "pack/part.py").write_text("from .other import score\n")
    (beside / "pack/other.py").write_text(REWARD)
    (beside / "space/part.py").write_text(REWARD)
    current = tmp_path / "current"
    current.mkdir()
    (current / "helper_of_reward.py").write_text("ONE = 0.5\n")
    (current / "other_reward.py").write_text(REWARD)
    monkeypatch.chdir(current)
    return beside


def loaded(folder, name, **settings):
    config = folder / "c.yaml"
    more = "".join(f", {key}: {value}" for key, value in settings.items())
    config.write_text(f"{HEAD}rewards:\n  - {{type: '{name}'{more}}}\n", encoding="utf-8")
    return load_rl_config(config)


def first_reward(config) -> float:
    with open_rewards(config) as rewards:
        assert isinstance(rewards, Rewards)
        (verdicts,) = rewards.score([make_batch()])
    assert verdicts[0].gradable, verdicts[0].reason
    return verdicts[0].reward


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("./my_reward.py:score", 1.0),
        ("my_reward.py:score", 1.0),
        ("./my_reward.py:Inner.score", 1.0),
        ("pack/../my_reward.py:score", 1.0),
        ("space/part.py:score", None),
        ("my_reward:score", 1.0),
        ("my_reward:Inner.score", 1.0),
        ("pack.part:score", 1.0),
        ("space.part:score", 1.0),
        ("./other_reward.py:score", 0.5),
        ("other_reward:score", 0.5),
    ],
)
def test_files_and_modules_beside_the_config_or_here_are_found(
    folder, name, value, tmp_path, monkeypatch
):
    if value is None:  # a file's neighbours are those of its own folder
        with pytest.raises(ConfigError, match="No module named 'helper_of_reward'"):
            loaded(folder, name)
        return
    config = loaded(folder, name, scale=1.0)
    assert first_reward(config) == value
    save_config(config, tmp_path / "saved.yaml")
    # A resumed run starts somewhere else, from the saved config.
    monkeypatch.chdir("/")
    again = load_rl_config(tmp_path / "saved.yaml")
    assert again == config
    assert first_reward(again) == value


def test_what_lies_beside_the_config_comes_before_what_lies_here(folder):
    (folder.parent / "current/my_reward.py").write_text("def score(sample): return -1.0\n")
    for name in ("./my_reward.py:score", "my_reward:score"):
        assert first_reward(loaded(folder, name)) == 1.0


def test_what_is_installed_comes_before_what_lies_beside_the_config(folder):
    (folder / "statistics.py").write_text("def fmean(sample): return 1.0\n")
    config = loaded(folder, "statistics:fmean")
    assert config.rewards[0].import_from is None
    assert first_reward(loaded(folder, "./statistics.py:fmean")) == 1.0


def test_absolute_paths_and_the_home_folder_are_taken(folder, monkeypatch):
    assert first_reward(loaded(folder, f"{folder}/my_reward.py:score")) == 1.0
    monkeypatch.setenv("HOME", str(folder))
    assert first_reward(loaded(folder, "~/my_reward.py:score")) == 1.0


def test_a_files_part_of_the_reward_has_a_short_name(folder):
    config = loaded(folder, "./my_reward.py:score")
    assert config.rewards[0].type == f"{folder}/my_reward.py:score"
    with open_rewards(config) as rewards:
        ((first, *_),) = rewards.score([make_batch()])
    assert first.parts == {"my_reward.py:score": 1.0}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("./no.py:score", {}, "no file ./no.py in {folder}, {here}"),
        ("/no/such.py:score", {}, "no file /no/such.py"),
        ("./my_reward.py", {}, "write it as ./my_reward.py:Name"),
        ("my_reward.py", {}, "write it as my_reward.py:Name"),
        ("./pack:score", {}, "no file ./pack in"),
        ("my_reward:", {}, "write it as package.module:Name"),
        (":score", {}, "write it as package.module:Name"),
        ("my_reward:score()", {}, "write it as package.module:Name"),
        ("./my_reward.py:scores", {}, "has no attribute 'scores'"),
        ("my_reward:scores", {}, "has no attribute 'scores'"),
        ("my-reward:score", {}, "my-reward is no module's name; a file is written ./file.py:Name"),
        ("no_such:score", {}, "no module no_such; put the module beside the config, write "
         "./no_such.py:score with the path of its file, install its package, or add its folder to "
         "PYTHONPATH"),
        ("pack.missing:score", {}, "No module named 'pack.missing'"),
        ("./my_reward.py:score", {"scael": 1}, "unknown key scael"),
        ("./my_reward.py:score", {"scale": "much"}, "scale should be a valid number"),
        ("./my_reward.py:score", {"memory_gib": 0}, "memory_gib should be greater than"),
        ("./my_reward.py:score", {"weight": 1e300}, "weight should be less than"),
        ("lenght", {}, "no reward 'lenght'"),
    ],
)  # fmt: skip
def test_what_is_not_found_is_one_line_that_says_what_to_write(folder, name, settings, message):
    with pytest.raises(ConfigError) as error:
        loaded(folder, name, **settings)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{folder}/c.yaml:5: rewards.0")
    assert message.format(folder=folder, here=os.getcwd()) in line


def test_a_module_on_the_python_path_is_installed(folder, tmp_path):
    code = (
        "from kvl.configs.loading import load_config; from kvl.configs.rl import RLConfig\n"
        f"entry = load_config({str(folder / 'c.yaml')!r}, RLConfig).rewards[0]\n"
        "print(entry.type, entry.import_from)\n"
    )
    (folder / "c.yaml").write_text(f"{HEAD}rewards: [{{type: 'my_reward:score'}}]\n")
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.split() == ["my_reward:score", "None"]
