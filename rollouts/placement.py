"""Where engines and learner ranks go: one reservation, made before any of them starts.

A Ray placement group holds a bundle for each process. It is there as a whole or not at all, so no
half of a run ever holds GPUs that the other half waits for.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ..configs.errors import KVLError
from ..configs.rollout import RolloutConfig
from .cluster import PRIVATE

# A cluster that others started may be busy, or grow: its autoscaler sees what is waited for.
WAIT_SECONDS = 300
_SAID_AFTER_SECONDS = 5
REMOVE_SECONDS = 5
# Without GPUs, engines and learner take turns on the same cores: each asks for a small share, so
# that a machine with two holds them all.
CPU_SHARE = 0.1


class PlacementError(KVLError):
    """The cluster has no room for the engines and the learner."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What is reserved.

    engine_gpus   of each engine, all on its node; 0 for engines on CPU
    ranks         of the learner, with a GPU each if the engines have some
    one_node      their weights go through that node's memory

    Example: `Needs(engines=1, engine_gpus=4, ranks=1, one_node=False)` are the bundles
    `[{"GPU": 4, "CPU": 1}, {"GPU": 1, "CPU": 1}]`, engines first.
    """

    engines: int
    engine_gpus: int
    ranks: int
    one_node: bool

    @property
    def bundles(self) -> list[dict[str, float]]:
        if not self.engine_gpus:
            return [{"CPU": CPU_SHARE}] * (self.engines + self.ranks)
        engine, rank = {"GPU": float(self.engine_gpus), "CPU": 1.0}, {"GPU": 1.0, "CPU": 1.0}
        return [engine] * self.engines + [rank] * self.ranks


@dataclass(frozen=True, slots=True)
class Placement:
    """A reservation: the options with which each actor is started in its own bundle."""

    needs: Needs
    group: Any

    def engine(self, index: int) -> dict[str, Any]:
        return self._options(index)

    def rank(self, rank: int) -> dict[str, Any]:
        return self._options(self.needs.engines + rank)

    def release(self) -> None:
        """Ends what still runs in it."""
        _remove(self.group)

    def _options(self, bundle: int) -> dict[str, Any]:
        resources = self.needs.bundles[bundle]
        return {
            "num_cpus": resources["CPU"],
            "num_gpus": resources.get("GPU", 0),
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                self.group,
                placement_group_bundle_index=bundle,
                placement_group_capture_child_tasks=False,
            ),
        }


def needs_of(rollout: RolloutConfig | None, ranks: int, cluster: Mapping[str, float]) -> Needs:
    """Of a run, an evaluation (no ranks) or a learner alone (no `rollout`). On GPUs if the cluster
    has any: never silently on none because they are too few."""
    engines = 0 if rollout is None else rollout.workers
    tensor_parallel = 1 if rollout is None else rollout.engine.tensor_parallel_size
    shared = rollout is not None and rollout.engine.weight_transfer != "nccl"
    on_gpu = cluster.get("GPU", 0) > 0
    return Needs(engines, tensor_parallel if on_gpu else 0, ranks, shared and ranks > 0)


def reserve(needs: Needs) -> Placement:
    """Waits up to WAIT_SECONDS where the cluster may become free or grow.

    Raises PlacementError with what is needed and what there is.
    """
    if PRIVATE in ray.cluster_resources() and not may_fit(needs, _nodes()):
        raise _no_room(needs)
    group = placement_group(needs.bundles, strategy="STRICT_PACK" if needs.one_node else "PACK")
    try:
        if _ready(group, _SAID_AFTER_SECONDS):
            return Placement(needs, group)
        said = describe(needs, _nodes(), ray.available_resources())
        print(f"waiting up to {WAIT_SECONDS} s for room: {said}", file=sys.stderr, flush=True)
        if _ready(group, WAIT_SECONDS):
            return Placement(needs, group)
        raise _no_room(needs)
    except BaseException:
        _remove(group)
        raise


def _remove(group: Any) -> None:
    """Where the head is gone there is nobody to ask: Ray would wait for it for a minute, and then
    end this process."""
    asking = threading.Thread(target=remove_placement_group, args=(group,), daemon=True)
    asking.start()
    asking.join(REMOVE_SECONDS)


def _ready(group: Any, seconds: int) -> bool:
    """One second at a time: no signal is heard while Ray waits."""
    return any(group.wait(1) for _ in range(seconds))


def may_fit(needs: Needs, nodes: Sequence[Mapping[str, float]]) -> bool:
    """False only if no arrangement on nodes with these resources holds the bundles, even when
    nothing else runs there."""
    for kind in ("GPU", "CPU"):
        wanted = [bundle.get(kind, 0) for bundle in needs.bundles]
        there = [node.get(kind, 0) for node in nodes]
        largest = max(there, default=0)
        total = largest if needs.one_node else sum(there)
        # Shares of cores add up to a little more than their sum.
        if sum(wanted) > total + 1e-6 or max(wanted, default=0) > largest:
            return False
    return True


def describe(needs: Needs, nodes: Sequence[Mapping[str, float]], free: Mapping[str, float]) -> str:
    """Example: "needs 5 GPUs in 2 bundles, the cluster has 4"."""
    said = []
    for kind in ("GPU", "CPU"):
        wanted = sum(bundle.get(kind, 0) for bundle in needs.bundles)
        there = [node.get(kind, 0) for node in nodes]
        total, left = sum(there), free.get(kind, 0)
        if not wanted or (said and wanted <= total):
            continue
        bundles = len(needs.bundles)
        text = f"needs {wanted:g} {kind}{'s' * (wanted != 1)} in {bundles} bundle"
        text += "s" * (bundles != 1) + (" on one node" if needs.one_node and bundles > 1 else "")
        text += f", the cluster has {total:g}"
        if len(nodes) > 1 and total:
            text += f" (nodes of {', '.join(f'{one:g}' for one in there)})"
        if left < total and wanted <= total:
            text += f", {left:g} of them free"
        said.append(text)
        if wanted > total:
            break
    return "; ".join(said)


def _no_room(needs: Needs) -> PlacementError:
    said = describe(needs, _nodes(), ray.available_resources())
    return PlacementError(f"{said}; {_fix(needs)}")


def _fix(needs: Needs) -> str:
    if not needs.engine_gpus:
        return "give its nodes CPUs (ray start --num-cpus), or wait until others have finished"
    fix = (
        "lower rollout.workers, rollout.engine.tensor_parallel_size or learner.world_size, or add "
        "nodes"
    )
    if needs.one_node:
        fix += " and set rollout.engine.weight_transfer: nccl, which reaches other nodes"
    if PRIVATE in ray.cluster_resources():
        fix += "; CUDA_VISIBLE_DEVICES= (empty) runs without GPUs"
    return fix


def _nodes() -> list[dict[str, float]]:
    """The resources of every living node, used or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
