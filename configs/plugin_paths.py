"""Where a plugin named `package.module:Name` or `./file.py:Name` lies; nothing is imported."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def resolve(name: str, folders: Sequence[Path]) -> tuple[str, Path | None]:
    """The name with which any process finds the plugin, and the folder to import its module from.

    A file's path is made absolute; a module that is not installed gets the folder it lies in. Both
    are searched for in `folders`, first to last. Raises `ValueError` with what to write instead.

    Example: `resolve("./my.py:score", [Path("/data")])` is `("/data/my.py:score", None)`,
    `resolve("my:score", [Path("/data")])` is `("my:score", Path("/data"))`.
    """
    module, attribute = split_name(name)
    if is_file_name(module):
        file = find_file(module, folders)
        if file is None:
            places = ", ".join(dict.fromkeys(str(folder.absolute()) for folder in folders))
            where = "" if Path(module).is_absolute() else f" in {places}"
            raise ValueError(f"{name}: no file {module}{where}")
        return f"{file}:{attribute}", None
    top = module.partition(".")[0]
    if is_installed(top):
        return name, None
    for folder in folders:
        spec = importlib.machinery.PathFinder.find_spec(top, [str(folder.absolute())])
        # A folder without __init__.py is a package for the modules in it alone.
        if spec is not None and (spec.loader is not None or "." in module):
            return name, folder.absolute()
    raise ValueError(f"{name}: no module {top}; {how_to_import(module, attribute)}")


def split_name(name: str) -> tuple[str, str]:
    """The module or file, and what in it. Raises `ValueError` for a name that has not both."""
    module, _, attribute = name.rpartition(":")
    if not module or not all(part.isidentifier() for part in attribute.split(".")):
        file = next(filter(is_file_name, (module, name)), "")
        raise ValueError(
            f"{name}: write it as {file or 'package.module'}:Name, with the name of the function "
            "or class"
        )
    if not is_file_name(module) and not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{name}: {module} is no module's name; a file is written ./file.py:Name")
    return module, attribute


def is_file_name(module: str) -> bool:
    return module.endswith(".py") or "/" in module


def find_file(file: str, folders: Sequence[Path] = (Path(),)) -> Path | None:
    """The absolute path of a file, relative ones searched for in `folders`."""
    for folder in folders:
        candidate = folder / Path(file).expanduser()
        if candidate.is_file():
            return Path(os.path.abspath(candidate))
    return None


def is_installed(top: str) -> bool:
    """Whether a process that does not import from the working directory finds the package."""
    if top in sys.builtin_module_names:
        return True
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # __main__ has no spec
        return False
    if spec is None:
        return False
    if "" not in sys.path:
        return True
    here = importlib.machinery.PathFinder.find_spec(top, [os.getcwd()])
    return here is None or here.origin != spec.origin


def how_to_import(module: str, attribute: str) -> str:
    file = f"./{module.rpartition('.')[2]}.py:{attribute}"
    return (
        f"put the module beside the config, write {file} with the path of its file, install its "
        "package, or add its folder to PYTHONPATH"
    )
