"""Strict config models: unknown keys are errors, values are frozen once loaded."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


class StrictModel(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


def settings_error(error: ValidationError, name: str, model: type[BaseModel]) -> str:
    """What is wrong with the settings of `name`, as one line with the fields and what is known."""
    parts = []
    for details in error.errors():
        field = ".".join(str(part) for part in details["loc"])
        match details["type"]:
            case "extra_forbidden":
                known = ", ".join(model.model_fields) or "no settings"
                parts.append(f"unknown key {field}; {name} knows {known}")
            case "missing":
                parts.append(f"{field} is missing; add `{field}: …`")
            case "value_error":
                parts.append(details["msg"].removeprefix("Value error, "))
            case _:
                parts.append(
                    f"{field} {details['msg'].removeprefix('Input ')}, got {details['input']!r}"
                )
    return "; ".join(parts)
