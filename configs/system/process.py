"""What holds for every process of a command."""

from __future__ import annotations

import os


def import_nothing_from_here() -> None:
    """Keep the working directory off the import path of the processes that this one starts.

    Python puts it first when it runs `-c` or `-m`, as pools and servers of processes do; a folder
    or file of the user's that is called `datasets` or `types.py` would be imported.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
