"""Strict config models: unknown keys are errors, values are frozen once loaded."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from .text.variables import Written

# The errors of fields that hold text: what was written there may have been read as something else.
TEXT_ERRORS = frozenset({"literal_error", "string_type", "path_type", "truth_as_number"})


class StrictModel(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
    _written: Written = PrivateAttr(default_factory=Written)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            known = _parts(cls.model_fields[str(info.field_name)].annotation)
            if bool not in known and known & {int, float}:
                raise PydanticCustomError("truth_as_number", "should be a number")
        return value


def _parts(annotation: Any) -> set[Any]:
    """The types of which an annotation is made: of `PositiveInt | None` int and None."""
    inner = typing.get_args(annotation)
    return {annotation}.union(*(_parts(part) for part in inner)) if inner else {annotation}


class SettingsError(ValueError):
    """Settings that a reward or an objective does not take.

    problems   (setting, what is wrong with it) of each
    text       the settings among them that should be text and are not
    """

    def __init__(self, problems: Sequence[tuple[str, str]], text: Sequence[str] = ()) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems
        self.text = text


def settings_error(error: ValidationError, name: str, model: type[BaseModel]) -> SettingsError:
    """What is wrong with the settings of `name`, with the fields and what is known."""
    problems, text = [], []
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
        if details["type"] in TEXT_ERRORS:
            text.append(field)
    return SettingsError(problems, text)


def setting_names(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the names that a config gives them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
