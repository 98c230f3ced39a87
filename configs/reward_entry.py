"""One entry of a config's `rewards`: what every reward has, and where a plugin was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from . import plugin_paths
from .base import SettingsError


class RewardEntry(BaseModel):
    """One reward: a built-in name, an installed plugin's name, `package.module:Name` or
    `./file.py:Name`.

    Keys that are not listed here are the reward's own settings; they are checked by its config.
    Files and modules that are not installed lie beside the config or in the current directory;
    where they were found is part of the loaded entry.
    """

    model_config = ConfigDict(
        extra="allow", frozen=True, validate_default=True, allow_inf_nan=False
    )

    type: str = Field(
        description="a name from `kvl-rl rewards`, package.module:Name or ./file.py:Name"
    )
    weight: float = Field(default=1.0, ge=-1e6, le=1e6)
    start: NonNegativeInt = Field(default=0, description="first iteration in which it counts")
    timeout_seconds: PositiveFloat = Field(default=10.0, description="of a plugin, per call")
    workers: PositiveInt = Field(default=1, description="processes of a plugin")
    memory_gib: float = Field(
        default=8.0, ge=0.25, description="of each process of a plugin and each of its children"
    )
    import_from: Path | None = Field(
        default=None, description="folder of a plugin's module that is not installed; found"
    )

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _locate(cls, given: Any, info: ValidationInfo) -> Any:
        """Once, with the config's folder at hand: workers and a resumed run have another."""
        if not isinstance(given, dict) or given.get("import_from") is not None:
            return given
        name = given.get("type")
        if not isinstance(name, str) or not (":" in name or plugin_paths.is_file_name(name)):
            return given
        beside = (info.context or {}).get("config_folder")
        folders = [folder for folder in (beside, Path()) if folder is not None]
        try:
            found, folder = plugin_paths.resolve(name, folders)
        except ValueError as error:
            raise SettingsError([("type", f"reward {error}")]) from None
        return {**given, "type": found} | ({} if folder is None else {"import_from": folder})

    @model_validator(mode="after")
    def _settings_fit(self, info: ValidationInfo) -> RewardEntry:
        # Rewards are another room: the command that will use them hands over how to check them.
        if (check := (info.context or {}).get("check_reward")) is not None:
            check(self)
        return self
