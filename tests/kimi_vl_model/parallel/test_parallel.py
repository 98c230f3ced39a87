"""Gloo ranks, one thread each, against one rank: the same losses, norms and weights."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from kvl.configs.common import LoRAConfig, OptimizerConfig
from kvl.configs.errors import CheckpointError, KVLError
from kvl.kimi_vl_model.checkpoint import export_checkpoint, iterate_tensors, load_model
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.parallel.loading import load_sharded
from kvl.kimi_vl_model.parallel.mesh import ParallelPlan
from kvl.kimi_vl_model.parallel.optimizer import ShardedOptimizer, clip_gradients
from kvl.kimi_vl_model.parallel.saved_state import load_state, save_state
from kvl.kimi_vl_model.slices import local_rows, whole
from kvl.kimi_vl_model.tuning.adapters import add_adapters, merged_state
from torch.distributed.tensor import DTensor

PACKS, STEPS = 4, 3
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    optimizer: str = "adamw"
    experts: int = 1
    lora: LoRAConfig | None = None
    recompute: bool = False
    compute: torch.dtype = torch.float32

    @property
    def config(self) -> OptimizerConfig:
        settings = {"name": self.optimizer, "learning_rate": 1e-4, "eps": 1e-4}
        return OptimizerConfig(**settings, weight_decay=0.1, max_grad_norm=0.5)

    def prepare(self, model: KimiVLForConditionalGeneration) -> KimiVLForConditionalGeneration:
        torch.manual_seed(7)
        if self.lora is not None:
            add_adapters(model, self.lora)
        if self.recompute:
            model.gradient_checkpointing_enable()
        return model.train()


ADAPTED = LoRAConfig(rank=3)
ROUTED = LoRAConfig(rank=2, routed_experts=True)
CASES = {
    "adamw": Case(),
    "adamw-ep2": Case(experts=2),
    "recomputed-ep2": Case(experts=2, recompute=True),
    "muon": Case("muon"),
    "muon-ep2": Case("muon", experts=2),
    "lora": Case(lora=ADAPTED),
    "lora-ep2": Case(lora=ADAPTED, experts=2),
    "lora-experts": Case(lora=ROUTED, recompute=True),
    "lora-muon": Case("muon", lora=ADAPTED),
}
FOUR_RANKS = ("adamw", "adamw-ep2", "adamw-ep4", "muon-ep2")
CASES["adamw-ep4"] = Case(experts=4)
CASES["bf16-ep2"] = Case(experts=2, compute=torch.bfloat16)
TWO_RANKS = tuple(name for name in CASES if name not in ("adamw-ep4",))


def batch(pad: int, number: int) -> dict[str, Any]:
    """Packs 0 and 2 hold an image, the others none."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(0, 256, (1, 20 + 5 * number), generator=generator)
    if number % 2:
        return {"input_ids": ids, "labels": ids}
    ids[0, 4:10] = pad
    pixels = torch.randn(24, 3, 14, 14, generator=generator)
    images = {"pixel_values": pixels, "image_grid_hws": torch.tensor([[4, 6]])}
    return {"input_ids": ids, "labels": ids, **images}


def step(
    model: KimiVLForConditionalGeneration, optimizer: ShardedOptimizer, rank: int, world: int
) -> tuple[float, float]:
    """(this rank's share of the loss, norm of all gradients)."""
    loss = 0.0
    for number in range(rank, PACKS, world):
        share = model(**batch(model.config.media_placeholder_token_id, number)).loss / PACKS
        (share * world).backward()
        loss += float(share.detach())
    norm = clip_gradients(optimizer.named.values(), optimizer.config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss, norm


def fixed_steps(
    model: KimiVLForConditionalGeneration, optimizer: ShardedOptimizer
) -> dict[str, torch.Tensor]:
    """The weights after steps whose gradients are the same numbers for any number of ranks."""
    generator = torch.Generator().manual_seed(11)
    for _ in range(STEPS):
        for parameter in optimizer.named.values():
            gradient = torch.randn(parameter.shape, generator=generator)
            if isinstance(parameter, DTensor):
                rows = local_rows(parameter)
                parameter.grad = DTensor.from_local(  # pyright: ignore[reportAttributeAccessIssue]
                    gradient[rows.start : rows.stop].contiguous(),
                    parameter.device_mesh,
                    parameter.placements,
                    run_check=False,
                    shape=parameter.shape,
                    stride=parameter.stride(),
                )
            else:
                parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()
    return weights(model)


def weights(model: KimiVLForConditionalGeneration) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in merged_state(model)}


def alone(case: Case, checkpoint: Path) -> tuple[KimiVLForConditionalGeneration, ShardedOptimizer]:
    model = case.prepare(load_model(checkpoint))
    return model, ShardedOptimizer(model, case.config)


def together(
    case: Case, checkpoint: Path, world: int
) -> tuple[KimiVLForConditionalGeneration, ShardedOptimizer]:
    model = load_sharded(
        checkpoint,
        ParallelPlan(world, case.experts),
        CPU,
        prepare=case.prepare,
        compute_dtype=case.compute,
    )
    assert isinstance(model, KimiVLForConditionalGeneration)
    return model, ShardedOptimizer(model, case.config)


def run_ranks(rank: int, world: int, port: int, checkpoint: Path, out: Path) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    for name in TWO_RANKS if world == 2 else FOUR_RANKS:
        case = CASES[name]
        model, optimizer = together(case, checkpoint, world)
        with torch.no_grad():  # leaves nothing whole behind
            model(**batch(model.config.media_placeholder_token_id, rank))
        parameters = list(model.parameters())
        found: dict[str, Any] = {
            "start": weights(model),
            "held": sum(p.to_local().numel() for p in parameters if isinstance(p, DTensor)),
            "all": sum(p.numel() for p in parameters),
            "sharded": all(isinstance(p, DTensor) for p in parameters),
            "steps": [step(model, optimizer, rank, world) for _ in range(STEPS)],
        }
        moments = [m for own in optimizer.state.values() for m in own.values() if m.ndim]
        found["moments"] = sum(moment.numel() for moment in moments)
        found["weights"] = weights(model)
        folder = out / f"{name}-{world}"
        save_state(folder, model, optimizer)
        step(model, optimizer, rank, world)
        found["after"] = weights(model)

        found["fixed"] = fixed_steps(*together(case, checkpoint, world))
        resumed, optimizer = together(case, checkpoint, world)
        load_state(folder, resumed, optimizer)
        step(resumed, optimizer, rank, world)
        found["resumed"] = weights(resumed)
        if name == "adamw-ep2":
            optimizer.replace_state({})
            save_state(out / f"stateless-{world}", resumed, optimizer)
            step(resumed, optimizer, rank, world)
            load_state(out / f"stateless-{world}", resumed, optimizer)
            found["states left"] = len(optimizer.state)
            state = merged_state(resumed)
            if rank == 0:
                export_checkpoint(state, checkpoint, out / f"exported-{world}")
            else:
                list(state)
        for source in (f"{name}-1", f"{name}-2"):  # of other numbers of ranks
            if world != int(source[-1]) and (out / source).exists():
                other, optimizer = together(case, checkpoint, world)
                load_state(out / source, other, optimizer)
                step(other, optimizer, rank, world)
                found[f"from {source[-1]}"] = weights(other)
        torch.save(found, out / f"{name}-{world}-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def reference(case: Case, checkpoint: Path, folder: Path) -> dict[str, Any]:
    """One rank, stepped by torch's own optimizers and clipped by torch."""
    model, optimizer = alone(case, checkpoint)
    start = weights(model)
    steps = [step(model, optimizer, 0, 1) for _ in range(STEPS)]
    after_three = weights(model)
    save_state(folder, model, optimizer)
    step(model, optimizer, 0, 1)
    after_four = weights(model)
    fixed = fixed_steps(*alone(case, checkpoint))
    return {
        "start": start,
        "steps": steps,
        "weights": after_three,
        "after": after_four,
        "fixed": fixed,
    }


@pytest.fixture(scope="module")
def results(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int, int], dict[str, Any]]:
    """(case, world, rank) → what it found; world 1 is the reference."""
    out = tmp_path_factory.mktemp("ranks")
    found: dict[tuple[str, int, int], Any] = {
        (name, 1, 0): {**reference(case, checkpoint, out / f"{name}-1"), "out": out}
        for name, case in CASES.items()
    }
    for world, names in ((2, TWO_RANKS), (4, FOUR_RANKS)):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        multiprocessing.spawn(run_ranks, (world, port, checkpoint, out), nprocs=world)  # pyright: ignore[reportPrivateImportUsage]
        for name in names:
            for rank in range(world):
                path = out / f"{name}-{world}-{rank}.pt"
                found[name, world, rank] = torch.load(path, weights_only=False)
    return found


RUNS = [(name, 2) for name in TWO_RANKS] + [(name, 4) for name in FOUR_RANKS]
EXACT = [run for run in RUNS if CASES[run[0]].compute == torch.float32]


def assert_trained_alike(
    found: dict[str, torch.Tensor], results: Any, name: str, stage: str
) -> None:
    """As one rank, to 1e-6. Muon makes directions whose gradient is rounding as long as any other,
    in bf16: in one rank, too, packs in another order end 4 % of what moved apart."""
    expected, start = results[name, 1, 0][stage], results[name, 1, 0]["start"]
    if CASES[name].optimizer == "adamw":
        assert_near(found, expected)
        return
    assert found.keys() == expected.keys()
    for tensor_name, tensor in expected.items():
        moved = (tensor - start[tensor_name]).norm()
        assert (found[tensor_name] - tensor).norm() <= 0.08 * moved + 1e-6, tensor_name


def assert_near(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-6
) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize(("name", "world"), EXACT)
def test_losses_norms_and_weights_equal_one_ranks(results: Any, name: str, world: int) -> None:
    expected = results[name, 1, 0]
    ranks = [results[name, world, rank] for rank in range(world)]
    assert_near(ranks[0]["start"], expected["start"], tolerance=0)
    for number, (loss, norm) in enumerate(expected["steps"]):
        exact = CASES[name].optimizer == "adamw"
        near, of_norm = (2e-6, 1e-5) if exact else (1e-3, 1e-2)
        assert sum(r["steps"][number][0] for r in ranks) == pytest.approx(loss, abs=near)
        for found in ranks:
            assert found["steps"][number][1] == pytest.approx(norm, rel=of_norm)
    for found in ranks:
        assert_trained_alike(found["weights"], results, name, "weights")
    moved = [
        name
        for name, tensor in expected["weights"].items()
        if (tensor - expected["start"][name]).abs().max() > 1e-5
    ]
    assert len(moved) > 10  # so that an unmoved weight does not pass for an equal one


@pytest.mark.parametrize(("name", "world"), RUNS)
def test_steps_along_given_gradients_equal_one_ranks(results: Any, name: str, world: int) -> None:
    for rank in range(world):
        assert_near(results[name, world, rank]["fixed"], results[name, 1, 0]["fixed"])


@pytest.mark.parametrize(("name", "world"), RUNS)
def test_every_parameter_and_moment_is_divided(results: Any, name: str, world: int) -> None:
    ranks = [results[name, world, rank] for rank in range(world)]
    assert all(found["sharded"] for found in ranks)
    assert sum(found["held"] for found in ranks) == ranks[0]["all"]
    assert max(found["held"] for found in ranks) < 1.1 * ranks[0]["all"] / world
    moments = [found["moments"] for found in ranks]
    assert max(moments) < 1.35 * sum(moments) / world


@pytest.mark.parametrize(("name", "world"), RUNS)
def test_a_resumed_run_is_bit_equal(results: Any, name: str, world: int) -> None:
    for rank in range(world):
        found = results[name, world, rank]
        assert_near(found["resumed"], found["after"], tolerance=0)


@pytest.mark.parametrize(("name", "world"), EXACT)
def test_state_of_one_world_goes_on_in_another(results: Any, name: str, world: int) -> None:
    found = results[name, world, 0]
    sources = [key for key in found if key.startswith("from ")]
    assert sources == ["from 1"] + (["from 2"] if world == 4 and name in TWO_RANKS else [])
    for source in sources:
        assert_trained_alike(found[source], results, name, "after")


@pytest.mark.parametrize(("name", "world"), EXACT)
def test_state_of_several_ranks_goes_on_in_one(
    results: Any, checkpoint: Path, name: str, world: int
) -> None:
    case, expected = CASES[name], results[name, 1, 0]
    model, optimizer = alone(case, checkpoint)
    load_state(expected["out"] / f"{name}-{world}", model, optimizer)
    assert_near(weights(model), results[name, world, 0]["weights"], tolerance=0)
    step(model, optimizer, 0, 1)
    assert_trained_alike(weights(model), results, name, "after")


@pytest.mark.parametrize("world", [2, 4])
def test_absent_moments_stay_absent(results: Any, world: int) -> None:
    assert [results["adamw-ep2", world, rank]["states left"] for rank in range(world)] == [
        0
    ] * world


@pytest.mark.parametrize("world", [2, 4])
def test_an_export_of_distributed_experts_has_the_source_s_names_and_shapes(
    results: Any, checkpoint: Path, world: int
) -> None:
    exported = results["adamw-ep2", 1, 0]["out"] / f"exported-{world}"
    shapes = {name: tensor.shape for name, tensor, _ in iterate_tensors(exported)}
    assert shapes == {name: tensor.shape for name, tensor, _ in iterate_tensors(checkpoint)}
    expected = results["adamw-ep2", 1, 0]["after"]
    assert_near(weights(load_model(exported)), expected)


def test_bf16_products_keep_fp32_weights_and_outputs(results: Any) -> None:
    expected, found = results["bf16-ep2", 1, 0], results["bf16-ep2", 2, 0]
    assert_near(found["start"], expected["start"], tolerance=0)
    assert all(tensor.dtype == torch.float32 for tensor in found["weights"].values())
    losses = [sum(results["bf16-ep2", 2, rank]["steps"][0][0] for rank in range(2))]
    assert losses[0] == pytest.approx(expected["steps"][0][0], rel=0.02)
    assert losses[0] != expected["steps"][0][0]


def test_state_that_does_not_fit_is_refused(results: Any, checkpoint: Path, tmp_path: Path) -> None:
    out = results["lora", 1, 0]["out"]
    other, optimizer = alone(Case(lora=LoRAConfig(rank=5)), checkpoint)
    with pytest.raises(CheckpointError, match=r"does not fit learner\.lora"):
        load_state(out / "lora-2", other, optimizer)
    plain, optimizer = alone(Case("muon"), checkpoint)
    with pytest.raises(CheckpointError, match=r"does not fit learner\.optimizer"):
        load_state(out / "adamw-2", plain, optimizer)
    with pytest.raises(CheckpointError, match="no complete learner state"):
        load_state(tmp_path, plain, optimizer)


@pytest.mark.parametrize("pattern", [".metadata", "*.distcp"])
@pytest.mark.parametrize("left", [0, 100])
def test_damaged_state_is_one_error_that_names_the_folder(
    checkpoint: Path, tmp_path: Path, pattern: str, left: int
) -> None:
    model, optimizer = alone(Case(), checkpoint)
    save_state(tmp_path / "state", model, optimizer)
    for file in (tmp_path / "state").glob(pattern):
        file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(CheckpointError, match="state: cannot be loaded"):
        load_state(tmp_path / "state", model, optimizer)


@pytest.mark.parametrize(("plan", "named"), [((6, 3), "8 experts"), ((6, 4), "6 ranks")])
def test_plans_that_do_not_divide_are_refused(plan: tuple[int, int], named: str) -> None:
    with pytest.raises(KVLError, match=named):
        ParallelPlan(*plan).check(8)


def test_a_tensor_of_one_rank_is_whole() -> None:
    tensor = torch.arange(6.0).view(3, 2)
    assert whole(tensor) is tensor
    assert list(local_rows(tensor)) == [0, 1, 2]
