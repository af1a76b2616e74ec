"""How a prompt becomes trajectories: sampling, the engine as a strategy sees it, and the pool of workers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from raylign.chat.template import ChatTemplate
from raylign.contracts.models import WeightUpdate
from raylign.contracts.part import Part
from raylign.records import Float32s, Int32s, Prompt, StopReason, Trajectory


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
class EnvironmentSpec:
    """What a rollout worker needs to reach environments; `actors` are names, none of them: they live in the worker.

    Example: ``EnvironmentSpec(node={"_target_": "my.Maze"}, timeout_s=60.0, actors=("environment/0",))``
    """

    node: Mapping[str, Any]
    timeout_s: float
    actors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategySpec:
    """A stage's own strategy, a ``_target_`` node, and its environment; a worker builds it for the first such task."""

    node: Mapping[str, Any]
    environment: EnvironmentSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutTask:
    """One prompt to be rolled out n times, with the sampling to use. Seeds derive from `run_seed` and the prompt.

    `indices` restricts the task to some of its n samples: what is left to do after a worker died.
    """

    prompt: Prompt
    n: int
    sampling: Sampling
    run_seed: int
    greedy: bool = False  # evaluation at temperature 0
    strategy: StrategySpec | None = None  # None: the run's
    indices: tuple[int, ...] | None = None  # None: all of 0 .. n - 1

    @property
    def samples(self) -> tuple[int, ...]:
        """The sample indices to draw."""
        return tuple(range(self.n)) if self.indices is None else self.indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A sample that could not be made (prompt longer than the context, lost environment); its rewards are Missing,
    never 0.

    Example: ``Refused(sample_index=3, reason="the prompt has 900 tokens; with a context of 512 at most 511 fit")``
    """

    sample_index: int
    reason: str


class RolloutStrategy(Part):
    """How a prompt becomes trajectories: a coroutine against a policy. Runs on the rollout worker's event loop.

    environments: those of the run; None in a run without an environment.
    """

    what = "a rollout strategy"
    made_with = ("environments",)
    roles: ClassVar[tuple[str, ...]] = ()  # that its calls have, where the policy plays several

    @abstractmethod
    def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory | Refused]:
        """Yield each trajectory the moment it is finished, in any order.

        A RequestError refuses all samples that are still outstanding, a `Refused` only its own.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A finished trajectory and the index of the task that it belongs to.

    `error` tells why the engine refused the sample (prompt longer than the context); the trajectory then has no turns
    and its rewards are Missing, never 0.
    """

    task: int
    trajectory: Trajectory
    error: str = ""


class RolloutPool(Protocol):
    """All rollout workers."""

    def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """Finished trajectories, in small lists, as they come. Survives the death of workers."""

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        """Load new weights everywhere, prove it by the probe; returns seconds and gaps. Samples in flight go on."""

    async def busy(self) -> tuple[float, int]:
        """Seconds that all engines have computed so far, and how many engines can tell."""
