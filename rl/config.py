"""An RL config with everything in it checked: also rewards and objectives from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from ..configs.errors import ConfigError
from ..configs.loading import load_config
from ..configs.plugin_paths import is_installed
from ..configs.rl import RLConfig
from ..rewards.plugins.plugin_process import check_reward


def load_rl_config(path: str | Path, overrides: Sequence[str] = ()) -> RLConfig:
    """Raises ConfigError with a line for each thing that is wrong."""
    context = {"check_reward": check_reward, "objective_config": _objective_config}
    return load_config(path, RLConfig, overrides, context)


def _objective_config(name: str) -> type[BaseModel]:
    module = name.partition(":")[0]
    if not is_installed(module.partition(".")[0]):
        raise ConfigError(
            f"objective {name}: no module {module}; install its package, or add its folder to "
            "PYTHONPATH"
        )
    # Not at the top: it imports torch, which a built-in objective does not need yet.
    from .learner.objectives import find

    return find(name)[1]
