"""What the parts promise each other. Actors and recipes implement these; the loop knows nothing else.

A part is a class with a nested ``Config`` dataclass and ``__init__(self, config)``. YAML names it by ``_target_`` and
`raylign.config.build.build` makes it, so that a typo in any field of any part is an error before work starts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from raylign.chat.template import ChatTemplate
from raylign.columns import Columns
from raylign.records import Float32s, Group, Int32s, Message, Missing, Prompt, Reward, StopReason, Trajectory, Value

if TYPE_CHECKING:
    import torch


# ----------------------------------------------------------------------------------------------------- prompts


class PromptSource(Protocol):
    """Where prompts come from: a data set cursor, a curriculum, a composer. Runs in the controller."""

    def next(self, n: int) -> list[Prompt]:
        """The next n prompts. Wraps around at the end of an epoch (with `visit` + 1)."""

    def observe(self, groups: Sequence[Group]) -> None:
        """Learn from all groups of a step, those that dynamic sampling dropped included (curricula)."""

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Learn from a held-out evaluation (``eval/score``) of the policy as it is after the last observed step."""

    def metrics(self) -> dict[str, float]:
        """What to log after `observe`; the loop puts ``source/`` before each name."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to hand out the same prompts after a restart (JSON types only)."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo a restart."""


# ----------------------------------------------------------------------------------------------------- rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample one completion. Log-probs are always those of the distribution that was sampled from.

    `structure` constrains the output: {"json": schema}, {"regex": pattern} or {"choice": [..]}.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0 = off
    stop: tuple[str, ...] = ()
    structure: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the engine returns for one request."""

    token_ids: Int32s  # [R]
    logprobs: Float32s  # [R]
    versions: Int32s  # [R]
    stop: StopReason
    text: str


class Policy(Protocol):
    """The engine as a strategy sees it."""

    @property
    def tokenizer(self) -> Any:
        """The policy's Hugging Face tokenizer."""

    @property
    def template(self) -> ChatTemplate:
        """The policy's chat template, with the arguments that the run gives it."""

    @property
    def max_context(self) -> int:
        """Tokens of prompt and response together that the engine takes."""

    async def generate(self, token_ids: Sequence[int] | Int32s, sampling: Sampling, seed: int) -> Completion:
        """One completion of the given ids."""

    async def score(self, token_ids: Sequence[int] | Int32s, start: int) -> Float32s:
        """Log-probs of ``token_ids[start:]`` given what precedes each, temperature 1. start >= 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutTask:
    """One prompt to be rolled out n times, with the sampling to use. Seeds derive from `run_seed` and the prompt.

    `indices` restricts the task to some of its n draws: what is left to do after a worker died.
    """

    prompt: Prompt
    n: int
    sampling: Sampling
    run_seed: int
    greedy: bool = False  # evaluation at temperature 0
    training: bool = True  # False: an evaluation; a strategy that searches for training data then samples plainly
    indices: tuple[int, ...] | None = None  # None: all of 0 .. n - 1

    @property
    def draws(self) -> tuple[int, ...]:
        """The sample indices to draw."""
        return tuple(range(self.n)) if self.indices is None else self.indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A draw that could not be made (prompt longer than the context, lost world); its rewards are Missing, never 0.

    Example: ``Refused(sample_index=3, reason="the prompt has 900 tokens; with a context of 512 at most 511 fit")``
    """

    sample_index: int
    reason: str


class RolloutStrategy(Protocol):
    """How a prompt becomes trajectories: a coroutine against a policy. Runs on the rollout worker's event loop.

    A part made as ``Strategy(config, environments=...)``; `environments` is None in a run without an environment.
    """

    def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory | Refused]:
        """Yield each trajectory the moment it is finished, in any order.

        A RequestError refuses all draws that are still outstanding, a `Refused` only its own.
        """


# ------------------------------------------------------------------------------------------------------ reward


class Scope(StrEnum):
    """What a reward function looks at in one call."""

    TRAJECTORY = "trajectory"  # scored the moment it finishes, while its neighbours still generate
    GROUP = "group"  # all samples of a prompt at once


class RewardFunction(ABC):
    """Scores trajectories. Runs in a reward actor, which adds the deadline, the retries and `Missing`.

    A score that cannot be computed is an exception, never a zero.
    """

    # Set by a class, or by an instance whose Config chooses.
    scope: Scope = Scope.TRAJECTORY
    isolated: bool = False  # True: each call runs in a killable child process
    maximum: float = 1.0  # what a gold answer scores
    cpu_s: float | None = None  # of an isolated function: a verdict that spends more CPU seconds is a wrong answer, 0
    judges_text: bool = True  # False: needs what a rollout left behind (turn rewards, tool results); no text proves it

    @abstractmethod
    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> Sequence[Value | None]:
        """One value per trajectory (one trajectory for scope `trajectory`), None where the reward does not apply.

        Raises on anything it cannot judge.
        """

    def cpu_limit(self, prompt: Prompt) -> float | None:
        """CPU seconds that a verdict on this prompt may take; None: only the pool's deadline holds."""
        return self.cpu_s

    def gold(self, prompt: Prompt) -> str | None:
        """A response that must score `maximum`, or None when the prompt has none."""
        return None

    def wrong(self, prompt: Prompt) -> str | None:
        """A response that must score less than `maximum`, or None."""
        return None


class RewardShaper(Protocol):
    """Turns the rewards of a group into the scores that credit works on; may keep state across steps."""

    def shape(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with their `scores` filled in; None where a reward is missing."""

    def state_dict(self) -> dict[str, Any]:
        """State that a checkpoint must carry (JSON types only)."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo a restart."""


class GroupSelector(Protocol):
    """Chooses what a step learns from, between shaper and credit: trajectories of groups, and groups.

    A part made as ``Selector(config, seed=run seed)``. It remembers nothing: what it draws by lot derives from the seed
    and the prompts' keys.
    """

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """Some of the groups with some of their trajectories, in their old order. Scores are filled in, or None."""


class Credit(ABC):
    """Scores -> per-token advantages."""

    reads_scores: ClassVar[bool] = True  # False: dense rewards of other models; a row without a score (NaN) is one too
    compares_group: ClassVar[bool] = False  # True: a row is compared with the others of its group, so a group needs two

    @property
    def needs(self) -> frozenset[str]:
        """The extra streams that it reads: ``value``, ``old_logprob``, or one that a scorer fills."""
        return frozenset()

    @abstractmethod
    def assign(self, batch: Columns, scores: Float32s) -> tuple[Columns, dict[str, float]]:
        """The batch with its `advantage` stream (and `return`, for a critic) filled in, and metrics.

        scores: [B] one scalar per row. Rows of one group have the same number in ``batch.groups``.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """The loss positions of one micro-batch, as tensors of length K on the learner's device.

    `logprob` and `values` carry gradient. `segment` numbers the rows of the micro-batch 0..rows-1; a row is never
    split over micro-batches. Streams are those of the batch, gathered at the same positions.
    """

    streams: Mapping[str, torch.Tensor]  # name -> [K]
    segment: torch.Tensor  # [K] int64
    rows: int
    logprob: torch.Tensor | None = None  # [K] of the sampled id, temperature-scaled as the sampler's
    entropy: torch.Tensor | None = None  # [K] of the same distribution
    values: torch.Tensor | None = None  # [K] scalar_head only

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.streams[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """Named loss components of one micro-batch, each already normalised by its global count, and additive metrics.

    Summed over micro-batches and ranks, `components` are the losses of the whole batch, and `metrics` its averages.
    Metrics named ``max/...`` are reduced by maximum instead.
    """

    components: Mapping[str, torch.Tensor]
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Objective(ABC):
    """A loss as a sum of named components. Runs in the learner; knows nothing of sharding or packing."""

    whole_groups: ClassVar[bool] = False  # True: it compares rows, so a group is never split over batches or ranks

    @property
    def needs(self) -> frozenset[str]:
        """Streams that must be in the batch before `prepare`: old_logprob, ref_logprob, value, return, ..."""
        return frozenset()

    @property
    def needs_entropy(self) -> bool:
        """Whether `TokenView.entropy` must carry gradient (it is always given, detached, for metrics)."""
        return False

    @abstractmethod
    def prepare(self, batch: Columns) -> Columns:
        """Once per optimiser step on the whole batch: stamp the weight stream of each component.

        The weights carry the global normalisation: component loss = sum over all tokens of weight * token loss.
        """

    @abstractmethod
    def terms(self, view: TokenView) -> LossTerms:
        """Loss components and metrics of one micro-batch."""


# ------------------------------------------------------------------------------------- roles, as the loop sees them


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A finished trajectory and the index of the task that it belongs to.

    `error` tells why the engine refused the draw (prompt longer than the context); the trajectory then has no turns and
    its rewards are Missing, never 0.
    """

    task: int
    trajectory: Trajectory
    error: str = ""


class RolloutPool(Protocol):
    """All rollout workers."""

    def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """Finished trajectories, in small lists, as they come. Survives the death of workers."""

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        """Load new weights everywhere, prove it by the probe; returns seconds and gaps. Draws in flight go on."""

    async def busy(self) -> tuple[float, int]:
        """Seconds that all engines have computed so far, and how many engines can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUpdate:
    """One version of the policy on its way to the rollout engines.

    `buffer`: object-store reference to a flat uint8 array; `layout`: name, dtype, shape, offset; `digests`: SHA-256 of
    each tensor, by name; `probe_ids` [R, L], `probe_logprobs` [R, L - 1]: rows, and the learner's of their later ids.
    """

    version: int
    buffer: Any
    layout: tuple[tuple[str, str, tuple[int, ...], int], ...]
    digests: Mapping[str, str]
    probe_ids: Int32s
    probe_logprobs: Float32s


class RewardPools(Protocol):
    """All reward actors, by reward name."""

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        """Trajectory-scoped rewards of one trajectory."""

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        """Group-scoped rewards of all samples of a prompt."""


class StreamScorer(Protocol):
    """Frozen models that fill one named stream of a batch: a reference, or teachers routed by domain."""

    async def stream(self, batch: Columns, prompts: Sequence[Prompt]) -> Float32s:
        """[N] log-prob of every loss token, 0 elsewhere. ``prompts[g]`` is the prompt of the rows of group g.

        A row that could not be scored is NaN on all of its loss tokens.
        """


class ScorerContext(Protocol):
    """What a frozen model reads before the sampled tokens, in place of the prompt that the policy read."""

    max_missing: float  # share of the rows of one step without a context that ends the run

    async def messages(self, prompt: Prompt, response: str) -> tuple[Message, ...] | Missing:
        """The conversation that the sampled ids are appended to; Missing: the row stays unscored.

        response: the sampled text of the row, without special tokens.
        """


class Learner(Protocol):
    """A group of ranks that trains one model. Knows no algorithm by name."""

    async def logprobs(self, batch: Columns) -> Float32s:
        """[N] log-prob of every token given what precedes it at the sampling temperature; 0 off the loss mask."""

    async def values(self, batch: Columns) -> Float32s:
        """[N] scalar-head output for every loss token (the state before the token is sampled)."""

    async def update(self, batch: Columns, objective: Mapping[str, Any]) -> dict[str, float]:
        """One optimiser step on the whole batch. `objective` is a `_target_` node."""

    def seen(self) -> Float32s | None:
        """[N] log-prob of every loss token in the forward pass of the last `update`, 0 elsewhere; None where there was
        none.
        """

    async def publish(self, version: int) -> WeightUpdate:
        """The weights as they are now, with a probe that proves them."""

    async def save(self, folder: str) -> None:
        """Write weights, optimizer, schedule and random state; bit-exact."""

    async def restore(self, folder: str) -> None:
        """Undo a restart from what `save` wrote."""

    async def export(self, folder: str) -> None:
        """Write a Hugging Face folder: safetensors, config, tokenizer, chat template."""


def finite(value: float, what: str) -> float:
    """The value, or ValueError naming it when it is NaN or infinite."""
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}")
    return float(value)
