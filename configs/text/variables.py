"""`${NAME}` and `${NAME:-default}` in a config: filled in for use, but never printed or saved.

What they stand for may be a secret, and is another value on another machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from .yaml_text import Path

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
# Shorter values are hidden where they are a whole value, not wherever their letters appear.
_SHORTEST_HIDDEN = 4


class Written(dict[Path, tuple[str, Any]]):
    """Path → (text with variables, the value it has in the dumped config) of a loaded config.

    Configs are equal whatever their values were written as.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written)

    def __hash__(self) -> int:
        return 0


class Expansion:
    """One config's variables.

    tree     the config with every variable and the home folder filled in
    fields   path → (as written, filled in) where there was a variable
    values   what a variable was replaced by → the reference to it
    """

    def __init__(self, tree: Any, place: Callable[[str], str]) -> None:
        """place: of a dotted field, for errors. Raises ConfigError for a variable not set."""
        self.fields: dict[Path, tuple[str, str]] = {}
        self.values: dict[str, str] = {}
        self._place = place
        self.tree = self._filled(tree, ())

    def hide(self, text: str) -> str:
        """A message without what variables stand for."""
        for written, filled in self.fields.values():
            text = text.replace(repr(filled), repr(written))
        for value in sorted(self.values, key=len, reverse=True):
            if len(value) >= _SHORTEST_HIDDEN:
                for form in (value, repr(value)[1:-1]):
                    text = text.replace(form, self.values[value])
        return text

    def written(self, dumped: Any) -> Written:
        """For the dumped tree of the config that was loaded. A number is saved as a number: it
        is no secret, and reports count with it."""
        held = Written()
        for path, (text, _filled) in self.fields.items():
            value = _at(dumped, path)
            if isinstance(value, str):
                held[path] = (text, value)
        return held

    def _filled(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner, (*path, n)) for n, inner in enumerate(value)]
        if not isinstance(value, str):
            return value

        def fill(match: re.Match[str]) -> str:
            name, default = match.groups()
            found = os.environ.get(name) or default
            if found is None:
                field = ".".join(map(str, path))
                raise ConfigError(
                    f"{self._place(field)}: {field}: environment variable {name} is not set; "
                    f"set it or give a default: ${{{name}:-default}}"
                )
            if os.environ.get(name):
                self.values[found] = f"${{{name}}}"
            return found

        filled = _VARIABLE.sub(fill, value)
        if _VARIABLE.search(value):
            self.fields[path] = (value, filled)
        return os.path.expanduser(filled) if filled.startswith("~/") else filled


def as_written(dumped: Any, written: Written) -> Any:
    """The dumped tree with its variables back in place, in place."""
    for path, (text, value) in written.items():
        *sections, leaf = path
        holder = _at(dumped, tuple(sections))
        if _at(dumped, path) == value:
            holder[leaf] = text
    return dumped


def filled_where_set(text: str) -> str:
    """A saved value for use by whoever reads a config.yaml as plain data."""
    return _VARIABLE.sub(lambda m: os.environ.get(m[1]) or m[2] or m[0], text)


def _at(tree: Any, path: Path) -> Any:
    """The value at a path of keys and list positions; None if there is none."""
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree
