"""Settings every test shares, and what is dear to start: one Ray and one engine per process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch or transformers is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from shared_engine import SharedEngine
    from tiny_runs import TinyRuns
    from xdist.remote import Producer

# No test has a time limit: on a shared machine it would fail for reasons of its own.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

# Files that share what takes long to start are one chain: one process runs them in this order.
# Chains begin before everything else, the longest first.
CHAINS = (
    (
        "end_to_end/test_sft_to_rl.py",
        "end_to_end/test_interruption.py",
    ),
    (
        "rollouts/test_engine.py",
        "end_to_end/test_real_problems.py",
        "end_to_end/test_training.py",
        "end_to_end/test_rate.py",
        "end_to_end/test_distill.py",
        "end_to_end/test_bad_input.py",
        "end_to_end/test_plugin_rewards.py",
        "rollouts/test_dead_worker.py",
    ),
    (
        "rl/loop/test_training_run.py",
        "rl/loop/test_metrics.py",
        "rl/learner/test_learner.py",
        "rl/learner/test_learner_group.py",
        "rollouts/test_fleet.py",
        "evaluation/test_evaluate.py",
    ),
    ("kimi_vl_model/test_engine_parity.py",),
)
TESTS = Path(__file__).parent
assert all((TESTS / file).is_file() for chain in CHAINS for file in chain), "a file was moved"


def place(nodeid: str) -> tuple[int, int]:
    """(number of the chain that a test's file is in, its place there); all others come last."""
    file = nodeid.partition("::")[0].removeprefix(f"{TESTS.name}/")
    for number, chain in enumerate(CHAINS):
        if file in chain:
            return number, chain.index(file)
    return len(CHAINS), 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place(item.nodeid))


class ChainScheduling(LoadScopeScheduling):
    """Hands out whole chains, and the other tests file by file."""

    def _split_scope(self, nodeid: str) -> str:
        chain, _ = place(nodeid)
        return f"chain {chain}" if chain < len(CHAINS) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ChainScheduling:
    config.option.loadscopereorder = False
    return ChainScheduling(config, log)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """This process is connected to a private Ray cluster."""
    from kvl.rollouts.fleet import connect

    with connect():
        yield


@pytest.fixture(scope="session")
def shared_engine(
    cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedEngine]:
    from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
    from kvl.problems.synthetic.texts import written_texts
    from kvl.rollouts.weights.weight_buckets import FILE_PREFIX, SHARED_MEMORY
    from shared_engine import SharedEngine

    engine = SharedEngine(
        write_tiny_checkpoint(tmp_path_factory.mktemp("engine") / "tiny", written_texts())
    )
    yield engine
    engine.close()
    assert not list(SHARED_MEMORY.glob(f"{FILE_PREFIX}{os.getpid()}-*"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny checkpoint that was taught a little, problems and `rl.yaml`."""
    from tiny_runs import furnish

    folder = tmp_path_factory.mktemp("tiny_runs")
    furnish(folder)
    return folder


@pytest.fixture
def tiny(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> TinyRuns:
    """Runs `kvl-rl` in that folder on the tiny model itself, without Ray and without vLLM."""
    from tiny_runs import tiny_runs

    return tiny_runs(tiny_folder, monkeypatch)
