"""How training processes wait for each other's threads on a shared CPU."""

from __future__ import annotations

import os

# OpenMP threads spin at barriers by default. When the engine or anyone else wants the core, the
# spinning thread keeps the working one off it and a step takes ten times as long.
THREAD_SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def settle_threads() -> None:
    """Apply the settings to this process; only works before torch is imported."""
    for name, value in THREAD_SETTINGS.items():
        os.environ.setdefault(name, value)
