"""TRL's SFTTrainer with this model's own loss, optimizer, checkpoints and metrics."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import save_file
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig as TRLConfig
from trl.trainer.sft_trainer import SFTTrainer

from ..configs.errors import KVLError
from ..configs.sft import SFTConfig
from ..configs.system.files import file_errors
from ..kimi_vl_model.checkpoint import SINGLE_FILE, persistent_state
from ..kimi_vl_model.modeling import KimiVLForConditionalGeneration
from ..kimi_vl_model.processing import KimiVLProcessor
from ..kimi_vl_model.routing import balance, expert_load, load_metrics, recorded_routes
from ..kimi_vl_model.tuning.optimizers import build_optimizer
from ..run_files.checkpoints import Checkpoints
from ..run_files.metrics_file import MetricsFile
from .collator import PackingCollator


def training_arguments(config: SFTConfig) -> TRLConfig:
    """TRL's settings for this config; raises KVLError if the batch does not divide into rows."""
    rows = config.gradient_accumulation
    if config.batch_size % rows:
        raise KVLError(
            f"batch_size {config.batch_size} does not divide into gradient_accumulation {rows} "
            "rows; make it a multiple"
        )
    return TRLConfig(
        output_dir=str(config.run_dir / "checkpoints"),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size // rows,
        gradient_accumulation_steps=rows,
        max_grad_norm=config.optimizer.max_grad_norm,
        learning_rate=config.optimizer.learning_rate,
        # The variant whose first step already moves the weights and whose last one is the floor.
        lr_scheduler_type="cosine_warmup_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": config.final_learning_rate_fraction},
        warmup_steps=config.warmup_fraction,
        use_cpu=not torch.cuda.is_available(),
        bf16=config.precision.mixed_precision == "bf16",
        gradient_checkpointing=config.activation_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=config.log_every,
        # A loss that is not finite has to be seen, not replaced by an average.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_every,
        seed=config.seed,
        report_to=[tracker for tracker in config.trackers if tracker != "tensorboard"],
        disable_tqdm=True,
        log_level="error",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


class KimiVLSFTTrainer(SFTTrainer):
    """SFTTrainer whose documents come ready-made and packed."""

    def __init__(
        self,
        config: SFTConfig,
        arguments: TRLConfig,
        model: KimiVLForConditionalGeneration,
        processor: KimiVLProcessor,
        dataset: Dataset,
        metrics: MetricsFile,
        checkpoints: Checkpoints,
        callbacks: list[TrainerCallback],
    ) -> None:
        self.config = config
        self.policy = model
        self.metrics = metrics
        self.checkpoints = checkpoints
        # Of training so far, over all sessions of the run.
        self.seconds = 0.0
        self.adapters: PeftModel | None = None
        self.tokens_since_log = 0
        # Tokens that each expert of each layer got: in this step, and since the last log.
        self.step_load_LE: torch.Tensor | None = None
        self.load_LE: torch.Tensor | None = None
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=dataset,
            processing_class=processor,
            data_collator=PackingCollator(processor.image_processor),
            callbacks=callbacks,
        )

    def _send_telemetry(self) -> None:
        """Nothing leaves the machine."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No generated README inside a training checkpoint."""

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not estimated: the walk over all parameters would be paid at every step."""
        return 0

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = build_optimizer(model or self.policy, self.config.optimizer)
        return self.optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The model's chunked loss, every labelled token of all rows and ranks weighing the same.

        transformers' version, because TRL's computes the accuracy of every token as well.
        """
        self.tokens_since_log += inputs["input_ids"].numel()
        result = super(SFTTrainer, self).compute_loss(
            model, inputs, return_outputs, num_items_in_batch
        )
        experts = self.policy.config.text_config.n_routed_experts
        load_LE = expert_load(recorded_routes(self.policy), experts)
        self.step_load_LE = load_LE if self.step_load_LE is None else self.step_load_LE + load_LE
        return result

    def _account_for_experts(self) -> None:
        """Close a step's count of tokens per expert over all ranks, and act on it if asked to."""
        if self.step_load_LE is None:
            return
        load_LE = torch.as_tensor(self.accelerator.reduce(self.step_load_LE, reduction="sum"))
        self.step_load_LE = None
        self.load_LE = load_LE if self.load_LE is None else self.load_LE + load_LE
        if self.config.load_balance_rate:
            balance(self.policy, load_LE, self.config.load_balance_rate)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        self.last_log = time.perf_counter()
        return super().train(resume_from_checkpoint, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add throughput, write metrics.jsonl, pass on.

        Raises KVLError for a loss or gradient that is not finite.
        """
        if "loss" not in logs:
            return
        now = time.perf_counter()
        here = torch.tensor(self.tokens_since_log, device=self.args.device)
        tokens = torch.as_tensor(self.accelerator.reduce(here, reduction="sum")).item()
        logs["tokens_per_second"] = round(tokens / (now - self.last_log), 1)
        self.seconds += now - self.last_log
        logs["seconds"] = round(self.seconds, 3)
        self.last_log, self.tokens_since_log = now, 0
        if self.load_LE is not None:
            logs.update(load_metrics(self.load_LE))
            self.load_LE = None
        super().log(logs, start_time)
        if self.is_world_process_zero():
            self.metrics.append({"step": self.state.global_step, **logs})
        if not math.isfinite(logs["loss"] + logs["grad_norm"]):
            raise KVLError(
                f"step {self.state.global_step}: the loss is {logs['loss']} and the gradient norm "
                f"{logs['grad_norm']}; lower optimizer.learning_rate"
            )

    def _run_epoch(self, **kwargs: Any) -> None:
        # A run killed between its last checkpoint and the export has nothing left to train;
        # transformers looks at max_steps only after one more step.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**kwargs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self._account_for_experts()
        # Logging comes first: it refuses to save broken weights, and the last step gets its line.
        self.control.should_log |= self.control.should_save
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.checkpoints.hidden(self.state.global_step))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write under a hidden name on all ranks, then publish at once."""
        step, first = self.state.global_step, self.args.should_save
        if first:
            self.checkpoints.begin(step)
        self.accelerator.wait_for_everyone()
        try:
            with file_errors(self.checkpoints.hidden(step)):
                super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if first:
                written = self.checkpoints.hidden(step) / f"checkpoint-{step}"
                self.checkpoints.publish(step, written)
        except BaseException:
            if first:
                self.checkpoints.give_up(step)
            raise
        self.accelerator.wait_for_everyone()

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """The plain state dict, fused experts and all, under the name that resuming reads.

        save_pretrained would rename and split tensors by its own rules; resuming wants the same
        bits under the same names. Frozen parameters still are those of the source checkpoint.
        """
        folder = Path(output_dir or self.args.output_dir or "")
        folder.mkdir(parents=True, exist_ok=True)
        state = state_dict or dict(persistent_state(self.policy))
        frozen = {name for name, p in self.policy.named_parameters() if not p.requires_grad}
        tensors = {n: t.detach().contiguous() for n, t in state.items() if n not in frozen}
        save_file(tensors, folder / SINGLE_FILE, metadata={"format": "pt"})
