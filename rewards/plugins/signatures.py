"""How a reward function is called: our own signature, verl's and TRL's, told apart by names.

    score(sample, **settings)                                          one sample
    compute_score(data_source, solution_str, ground_truth, extra_info) one sample, as verl calls it
    reward(completions, **columns)                                     one batch, as TRL calls it

Parameters that the run does not fill in are settings of the config.
"""

from __future__ import annotations

import inspect
import typing
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from ...configs.reward_entry import RewardEntry
from ..grading.reading.extraction import END_OF_TURN
from ..types import RewardBatch, Sample

Convention = Literal["kvl", "verl", "trl"]

_VERL = ("data_source", "solution_str", "ground_truth", "extra_info")
# The keys that every entry of a config's `rewards` has: they do not reach the function.
_ENTRY_KEYS = frozenset(RewardEntry.model_fields)
_STRICT = ConfigDict(extra="forbid", frozen=True)
_OPEN = ConfigDict(extra="allow", frozen=True)


class UnusableSignature(ValueError):
    """A function that no sample can be given to; the message says why."""


@dataclass(frozen=True, slots=True)
class Function:
    """A reward function with how it is called and the config of its settings."""

    target: Callable[..., Any]
    signature: inspect.Signature
    convention: Convention
    config: type[BaseModel]

    @property
    def per_sample(self) -> bool:
        return self.convention != "trl"

    @property
    def asynchronous(self) -> bool:
        """Whether its calls may be awaited together."""
        call = inspect.getattr_static(type(self.target), "__call__", None)
        return self.per_sample and any(map(inspect.iscoroutinefunction, (self.target, call)))

    def make(self, config: BaseModel) -> BoundFunction | BoundBatchFunction:
        settings = {
            field.alias or name: getattr(config, name)
            for name, field in type(config).model_fields.items()
        } | (config.model_extra or {})
        bound = BoundFunction if self.per_sample else BoundBatchFunction
        return bound(self, settings)


@dataclass(frozen=True, slots=True)
class BoundFunction:
    """A function of one sample with its settings."""

    function: Function
    settings: Mapping[str, Any]

    def __call__(self, sample: Sample) -> Any:
        if self.function.convention == "kvl":
            name = sample_parameter(self.function.signature)
            return _call(self.function, {**self.settings, name: sample})
        given = {name: value for name, value in self.settings.items() if name != "data_source"}
        arguments = _verl_arguments(sample, self.settings.get("data_source"))
        returned = _call(self.function, arguments | given)
        return _awaited_score(returned) if inspect.isawaitable(returned) else _score(returned)


@dataclass(frozen=True, slots=True)
class BoundBatchFunction:
    """TRL's kind of function with its settings: lists in, a list out."""

    function: Function
    settings: Mapping[str, Any]

    def grade(self, batch: RewardBatch) -> Any:
        settings = dict(self.settings)
        columns = _trl_columns(batch.samples, settings.pop("conversational"))
        return _call(self.function, {**columns, **settings})


def function_of(target: Callable[..., Any]) -> Function:
    """How `target` is called: a function, a partial, a bound method or an object with __call__.

    Raises `UnusableSignature`.
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError) as error:
        raise UnusableSignature(f"its parameters cannot be read ({error})") from None
    names = set(signature.parameters)
    if "completions" in names:
        convention = "trl"
    else:
        convention = "verl" if {"solution_str", "ground_truth"} <= names else "kvl"
    return Function(target, signature, convention, _config(target, signature, convention))


def sample_parameter(signature: inspect.Signature) -> str:
    """The parameter that takes the sample: the one of that name, else the first that can.

    Raises `UnusableSignature` if there is none.
    """
    parameters = signature.parameters.values()
    if "sample" in signature.parameters:
        return "sample"
    for parameter in parameters:
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            return parameter.name
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return "sample"
    raise UnusableSignature("its first parameter must be the sample")


def _config(
    target: Callable[..., Any], signature: inspect.Signature, convention: Convention
) -> type[BaseModel]:
    """The model of the settings: the parameters that the run does not fill in.

    Fields have neutral names and the parameters' names as aliases: a parameter may be called
    `copy` or `_limit`, a field of a pydantic model may not.
    """
    if convention == "kvl":
        filled_in = {sample_parameter(signature)}
    else:
        filled_in = set(_VERL if convention == "verl" else _trl_columns((), True))
    fields: dict[str, Any] = {}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in signature.parameters.items():
        if name in filled_in or parameter.kind in variadic:
            continue
        required = parameter.default is parameter.empty
        if required and name in _ENTRY_KEYS:
            raise UnusableSignature(
                f"its parameter {name} has the name of a key that every reward has; rename it"
            )
        annotation = _annotation(target, parameter)
        default = ... if required else parameter.default
        fields[name] = (annotation | None if default is None else annotation, default)
    if convention == "verl" and "data_source" in signature.parameters:
        fields["data_source"] = (str | None, None)
    if convention == "trl":
        fields["conversational"] = (bool, True)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    described: dict[str, Any] = {
        f"setting_{index}": (annotation, Field(default=default, alias=name))
        for index, (name, (annotation, default)) in enumerate(fields.items())
    }
    model: type[BaseModel] = create_model(
        f"{getattr(target, '__name__', type(target).__name__)}_settings",
        __config__=_OPEN if inspect.Parameter.VAR_KEYWORD in kinds else _STRICT,
        **described,
    )
    return model


def _annotation(target: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """What a setting must be; anything if the annotation is none that a config can be held to."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Any
    try:
        if isinstance(annotation, str):
            function = target if inspect.isroutine(target) else getattr(target, "func", target)
            annotation = typing.get_type_hints(function, include_extras=True)[parameter.name]
        TypeAdapter(annotation)
    except Exception:  # names that only type checkers import, numpy's types, …
        return Any
    return annotation


def _call(function: Function, arguments: Mapping[str, Any]) -> Any:
    """Call with arguments by name; what has no parameter goes into `**kwargs` or is left out."""
    bound = inspect.BoundArguments(function.signature, OrderedDict())
    left = dict(arguments)
    for name, parameter in function.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if name in left:
            value = left.pop(name)
            bound.arguments[name] = (
                (value,) if parameter.kind is parameter.VAR_POSITIONAL else value
            )
    for name, parameter in function.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound.arguments[name] = left
    return function.target(*bound.args, **bound.kwargs)


def _verl_arguments(sample: Sample, data_source: str | None) -> dict[str, Any]:
    return {
        "data_source": data_source or sample.problem_id.rpartition("/")[0] or sample.problem_id,
        "solution_str": _text(sample),
        "ground_truth": sample.answer,
        "extra_info": {
            "index": sample.problem_id,
            "question": sample.question,
            "answer": sample.answer,
            "answer_type": str(sample.answer_type),
            "options": list(sample.options),
            "tokens": sample.tokens,
            "truncated": sample.truncated,
            "correct": sample.correct,
        },
    }


def _trl_columns(samples: Sequence[Sample], conversational: bool) -> dict[str, Any]:
    """What TRL's trainer gives: a list for every column, and three arguments that are no column."""
    prompts: list[Any] = [sample.question for sample in samples]
    completions: list[Any] = [_text(sample) for sample in samples]
    answers = [sample.answer for sample in samples]
    if conversational:
        prompts = [[{"role": "user", "content": text}] for text in prompts]
        completions = [[{"role": "assistant", "content": text}] for text in completions]
    return {
        "prompts": prompts,
        "completions": completions,
        "problem_id": [sample.problem_id for sample in samples],
        "question": [sample.question for sample in samples],
        "answer": answers,
        "solution": answers,
        "ground_truth": answers,
        "answer_type": [str(sample.answer_type) for sample in samples],
        "options": [list(sample.options) for sample in samples],
        "tokens": [sample.tokens for sample in samples],
        "truncated": [sample.truncated for sample in samples],
        "correct": [sample.correct for sample in samples],
        "trainer_state": None,
        "log_extra": _log_nothing,
        "log_metric": _log_nothing,
    }


def _log_nothing(name: str, value: Any) -> None:
    """What TRL's functions log goes to its trainer's tables, which a run here has not."""


def _text(sample: Sample) -> str:
    """The response as verl and TRL decode it: without special tokens at its end."""
    return sample.response.removesuffix(END_OF_TURN)


def _score(returned: Any) -> Any:
    """verl's functions return a number, or a dict with it as "score" and details for its logs."""
    if isinstance(returned, Mapping) and "score" in returned:
        return returned["score"]
    return returned


async def _awaited_score(returned: Awaitable[Any]) -> Any:
    return _score(await returned)
