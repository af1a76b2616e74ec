"""One in-process engine for all rollout tests, its own event loop, and transformers as the reference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.rollout.engine import Engine, EngineSpec, make_engine
from raylign.config.schema import EngineKind
from raylign.contracts import WeightUpdate
from raylign.weights import digests_of


@dataclass
class Reference:
    """The model as transformers runs it, and its weights as a learner would publish them."""

    model: Any

    def perturbed(self, seed: int, scale: float = 0.3) -> Reference:
        """Another model with random weights near these."""
        import copy

        import torch

        other = copy.deepcopy(self.model)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in other.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(scale * parameter.std().nan_to_num(1.0).clamp_min(0.02) * noise)
        return Reference(other)

    def logprobs(self, ids: Sequence[int], temperature: float = 1.0, top_p: float = 1.0) -> np.ndarray:
        """[T - 1] log-prob of ids[1:] under the processed distribution."""
        import torch

        with torch.no_grad():
            logits = self.model(torch.tensor([list(ids)])).logits[0, :-1].float() / temperature
        if top_p < 1.0:
            ordered, order = logits.sort(dim=-1, descending=True)
            probs = ordered.softmax(-1)
            drop = probs.cumsum(-1) - probs >= top_p
            logits = logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -torch.inf)
        chosen = torch.tensor(list(ids[1:]))[:, None]
        return logits.log_softmax(-1).gather(-1, chosen)[:, 0].numpy()

    def update(self, version: int, put: Callable[[np.ndarray], Any] = lambda array: array) -> WeightUpdate:
        """These weights as one flat buffer, and a probe."""
        layout, parts, offset = [], [], 0
        for name, parameter in self.model.named_parameters():  # a tied head is no parameter of its own
            array = parameter.detach().numpy()
            layout.append((name, "float32", tuple(array.shape), offset))
            parts.append(array.reshape(-1).view(np.uint8))
            offset += array.nbytes
        probe, buffer = np.random.default_rng(version).integers(6, 200, (2, 24)).astype(np.int32), np.concatenate(parts)
        return WeightUpdate(
            version=version,
            buffer=put(buffer),
            layout=tuple(layout),
            digests=digests_of(buffer, tuple(layout)),
            probe_ids=probe,
            probe_logprobs=np.stack([self.logprobs(row) for row in probe]).astype(np.float32),
        )


@pytest.fixture(scope="session")
def reference(tiny_model: Path) -> Reference:
    from transformers import AutoModelForCausalLM

    return Reference(AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval())


@pytest.fixture(scope="session")
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs a coroutine on the loop that the session's engines belong to."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


@pytest.fixture(scope="session")
def spec(tiny_model: Path) -> EngineSpec:
    return EngineSpec(
        model_path=str(tiny_model),
        dtype="float32",
        max_context=10_000,  # more than the model has: must be capped at its 256
        max_sequences=64,
        kv_cache_bytes=1 << 28,
        max_gap=1e-4,
    )


@pytest.fixture(scope="session")
def make(spec: EngineSpec, run: Callable[..., Any]) -> Iterator[Callable[[], Engine]]:
    """Starts another engine; all are closed at the end of the session."""
    engines: list[Engine] = []

    def start() -> Engine:
        engine = make_engine(EngineKind.in_process, spec)
        run(engine.start())
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        run(engine.close())


@pytest.fixture(scope="session")
def engine(make: Callable[[], Engine]) -> Engine:
    return make()


@pytest.fixture(scope="session")
def publish() -> Callable[..., Coroutine[Any, Any, Any]]:
    """The sequence that a worker runs: pause, load, commit, verify, resume."""

    async def sequence(engine: Engine, update: WeightUpdate) -> Any:
        await engine.pause()
        await engine.load(update.layout, update.buffer)
        await engine.commit(update.version)
        gap = await engine.verify(update)
        await engine.resume()
        return gap

    return sequence


def prompts(count: int, seed: int = 0, low: int = 4, high: int = 60) -> list[list[int]]:
    """Random prompts of printable bytes."""
    rng = np.random.default_rng(seed)
    return [rng.integers(6, 200, int(rng.integers(low, high))).tolist() for _ in range(count)]


@pytest.fixture(scope="session")
def random_prompts() -> Callable[..., list[list[int]]]:
    return prompts
