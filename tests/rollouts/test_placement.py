"""Room for engines and learner: reserved as a whole, waited for with a limit, and named."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import ray
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.rollouts.placement import Needs, PlacementError, describe, may_fit, needs_of, reserve


def rollout(
    workers: int = 1, tensor_parallel_size: int = 1, weight_transfer: Any = "nccl"
) -> RolloutConfig:
    engine = EngineConfig(
        tensor_parallel_size=tensor_parallel_size, weight_transfer=weight_transfer
    )
    return RolloutConfig(workers=workers, engine=engine)


def gpus(*nodes: int) -> list[dict[str, float]]:
    return [{"GPU": count, "CPU": 16} for count in nodes]


def test_engines_and_ranks_get_a_bundle_each() -> None:
    needs = needs_of(rollout(2, tensor_parallel_size=4), 2, {"GPU": 8.0})
    engine, rank = {"GPU": 4, "CPU": 1}, {"GPU": 1, "CPU": 1}
    assert needs.bundles == [engine, engine, rank, rank]


def test_too_few_gpus_are_not_none() -> None:
    """A cluster with one GPU for two ranks once trained on its CPUs, and did not say so."""
    assert needs_of(rollout(), 2, {"GPU": 1.0}).engine_gpus == 1
    assert needs_of(rollout(), 2, {"CPU": 8.0}).engine_gpus == 0


def test_without_gpus_two_cores_are_room_for_eight_engines_and_a_learner() -> None:
    needs = needs_of(rollout(8, weight_transfer="shared_memory"), 2, {"CPU": 2.0})
    assert may_fit(needs, [{"CPU": 2}])
    assert all(bundle.keys() == {"CPU"} for bundle in needs.bundles)


@pytest.mark.parametrize(("transfer", "expected"), [("shared_memory", True), ("nccl", False)])
def test_weights_in_memory_bind_a_run_to_one_node(transfer: str, expected: bool) -> None:
    assert needs_of(rollout(weight_transfer=transfer), 1, {"GPU": 8.0}).one_node is expected
    assert not needs_of(rollout(weight_transfer=transfer), 0, {"GPU": 8.0}).one_node


@pytest.mark.parametrize(
    ("needs", "nodes", "free", "said"),
    [
        (Needs(1, 4, 1, False), (4,), 4, "needs 5 GPUs in 2 bundles, the cluster has 4"),
        (Needs(1, 1, 0, False), (), 0, "needs 1 GPU in 1 bundle, the cluster has 0"),
        (
            Needs(1, 4, 1, True),
            (4, 1),
            5,
            "needs 5 GPUs in 2 bundles on one node, the cluster has 5 (nodes of 4, 1)",
        ),
        (
            Needs(1, 1, 1, False),
            (4,),
            1,
            "needs 2 GPUs in 2 bundles, the cluster has 4, 1 of them free",
        ),
    ],
)
def test_what_is_needed_and_what_there_is_is_one_line(
    needs: Needs, nodes: tuple[int, ...], free: float, said: str
) -> None:
    assert describe(needs, gpus(*nodes), {"GPU": free, "CPU": 16}) == said


def test_a_lack_of_cores_is_named_where_gpus_are_enough() -> None:
    said = describe(Needs(1, 1, 3, False), [{"GPU": 4, "CPU": 2}], {"GPU": 4, "CPU": 2})
    assert said.endswith("; needs 4 CPUs in 4 bundles, the cluster has 2")


@pytest.mark.parametrize(
    ("needs", "nodes", "expected"),
    [
        (Needs(1, 4, 1, False), (4, 1), True),
        (Needs(1, 4, 1, False), (3, 2), False),
        (Needs(1, 4, 1, True), (4, 4), False),
        (Needs(2, 4, 1, False), (8,), False),
        (Needs(0, 1, 4, False), (2, 2), True),
        (Needs(1, 1, 0, False), (), False),
    ],
)
def test_hopeless_is_only_what_no_arrangement_holds(
    needs: Needs, nodes: tuple[int, ...], expected: bool
) -> None:
    assert may_fit(needs, gpus(*nodes)) is expected


def test_a_private_machine_is_refused_at_once_and_keeps_nothing(cluster: None) -> None:
    before = ray.available_resources().get("CPU")
    with pytest.raises(PlacementError, match=r"^needs 1000\.\d CPUs in 10002 bundles"):
        reserve(Needs(10_000, 0, 2, True))
    assert ray.available_resources().get("CPU") == before


# Ray believes in GPUs that are declared, and nothing here uses one.
TWO_NODES = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from kvl.rollouts import placement
from kvl.rollouts.placement import Needs, PlacementError, reserve

head = {"num_cpus": 4, "num_gpus": 4, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, connect=True, head_node_args=head)
placement.WAIT_SECONDS, placement._SAID_AFTER_SECONDS = 3, 1

@ray.remote
class Process:
    def where(self):
        context = ray.get_runtime_context()
        return context.get_node_id(), len(context.get_accelerator_ids()["GPU"])

def attempt(needs):
    try:
        return reserve(needs)
    except PlacementError as error:
        return str(error)

found = {"one node": attempt(Needs(1, 4, 1, False))}
other = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 * 2**20)
found["in one node's memory"] = attempt(Needs(1, 4, 1, True))
held = attempt(Needs(1, 4, 1, False))
engine = Process.options(**held.engine(0)).remote()
rank = Process.options(**held.rank(0)).remote()
(engine_node, engine_gpus), (rank_node, rank_gpus) = ray.get(
    [engine.where.remote(), rank.where.remote()]
)
found["gpus"] = engine_gpus, rank_gpus
found["rank on the other node"] = rank_node == other.node_id != engine_node
found["busy"] = attempt(Needs(1, 1, 0, False))
held.release()
again = attempt(Needs(1, 4, 1, False))
found["after release"] = not isinstance(again, str)
ray.shutdown()
cluster.shutdown()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def two_nodes() -> tuple[dict[str, Any], str]:
    """What a cluster of a node with four GPUs and, later, another with one answered."""
    ended = subprocess.run([sys.executable, "-c", TWO_NODES], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1]), ended.stderr


def test_a_cluster_that_is_too_small_is_waited_for_and_then_named(two_nodes: Any) -> None:
    found, stderr = two_nodes
    said = "needs 5 GPUs in 2 bundles, the cluster has 4"
    assert found["one node"].startswith(f"{said}; lower rollout.workers")
    assert f"waiting up to 3 s for room: {said}\n" in stderr


def test_one_node_is_not_two(two_nodes: Any) -> None:
    said = two_nodes[0]["in one node's memory"]
    assert said.startswith("needs 5 GPUs in 2 bundles on one node, the cluster has 5")
    assert "weight_transfer: nccl" in said


def test_every_actor_is_in_its_bundle(two_nodes: Any) -> None:
    found, _ = two_nodes
    assert found["gpus"] == [4, 1]
    assert found["rank on the other node"]


def test_gpus_in_use_are_named_and_free_after_release(two_nodes: Any) -> None:
    found, _ = two_nodes
    assert found["busy"].startswith("needs 1 GPU in 1 bundle, the cluster has 5 (nodes of ")
    assert "0 of them free" in found["busy"]
    assert found["after release"]
