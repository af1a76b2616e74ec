"""The one interface over both vLLM front ends: ids in, ids and processed log-probs out, weights that prove themselves.

    generate, score ──────────────► engine ──► Completion, log-probs
    pause ► load ► commit ► verify ► resume      a new policy version; any failure in between kills the engine

A failed weight update leaves vLLM's layers half replaced. Such an engine is never repaired in place: it raises
EngineDeadError from then on, its process exits, and the pool builds another.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from raylign.chat.template import ChatTemplate
from raylign.config.schema import EngineKind, LoraConfig, ModelConfig, Past, RolloutConfig
from raylign.contracts import Completion, Sampling, WeightUpdate
from raylign.errors import EngineDeadError
from raylign.records import Float32s, Int32s

Bytes: TypeAlias = NDArray[np.uint8]
TokenIds: TypeAlias = Sequence[int] | Int32s
Layout: TypeAlias = Sequence[tuple[str, str, tuple[int, ...], int]]  # name, dtype, shape, byte offset

FLOAT32_GAP = 3e-5  # mean |Δ log-prob| that fp32 engines of the same model stay far below (1e-6 in small shapes)
GIB = 1 << 30
# Linear layers of attention and feed-forward blocks, as most families name them.
LINEAR = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"),
    *("dense", "fc1", "fc2", "out_proj", "c_fc", "dense_h_to_4h", "dense_4h_to_h", "query_key_value"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What an engine needs to know of the run.

    Example: ``EngineSpec(model_path="/m", dtype="float32", max_context=512, max_sequences=256)``
    """

    model_path: str
    dtype: str  # float32 | bfloat16
    max_context: int  # tokens of prompt and response together; capped at the model's own
    max_sequences: int  # concurrent sequences
    threads: int = 1  # OpenMP threads, CPU only
    kv_cache_bytes: int = GIB  # on a GPU 0: what is free of its share when it starts
    gpu: bool = False
    gpu_memory: float = 0.85
    tensor_parallel: int = 1
    trust_remote_code: bool = False
    template_args: Mapping[str, Any] = field(default_factory=dict)  # of the chat template
    fresh: bool = False  # `rollout.past`
    lora_rank: int = 0  # the highest of adapters that are sent beside the weights; 0: none are
    lora_targets: tuple[str, ...] = ()  # names of layers that may have one
    max_gap: float = 0.05  # mean |Δ log-prob| of the probe at the first update; more makes it a failure

    @classmethod
    def of(
        cls, rollout: RolloutConfig, model: ModelConfig, model_path: str, lora: Sequence[LoraConfig] = ()
    ) -> EngineSpec:
        """The engine of a rollout worker under this configuration. lora: of the stages that send adapters."""
        return cls(
            model_path=model_path,
            dtype=model.dtype,
            max_context=model.max_context,
            max_sequences=rollout.max_sequences,
            threads=rollout.threads,
            kv_cache_bytes=0 if rollout.gpus else int(rollout.kv_cache_gb * GIB),
            gpu=rollout.gpus > 0,
            gpu_memory=rollout.gpu_memory,
            tensor_parallel=rollout.tensor_parallel,
            trust_remote_code=model.trust_remote_code,
            template_args=model.template_args,
            fresh=rollout.past is Past.fresh,
            lora_rank=max((each.rank for each in lora), default=0),
            lora_targets=tuple(sorted({name for each in lora for name in each.targets or LINEAR})),
            max_gap=min(rollout.max_publish_gap, FLOAT32_GAP) if model.dtype == "float32" else rollout.max_publish_gap,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """|log-prob of the engine - log-prob of the learner| over the tokens of the probe.

    Example: ``Gap(mean=4e-7, max=2e-6)``
    """

    mean: float
    max: float

    @classmethod
    def between(cls, engine: Float32s, learner: Float32s) -> Gap:
        """Both [R, L - 1]. Raises EngineDeadError when the lengths differ or a value is not finite."""
        if engine.shape != np.shape(learner):
            raise EngineDeadError(f"the probe has {engine.shape} log-probs in the engine, {np.shape(learner)} expected")
        delta = np.abs(engine.astype(np.float64) - np.asarray(learner, np.float64))
        if not np.isfinite(delta).all():
            raise EngineDeadError("the probe's log-probs are not finite: the new weights are broken")
        return cls(mean=float(delta.mean()), max=float(delta.max()))


class Engine(ABC):
    """One vLLM engine. All methods are called from one event loop.

    Errors: RequestError concerns one request and leaves the engine usable; EngineDeadError is final.
    """

    tokenizer: Any  # set by `start`, as are the next
    template: ChatTemplate
    max_context: int

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.submitted = 0  # requests handed to the engine so far
        self.version = 0

    @abstractmethod
    async def start(self) -> None:
        """Load the model. Raises EngineDeadError naming vLLM's reason."""

    @abstractmethod
    async def generate(self, token_ids: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """One completion. The same seed gives the same tokens whatever else runs in the batch (fp32, one thread)."""

    @abstractmethod
    async def score(self, token_ids: TokenIds, start: int) -> Float32s:
        """Log-probs of ``token_ids[start:]`` given what precedes each, at temperature 1. start >= 1."""

    @abstractmethod
    async def pause(self) -> None:
        """Stop sampling; requests in flight keep their tokens and wait."""

    @abstractmethod
    async def load(self, layout: Layout, buffer: Bytes) -> None:
        """Replace all weights by those in one flat buffer. Names are the Hugging Face model's."""

    @abstractmethod
    async def load_adapter(self, weights: WeightUpdate, buffer: Bytes) -> None:
        """Put a LoRA adapter beside the weights, in place of one that is there; `load` takes it away again."""

    @abstractmethod
    async def commit(self, version: int) -> None:
        """Drop every cached key and value of the old weights; tokens sampled from now on carry `version`."""

    @abstractmethod
    async def verify(self, weights: WeightUpdate) -> Gap:
        """Prove that these weights are live, by bytes and by meaning (`proof`). Raises EngineDeadError."""

    @abstractmethod
    async def resume(self) -> None:
        """Go on sampling."""

    @abstractmethod
    async def reset_prefix_cache(self) -> None:
        """Forget cached prefixes; requests in flight are computed again."""

    @abstractmethod
    async def close(self) -> None:
        """Stop the engine. Requests in flight fail."""

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Counters for telemetry."""

    def _hold(self) -> None:  # noqa: B027 - an engine that cannot hold admissions schedules as requests come
        """From now on collect requests instead of admitting them."""

    def _release(self) -> None:  # noqa: B027
        """Admit everything collected, in an order that depends on the requests alone."""

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Requests made inside enter the engine together, before its next step.

        The composition of every batch then depends on the requests and not on timing, so two runs with the same seeds
        are bit-equal even where arithmetic depends on the batch (several threads, bf16).
        """
        self._hold()
        try:
            yield
            await self._settled()
        finally:
            self._release()

    async def _settled(self) -> None:
        """Return once the coroutines on this loop have stopped submitting requests."""
        quiet, submitted = 0, -1
        while quiet < 3:  # a strategy may pass the loop once or twice between its start and its first request
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.submitted == submitted else 0
            submitted = self.submitted


def make_engine(kind: EngineKind, spec: EngineSpec) -> Engine:
    """The engine of this kind; `auto` is in_process for one rank without a GPU, and async_llm otherwise."""
    if kind is EngineKind.auto:
        kind = EngineKind.async_llm if spec.gpu or spec.tensor_parallel > 1 else EngineKind.in_process
    if kind is EngineKind.in_process:
        from raylign.actors.rollout.in_process import InProcessEngine

        return InProcessEngine(spec)
    from raylign.actors.rollout.async_llm import AsyncLLMEngine

    return AsyncLLMEngine(spec)
