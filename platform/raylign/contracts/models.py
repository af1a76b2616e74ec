"""Models as the loop sees them: learners, frozen models, and a version of the policy on its way to the engines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raylign.batch import Batch
from raylign.contracts.part import Part
from raylign.records import Float32s, Int32s, Message, Missing, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUpdate:
    """One version of the policy on its way to the rollout engines.

    `buffer`: object-store reference to a flat uint8 array; `layout`: name, dtype, shape, offset; `digests`: of each
    tensor's bytes, by name; `probe_ids` [R, L], `probe_logprobs` [R, L - 1]: rows, the learner's of their later ids.
    `adapter`: it is a LoRA adapter with these settings (peft's), for the weights of the update `on`.
    """

    version: int
    buffer: Any
    layout: tuple[tuple[str, str, tuple[int, ...], int], ...]
    digests: Mapping[str, str]
    probe_ids: Int32s
    probe_logprobs: Float32s
    adapter: Mapping[str, Any] | None = None
    on: WeightUpdate | None = None


class FrozenStream(Protocol):
    """Frozen models that fill one named stream of a batch: a reference, or teachers routed by domain."""

    async def stream(self, batch: Batch, prompts: Sequence[Prompt]) -> Float32s:
        """[N] log-prob of every loss token, 0 elsewhere. ``prompts[g]`` is the prompt of the rows of group g.

        A row that could not be scored is NaN on all of its loss tokens.
        """


class FrozenModelContext(Part):
    """What a frozen model reads before the sampled tokens, in place of the prompt that the policy read."""

    what = "a frozen model's context"
    max_missing: float = 0.0  # share of the rows of one step without a context that ends the run

    @abstractmethod
    async def messages(self, prompt: Prompt, response: str) -> tuple[Message, ...] | Missing:
        """The conversation that the sampled ids are appended to; Missing: the row stays unscored.

        response: the sampled text of the row, without special tokens.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerUpdate:
    """What one optimiser step came to."""

    metrics: Mapping[str, float]
    logprobs: Float32s | None = None  # [N] of every loss token in its forward pass, before the step; 0 elsewhere


class Learner(Protocol):
    """A group of ranks that trains one model. Knows no algorithm by name."""

    @property
    def fills(self) -> frozenset[str]:
        """Streams that `streams` can give: what the model's forward kind computes for a token.

        A policy gives ``old_logprob``, the log-prob of every token given what precedes it at the sampling temperature;
        a critic ``value``, of the state before the token is sampled.
        """

    async def streams(self, batch: Batch, names: Collection[str]) -> Mapping[str, Float32s]:
        """[N] for each name, 0 off the loss mask."""

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        """One optimiser step on the whole batch. `objective` is a `_target_` node."""

    async def publish(self, version: int) -> WeightUpdate:
        """The weights as they are now, with a probe that proves them."""

    async def save(self, folder: str) -> None:
        """Write weights, optimizer, schedule and random state; bit-exact."""

    async def restore(self, folder: str) -> None:
        """Go on from what `save` wrote."""

    async def export(self, folder: str) -> None:
        """Write a Hugging Face folder: safetensors, config, tokenizer, chat template."""
