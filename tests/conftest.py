"""Settings every test shares; set before torch or transformers is imported."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "2")

from hypothesis import settings

# No test has a time limit: on a shared machine it would fail for reasons of its own.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
