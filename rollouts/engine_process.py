"""How an engine's process starts: its environment, and a clean server to fork it from.

vLLM reads these settings from the environment when it is imported and has no arguments for them.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import threading

from ..configs.rollout import EngineConfig
from ..configs.system.process import import_nothing_from_here

# Imported once, in parallel with the actor's own imports, by the server the engine forks from.
ENGINE_MODULES = ["vllm.v1.engine.core", "vllm.v1.worker.cpu_worker", "kvl.rollouts.vllm_model"]


def set_environment(config: EngineConfig, on_gpu: bool) -> None:
    """Process-wide settings; vLLM has no arguments for them."""
    import_nothing_from_here()  # also in the workers of a cluster that others started
    os.environ.update(
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        VLLM_NO_USAGE_STATS="1",
        KVL_ENGINE_OWNER=str(os.getpid()),
        # The first runner is the one the learner has been compared with; only the second one,
        # which needs Triton, returns routes.
        VLLM_USE_V2_MODEL_RUNNER=str(int(config.return_routes)),
    )
    # Its warnings are about choices made on purpose here; errors arrive as exceptions as well.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    if on_gpu:
        if config.weight_transfer == "ipc":
            # Its handles are not plain data, and they come from our own learner only.
            os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
        return
    os.environ.update(
        OMP_NUM_THREADS=str(config.threads),
        # The engine, the actor and the learner share the cores: none gets one for itself.
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_DISABLE_SHARED_EXPERTS_STREAM="1",
        # Keys and values per head, as in the learner: the CPU kernel for the compressed latent
        # does 8 times the work and allows no prefix caching.
        VLLM_MLA_DISABLE="1",
        # Waiting threads sleep: on shared cores spinning ones stop those they wait for.
        OMP_WAIT_POLICY="PASSIVE",
        GOMP_SPINCOUNT="0",
        # Else the first sampled token waits 20 s for inductor to compile a rank count.
        TORCHDYNAMO_DISABLE="1",
        TORCH_CPP_LOG_LEVEL="ERROR",
        # A weight update asks the system for a layer's memory anew, and in small pages that takes
        # longer than to copy the layer.
        THP_MEM_ALLOC_ENABLE=os.environ.get("THP_MEM_ALLOC_ENABLE", "1"),
        # It warns that there is no Triton, which a CPU does not need.
        TORCH_LOGS="-torch._library.triton",
    )


def start_engine_forkserver() -> None:
    """Start importing vLLM in a clean server process now; the engine is later forked from it.

    It halves the start: vLLM takes 7 s to import, and otherwise the engine process would begin
    only after the actor's own import. The server has no threads and no Ray connection, and it
    ends when this process does.
    """
    multiprocessing.set_forkserver_preload(ENGINE_MODULES)
    threading.Thread(target=multiprocessing.forkserver.ensure_running, daemon=True).start()


def fork_engines_from_forkserver() -> None:
    from vllm.v1.engine import utils

    utils.get_mp_context = lambda: multiprocessing.get_context("forkserver")  # pyright: ignore
