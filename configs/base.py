"""Strict config models: unknown keys are errors, values are frozen once loaded."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo


class StrictModel(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class SettingsError(ValueError):
    """Settings that a reward or an objective does not take.

    problems   (setting, what is wrong with it) of each
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def settings_error(error: ValidationError, name: str, model: type[BaseModel]) -> SettingsError:
    """What is wrong with the settings of `name`, with the fields and what is known."""
    problems = []
    for details in error.errors():
        field = ".".join(str(part) for part in details["loc"])
        match details["type"]:
            case "extra_forbidden":
                known = ", ".join(setting_names(model)) or "no settings"
                message = f"unknown key {field}; {name} knows {known}"
            case "missing":
                message = f"{field} is missing; add `{field}: …`"
            case "value_error":
                message = details["msg"].removeprefix("Value error, ")
            case _:
                wrong = details["msg"].removeprefix("Input ")
                message = f"{field} {wrong}, got {details['input']!r}"
        problems.append((field, message))
    return SettingsError(problems)


def setting_names(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the names that a config gives them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
