"""The config tree of `kvl-rl train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from . import objectives
from .base import SettingsError, StrictModel, settings_error
from .common import (
    ProblemSource,
    Tracker,
    WeightedSource,
)
from .errors import ConfigError
from .learner import CorrectionConfig, LearnerConfig, PTXConfig
from .reward_entry import RewardEntry
from .rollout import RolloutConfig


class Ramp(StrictModel):
    """A straight line from `start` at iteration 0 to `end` at iteration `iterations`."""

    start: PositiveFloat
    end: PositiveFloat
    iterations: PositiveInt


class ScheduleConfig(StrictModel):
    """What changes over the iterations; what is absent stays at its own setting."""

    temperature: Ramp | None = Field(default=None, description="up to 2, as vLLM samples")
    max_response_tokens: Ramp | None = Field(
        default=None, description="up to rollout.max_response_tokens"
    )
    learning_rate: Ramp | None = None

    @field_validator("temperature")
    @classmethod
    def _can_be_sampled(cls, value: Ramp | None) -> Ramp | None:
        if value is not None and max(value.start, value.end) > 2:
            raise ValueError(f"{max(value.start, value.end):g} is too hot: vLLM samples up to 2")
        return value


class ChoosingConfig(StrictModel):
    """Which problems an iteration asks for; formulas and sources in docs/choosing.md."""

    curriculum: Literal["uniform", "easy_to_hard", "uniform_then_hard"] = "uniform"
    curriculum_iterations: PositiveInt = Field(
        default=24,
        description="easy_to_hard: until the hardest are reached; uniform_then_hard: the switch",
    )
    hard_from: float = Field(
        default=0.5, ge=0, le=1, description="least difficulty of a hard problem"
    )
    prioritized: bool = Field(default=False, description="P(j) in proportion to 1 − s_j")
    uniform_share: float = Field(
        default=0.1, ge=0, le=1, description="ε, the part of P that is the same for all problems"
    )
    success_rate_step: float = Field(
        default=0.5, gt=0, le=1, description="how far s_j moves to the newest accuracy"
    )
    capped_after: PositiveInt = Field(
        default=4, description="visits without a right response after which only ε/N is left"
    )


class GraderConfig(StrictModel):
    """The grader behind raw accuracy: math-verify in killable processes."""

    workers: PositiveInt = 1
    timeout_seconds: PositiveFloat = Field(default=2.0, description="of one comparison")


class ObjectiveConfig(BaseModel):
    """The policy objective: a built-in name or `package.module:function`.

    The other keys are the objective's own settings; they are checked by its config.
    """

    model_config = ConfigDict(
        extra="allow", frozen=True, validate_default=True, allow_inf_nan=False
    )

    OTHER_KEYS: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(key for one in objectives.BUILTIN.values() for key in one.model_fields)
    )

    name: str = Field(
        default="mirror_descent",
        description=f"{', '.join(objectives.BUILTIN)}, or package.module:function",
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The objective's own, as given or with its defaults; `rl/learner/objectives.py` makes its
        config of them."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any, info: ValidationInfo) -> Any:
        """With the objective's defaults, so that a saved config says all that was used."""
        if not isinstance(given, dict) or not isinstance(
            name := given.get("name", "mirror_descent"), str
        ):
            return given
        if (model := objectives.BUILTIN.get(name)) is None:
            if ":" not in name:
                known = ", ".join(objectives.BUILTIN)
                raise SettingsError(
                    [
                        (
                            "name",
                            f"no objective {name!r}: known are {known}; your own is written as "
                            "package.module:function",
                        )
                    ]
                )
            # The learner is another room: the command that trains hands over how to find it.
            if (find := (info.context or {}).get("objective_config")) is None:
                return given
            try:
                model = find(name)
            except ConfigError as error:
                raise SettingsError([("name", str(error))]) from None
        try:
            settings = model.model_validate({k: v for k, v in given.items() if k != "name"})
        except ValidationError as error:
            raise settings_error(error, name, model) from None
        return {"name": name, **settings.model_dump(mode="json")}


class EvalConfig(StrictModel):
    """Evaluation on held-out problems before the first and after the last iteration."""

    problems: ProblemSource
    samples: PositiveInt = 4
    temperature: PositiveFloat = 1.0
    every: PositiveInt | None = Field(default=None, description="also every n iterations")
    keep_best: Literal["pass_at_1", "greedy"] | None = Field(
        default=None, description="export run_dir/best whenever this improves; needs `every`"
    )

    @model_validator(mode="after")
    def _best_of_several(self) -> EvalConfig:
        if self.keep_best is not None and self.every is None:
            raise ValueError("evaluation.keep_best compares evaluations: set evaluation.every")
        return self


# Between what equal weights measure and what a missing tensor does: benchmarks/agreement.py.
MISMATCH_TOLERANCE = 2e-3
MISMATCH_TOLERANCE_BF16 = 5e-2

RENAMED = {
    "sampling": "choosing",
    "reward": "grader (grader_workers: workers, grader_timeout_seconds: timeout_seconds) and "
    "reward_combination (combination)",
}
_SOURCES = TypeAdapter(tuple[WeightedSource, ...])


class RLConfig(StrictModel):
    """Online policy mirror descent (Kimi k1.5 §2.3, Kimi-VL §2.4)."""

    run_dir: Path
    checkpoint: Path = Field(description="the checkpoint folder to start from")
    problems: WeightedSource | tuple[WeightedSource, ...] = Field(
        description="a source, or a list of sources with weights"
    )
    choosing: ChoosingConfig = ChoosingConfig()
    evaluation: EvalConfig | None = None
    iterations: PositiveInt = 100
    rollout: RolloutConfig = RolloutConfig()
    rewards: tuple[RewardEntry, ...] = Field(
        default=(RewardEntry(type="accuracy"),), description="a list, summed by weight"
    )
    reward_combination: Literal["sum", "gated"] = Field(
        default="sum", description="gated: only correct responses get more than their accuracy"
    )
    grader: GraderConfig = GraderConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    correction: CorrectionConfig = CorrectionConfig()
    ptx: PTXConfig | None = None
    learner: LearnerConfig = LearnerConfig()
    mismatch_tolerance: PositiveFloat | None = Field(
        default=None,
        description="largest mean |log π − log μ| of engine and learner on sampled tokens; by "
        "default of the precisions, from benchmarks/results/agreement.json",
    )
    probe_problems: PositiveInt = 4
    checkpoint_every: PositiveInt = 10
    keep_checkpoints: PositiveInt = 2
    transcripts_per_iteration: NonNegativeInt = Field(
        default=2, description="groups written as JSONL"
    )
    seed: int = 0
    trackers: tuple[Tracker, ...] = ("tensorboard",)

    @model_validator(mode="before")
    @classmethod
    def _names_of_today(cls, given: Any) -> Any:
        for old, new in RENAMED.items():
            if isinstance(given, dict) and old in given:
                raise ValueError(f"{old} is called {new} since version 0.2: rename it")
        return given

    @property
    def tolerance(self) -> float:
        """`mismatch_tolerance`, which is a number once a config is loaded."""
        assert self.mismatch_tolerance is not None
        return self.mismatch_tolerance

    @model_validator(mode="after")
    def _tolerance_of_the_precisions(self) -> RLConfig:
        if self.mismatch_tolerance is None:
            precisions = (self.rollout.engine.dtype, self.learner.precision.mixed_precision)
            exact = precisions == ("float32", "no")
            tolerance = MISMATCH_TOLERANCE if exact else MISMATCH_TOLERANCE_BF16
            # The config is frozen once it is loaded, and this is part of loading it.
            object.__setattr__(self, "mismatch_tolerance", tolerance)
        return self

    @property
    def sources(self) -> tuple[WeightedSource, ...]:
        """`problems` as a list, also when it is a single source."""
        return self.problems if isinstance(self.problems, tuple) else (self.problems,)

    @field_validator("rewards")
    @classmethod
    def _some_reward(cls, value: tuple[RewardEntry, ...]) -> tuple[RewardEntry, ...]:
        # Not min_length: pydantic counts after it left out the entries that are wrong.
        if not value:
            raise ValueError("no reward is listed; add `- type: accuracy`")
        return value

    @field_validator("problems", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        # Decided here, because the errors of a union name its members instead of the field.
        if not isinstance(value, list | tuple):
            return WeightedSource.model_validate(value)
        if not value:
            raise ValueError("no source is listed; add `- path: …`")
        return _SOURCES.validate_python(value)

    @model_validator(mode="after")
    def _curriculum_fits(self) -> RLConfig:
        phase = self.choosing.curriculum_iterations
        if self.choosing.curriculum != "uniform" and phase >= self.iterations:
            raise ValueError(
                f"choosing.curriculum_iterations ({phase}) must be smaller than iterations "
                f"({self.iterations}), else {self.choosing.curriculum} never gets to its end"
            )
        return self

    @model_validator(mode="after")
    def _partial_rollouts_fit(self) -> RLConfig:
        rollout = self.rollout
        if (rollout.truncated == "continue") != (rollout.max_total_tokens is not None):
            raise ValueError(
                "rollout.truncated: continue and rollout.max_total_tokens go together: set both, "
                "or neither"
            )
        if rollout.max_total_tokens is None:
            return self
        if not rollout.max_response_tokens <= rollout.max_total_tokens:
            raise ValueError(
                f"rollout.max_total_tokens ({rollout.max_total_tokens}) must be at least "
                f"rollout.max_response_tokens ({rollout.max_response_tokens}), the cap of one "
                "iteration"
            )
        if rollout.max_total_tokens >= rollout.engine.max_model_len:
            raise ValueError(
                f"rollout.max_total_tokens ({rollout.max_total_tokens}) must be smaller than "
                f"rollout.engine.max_model_len ({rollout.engine.max_model_len}): the prompt needs "
                "room too"
            )
        if rollout.degenerate_groups == "refill":
            raise ValueError(
                "rollout.degenerate_groups: refill does not go with rollout.truncated: continue, "
                "whose groups end in another iteration: choose one"
            )
        return self

    @model_validator(mode="after")
    def _replayed_routes_are_returned(self) -> RLConfig:
        if self.correction.routing_replay and not self.rollout.engine.return_routes:
            raise ValueError(
                "correction.routing_replay needs the engine's routes: set "
                "rollout.engine.return_routes: true"
            )
        return self

    @model_validator(mode="after")
    def _responses_fit(self) -> RLConfig:
        if self.rollout.max_response_tokens >= self.rollout.engine.max_model_len:
            raise ValueError(
                f"rollout.max_response_tokens ({self.rollout.max_response_tokens}) must be smaller "
                f"than rollout.engine.max_model_len ({self.rollout.engine.max_model_len}): "
                "the prompt needs room too"
            )
        cap = self.schedule.max_response_tokens
        if cap is not None and max(cap.start, cap.end) > self.rollout.max_response_tokens:
            raise ValueError(
                f"schedule.max_response_tokens rises to {max(cap.start, cap.end):g}, above "
                f"rollout.max_response_tokens ({self.rollout.max_response_tokens}): raise that too"
            )
        if self.learner.minibatches > self.rollout.problems_per_iteration:
            raise ValueError(
                f"learner.minibatches ({self.learner.minibatches}) exceeds "
                f"rollout.problems_per_iteration ({self.rollout.problems_per_iteration}): "
                "a minibatch holds whole groups"
            )
        return self
