"""The KubeRay manifest against the part of the RayCluster schema that it uses.

The schema below is our own, written after the field names and types of KubeRay's v1 API: the tests
have no network and no cluster to ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

MANIFEST = Path(__file__).parents[2] / "examples/kubernetes/raycluster.yaml"


def closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "additionalProperties": False,
    }


def many(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
VARIABLE = closed(
    {"name": TEXT},
    value=TEXT,
    valueFrom=closed({"secretKeyRef": closed({"name": TEXT, "key": TEXT})}),
)
CONTAINER = closed(
    {"name": TEXT, "image": TEXT, "resources": closed({"requests": TEXTS, "limits": TEXTS})},
    env=many(VARIABLE),
    ports=many(closed({"name": TEXT, "containerPort": {"type": "integer", "maximum": 65535}})),
    volumeMounts=many(closed({"name": TEXT, "mountPath": TEXT})),
)
VOLUME = closed(
    {"name": TEXT},
    persistentVolumeClaim=closed({"claimName": TEXT}),
    emptyDir=closed({"medium": {"const": "Memory"}, "sizeLimit": TEXT}),
)
POD = closed({"spec": closed({"containers": many(CONTAINER)}, volumes=many(VOLUME))})
HEAD = closed(
    {"rayStartParams": TEXTS, "template": POD},
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
)
WORKERS = closed(
    {"groupName": TEXT, "rayStartParams": TEXTS, "template": POD},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
)
RAY_CLUSTER = closed(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayCluster"},
        "metadata": closed({"name": TEXT}),
        "spec": closed({"headGroupSpec": HEAD}, workerGroupSpecs=many(WORKERS), rayVersion=TEXT),
    }
)


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return {part["kind"]: part for part in yaml.safe_load_all(MANIFEST.read_text())}


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_cluster_has_the_fields_and_types_that_kuberay_takes(parts: dict[str, Any]) -> None:
    jsonschema.validate(parts["RayCluster"], RAY_CLUSTER)
    for group in parts["RayCluster"]["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_clusters_ray_is_the_one_that_is_tested_here(parts: dict[str, Any]) -> None:
    assert parts["RayCluster"]["spec"]["rayVersion"] == ray.__version__


def test_every_pod_has_the_token_the_shared_folder_and_large_shared_memory(
    parts: dict[str, Any],
) -> None:
    for pod in pods(parts["RayCluster"]):
        (container,) = pod["containers"]
        variables = {one["name"]: one for one in container["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        secret = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret["name"] == parts["Secret"]["metadata"]["name"]
        assert secret["key"] in parts["Secret"]["stringData"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        claim = volumes["shared"]["persistentVolumeClaim"]["claimName"]
        assert claim == parts["PersistentVolumeClaim"]["metadata"]["name"]
        assert {"/shared", "/dev/shm"} == {m["mountPath"] for m in container["volumeMounts"]}


def test_several_pods_write_to_the_shared_folder(parts: dict[str, Any]) -> None:
    assert parts["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
