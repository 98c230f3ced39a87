"""The JSON schema of a config, for editors: completion, descriptions, wrong keys underlined.

`configs/rl.schema.json` and `sft.schema.json` are what `kvl-rl schema` and `kvl-sft schema` print;
the first line of a preset points to them. What only the loader knows (settings of plug-ins, fields
that have to agree) is left to it.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from .objectives import BUILTIN

_VARIABLE = {"type": "string", "pattern": r"\$\{\w+(:-[^}]*)?\}"}
# What an editor shows, and what is no condition on the value.
_ABOUT = ("title", "description", "default")


def schema_text(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    sections = schema.get("$defs", {})
    if "ObjectiveConfig" in sections:
        sections["ObjectiveConfig"] |= _objectives(sections["ObjectiveConfig"])
    schema = _with_variables(schema)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | schema, indent=2, ensure_ascii=False) + "\n"


def _objectives(section: dict[str, Any]) -> dict[str, Any]:
    """Each built-in objective with its own settings, or one of the user's with any."""
    default = section["properties"]["name"]["default"]
    kinds: list[dict[str, Any]] = []
    for name, settings in BUILTIN.items():
        keys = settings.model_json_schema()["properties"]
        kinds.append(
            {
                "title": name,
                "properties": {"name": {"const": name}, **keys},
                "additionalProperties": False,
                "required": [] if name == default else ["name"],
            }
        )
    own = {"properties": {"name": {"type": "string", "pattern": ":"}}, "required": ["name"]}
    return {"anyOf": [*kinds, own]}


def _with_variables(schema: Any) -> Any:
    """A value that is no text may also be written as an environment variable."""
    if isinstance(schema, list):
        return [_with_variables(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = schema.get("type") in ("integer", "number", "boolean") or "enum" in schema
    if plain and isinstance(schema.get("type"), str):
        about = {key: value for key, value in schema.items() if key in _ABOUT}
        value = {key: value for key, value in schema.items() if key not in _ABOUT}
        return about | {"anyOf": [value, _VARIABLE]}
    return {
        key: value if key == "default" else _with_variables(value) for key, value in schema.items()
    }
