"""Two gloo ranks, one of which has no image and no routes in its batch."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from kvl.configs.common import LoRAConfig
from kvl.kimi_vl_model.checkpoint import load_model, persistent_state
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.tuning.adapters import add_adapters, changing_tensors, merged_state
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

WRAPPERS = ("ddp", "fsdp2")
GRIDS = torch.tensor([[4, 6]])


def batch(model: KimiVLForConditionalGeneration, rank: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(rank)
    ids = torch.randint(0, 256, (1, 30), generator=generator)
    if rank:
        return {"input_ids": ids, "labels": ids}
    ids[0, 4:10] = model.config.media_placeholder_token_id
    pixels = torch.randn(24, 3, 14, 14, generator=generator)
    # Two layers with experts, each of which sends a token to two of eight.
    routes = torch.rand(30, 2, 8, generator=generator).topk(2).indices.to(torch.uint8)
    images = {"pixel_values": pixels, "image_grid_hws": GRIDS}
    return {"input_ids": ids, "labels": ids, "routes": routes, **images}


def sharded(model: KimiVLForConditionalGeneration) -> torch.nn.Module:
    for module in model.modules():
        if type(module).__name__ in (model._no_split_modules or ()):
            fully_shard(module)
    fully_shard(model)
    return model


def train_two_steps(rank: int, port: int, checkpoint: Path, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for wrapper in WRAPPERS:
        model = load_model(checkpoint).train()
        wrapped = DistributedDataParallel(model) if wrapper == "ddp" else sharded(model)
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            wrapped(**batch(model, rank)).loss.backward()
            optimizer.step()
        whole = {
            name: p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad  # pyright: ignore
            for name, p in model.named_parameters()
            if p.grad is not None
        }
        torch.save(whole, out / f"{wrapper}{rank}.pt")
        merged = adapted_two_steps(checkpoint, wrapper, rank)
        torch.save(merged, out / f"{wrapper}{rank}_merged.pt")
    dist.destroy_process_group()


def adapted_two_steps(checkpoint: Path, wrapper: str, rank: int) -> dict[str, torch.Tensor]:
    """Adapters trained on this rank's batch, or on both if it is alone; merged."""
    model = load_model(checkpoint).train()
    torch.manual_seed(0)
    add_adapters(model, LoRAConfig(rank=4, routed_experts=True))
    wrapped = model
    if wrapper != "alone":
        wrapped = DistributedDataParallel(model) if wrapper == "ddp" else sharded(model)
    optimizer = torch.optim.SGD((p for p in wrapped.parameters() if p.requires_grad), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        for turn in range(2) if wrapper == "alone" else (rank,):
            loss = wrapped(**batch(model, turn)).loss
            (loss / 2 if wrapper == "alone" else loss).backward()
        optimizer.step()
    return {name: tensor.clone() for name, tensor in merged_state(model, changing_tensors(model))}


def two_steps_alone(checkpoint: Path) -> dict[str, torch.Tensor]:
    model = load_model(checkpoint).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        for rank in range(2):
            (model(**batch(model, rank)).loss / 2).backward()
        optimizer.step()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_rank_without_images_keeps_in_step(checkpoint: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(train_two_steps, (port, checkpoint, tmp_path), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    expected = two_steps_alone(checkpoint)
    merged = adapted_two_steps(checkpoint, "alone", 0)
    base = dict(persistent_state(load_model(checkpoint)))
    assert all((tensor - base[name]).abs().max() > 1e-4 for name, tensor in merged.items())
    for wrapper in WRAPPERS:
        for rank in range(2):
            adapted = torch.load(tmp_path / f"{wrapper}{rank}_merged.pt")
            assert adapted.keys() == merged.keys()
            for name, tensor in merged.items():
                torch.testing.assert_close(adapted[name], tensor, atol=2e-6, rtol=0, msg=name)
            gradients = torch.load(tmp_path / f"{wrapper}{rank}.pt")
            assert gradients.keys() == expected.keys()
            for name, gradient in expected.items():
                torch.testing.assert_close(
                    gradients[name], gradient, atol=2e-6, rtol=1e-3, msg=name
                )
