"""YAML text in, plain trees out, with what was written where; and trees back to text.

PyYAML reads YAML 1.1: `1e-6` is text there, 012 is ten, 1:30 is ninety, and `no` is false. Numbers
are read here as everybody writes them, keys are always text, and the words behind other values are
kept, for fields that hold text (`Document.words`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$"
)
_READ_OTHERWISE = ("int", "float", "timestamp")
# Aliases let a short file stand for a tree without end.
_MAX_NODES = 100_000


class YAMLProblem(ValueError):
    """What is wrong with a text, and its 1-based line if it has one."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """tree    what the text says
    lines   (dotted field, line) of every key and item, in order and with repetitions
    words   path → text, of every plain value that was read as something else than text

    `a: {b: [no]}` has the tree {"a": {"b": [False]}} and the words {("a", "b", 0): "no"}.
    """

    tree: Any
    lines: tuple[tuple[str, int], ...]
    words: dict[Path, str]


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """First character → (tag, expression) of what plain text may be instead; dates are text."""
    found = {
        first: [one for one in known if one[0].removeprefix(_TAG) not in _READ_OTHERWISE]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-+.0123456789":
        found[first] = [(f"{_TAG}int", _INT), (f"{_TAG}float", _FLOAT), *found.get(first, ())]
    return found


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()


def read(text: str) -> Document:
    """Raises YAMLProblem for what is no YAML, or more of it than a config can be."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        lines = tuple(_lines(root, ""))
        tree = None if root is None else loader.construct_document(root)
        # After it was built, because building puts what `<<` stands for in its place.
        return Document(tree, lines, dict(_words(root, ())))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = str(error.problem or error.context)
        raise YAMLProblem(message, mark.line + 1 if mark else None) from None
    except RecursionError:
        raise YAMLProblem("nested too deeply, or within itself") from None
    except (yaml.YAMLError, ValueError) as error:
        raise YAMLProblem(str(error).splitlines()[0]) from None


def dump(tree: Any) -> str:
    """Text that `read` gives back as it was, keys in their order."""
    return yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


def _lines(root: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Every dotted key below a node with its 1-based line; items of lists by number."""
    for number, item in enumerate(_lines_without_limit(root, prefix)):
        if number == _MAX_NODES:
            raise YAMLProblem(f"more than {_MAX_NODES} keys and items")
        yield item


def _lines_without_limit(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield f"{prefix}{number}", item.start_mark.line + 1
            yield from _lines_without_limit(item, f"{prefix}{number}.")
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise YAMLProblem("a key is not plain text", key.start_mark.line + 1)
        if key.tag != f"{_TAG}merge":
            key.tag = f"{_TAG}str"  # `no: 1` is about something called no
        field = f"{prefix}{key.value}"
        yield field, key.start_mark.line + 1
        yield from _lines_without_limit(value, f"{field}.")


def _words(node: yaml.Node | None, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and node.tag not in (f"{_TAG}str", f"{_TAG}null"):
            yield path, node.value
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _words(item, (*path, number))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _words(value, (*path, key.value))


class _Dumper(yaml.SafeDumper):
    """PyYAML writes Unicode's own line breaks as they are and reads them back as spaces or line
    ends; between double quotes it escapes them. Text that either kind of YAML would read as
    something else is quoted."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [*known, *yaml.SafeDumper.yaml_implicit_resolvers.get(first, ())]
        for first, known in _Loader.yaml_implicit_resolvers.items()
    }


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(line_break in text for line_break in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)
