"""Adapters beside weights that stay: computed exactly, proven by what the engine holds, and found when they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from raylign.actors.learner import lora
from raylign.actors.learner.layouts import text_backbone
from raylign.actors.rollout.adapters import AdapterFolder
from raylign.actors.rollout.engine import LINEAR, Engine, EngineSpec, make_engine
from raylign.config.schema import EngineKind, LoraConfig, ModelConfig, RolloutConfig
from raylign.contracts import Sampling, WeightUpdate
from raylign.errors import EngineDeadError
from raylign.weights import FlatWeights, digests_of

pytestmark = pytest.mark.vllm
LORA = LoraConfig(rank=4, alpha=8.0)


class Adapted:
    """The reference with adapters on it, and its updates as a learner would publish them."""

    def __init__(self, folder: Path, reference: Any, config: LoraConfig = LORA) -> None:
        self.config, self.reference = config, reference
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        lora.inject(self.model, text_backbone(self.model), config)

    def update(self, version: int) -> WeightUpdate:
        """Other adapters than before."""
        generator = torch.Generator().manual_seed(version)
        held = lora.adapters(self.model)
        with torch.no_grad():
            for adapter in held.values():
                adapter.b.copy_(0.05 * torch.randn(adapter.b.shape, generator=generator))
        tensors = [
            (name, tensor.detach())
            for weight, adapter in held.items()
            for name, tensor in zip(lora.weight_names(weight), (adapter.a, adapter.b), strict=True)
        ]
        flat, shapes = FlatWeights(), lora.shapes(held)
        flat.fill(shapes, tensors)
        base = self.reference.update(0)
        probe = type(self.reference)(self.model)
        return WeightUpdate(
            version=version,
            buffer=flat.bytes.copy(),
            layout=flat.layout,
            digests=digests_of(flat.bytes, flat.layout),
            probe_ids=base.probe_ids,
            probe_logprobs=np.stack([probe.logprobs(row) for row in base.probe_ids]).astype(np.float32),
            adapter=lora.described(self.config, [name for name, *_ in shapes], "base"),
            on=base,
        )


@pytest.fixture(scope="module")
def start(spec: EngineSpec, run: Callable[..., Any]) -> Iterator[Callable[..., Engine]]:
    """Starts an engine that takes adapters."""
    engines: list[Engine] = []

    def made(**changes: Any) -> Engine:
        engine = make_engine(EngineKind.in_process, replace(spec, lora_rank=4, lora_targets=LINEAR, **changes))
        run(engine.start())
        engines.append(engine)
        return engine

    yield made
    for engine in engines:
        run(engine.close())


async def put(engine: Engine, update: WeightUpdate) -> Any:
    """What a worker does with an adapter."""
    await engine.pause()
    await engine.load_adapter(update, update.buffer)
    await engine.commit(update.version)
    gap = await engine.verify(update)
    await engine.resume()
    return gap


def test_adapters_are_exact_and_leave_with_the_next_weights(
    start: Any, run: Any, tiny_model: Path, reference: Any, publish: Any, random_prompts: Any
) -> None:
    engine, adapted = start(), Adapted(tiny_model, reference)
    run(publish(engine, reference.update(0)))
    prompt = random_prompts(1, seed=11, low=200, high=201)[0]
    for version in range(1, 6):
        update = adapted.update(version)
        assert run(put(engine, update)).max <= 1e-5
        completion = run(engine.generate(prompt, Sampling(max_tokens=20), 1))
        ids = [*prompt, *completion.token_ids]
        expected = type(reference)(adapted.model).logprobs(ids)[len(prompt) - 1 :]
        assert np.abs(completion.logprobs - expected).max() <= 1e-5 and (completion.versions == version).all()
        assert np.abs(run(engine.score(ids, len(prompt))) - expected).max() <= 1e-5
    assert np.abs(expected - reference.logprobs(ids)[len(prompt) - 1 :]).max() > 1e-3
    run(publish(engine, reference.update(6)))
    scores = run(engine.score(ids, len(prompt)))
    assert np.abs(scores - reference.logprobs(ids)[len(prompt) - 1 :]).max() <= 1e-5
    assert run(put(engine, adapted.update(7))).max <= 1e-5, "an adapter that was there before"


def test_an_engine_in_processes_of_its_own_takes_them_too(
    spec: EngineSpec, run: Any, tiny_model: Path, reference: Any, publish: Any, random_prompts: Any
) -> None:
    engine = make_engine(EngineKind.async_llm, replace(spec, lora_rank=4, lora_targets=LINEAR))
    adapted, prompt = Adapted(tiny_model, reference), random_prompts(1, seed=12)[0]

    async def steps() -> None:
        await engine.start()
        await publish(engine, reference.update(0))
        for version in (1, 2):
            assert (await put(engine, adapted.update(version))).max <= 1e-5
        completion = await engine.generate(prompt, Sampling(max_tokens=20), 1)
        expected = type(reference)(adapted.model).logprobs([*prompt, *completion.token_ids])[len(prompt) - 1 :]
        assert np.abs(completion.logprobs - expected).max() <= 1e-5 and (completion.versions == 2).all()
        with pytest.raises(EngineDeadError, match="adapter of version 3 is not the published one"):
            await put(engine, replace(adapted.update(3), digests={}))

    try:
        run(steps())
    finally:
        run(engine.close())


def test_an_older_adapter_is_found(
    start: Any, run: Any, tiny_model: Path, reference: Any, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM goes on with the one of that number that it has, unless it is told to read it anew."""
    engine, adapted = start(), Adapted(tiny_model, reference)
    run(publish(engine, reference.update(0)))
    run(put(engine, adapted.update(1)))
    request = AdapterFolder.request
    monkeypatch.setattr(AdapterFolder, "request", lambda self, load=False: request(self, load=False))
    with pytest.raises(EngineDeadError, match=r"adapter of version 2 is not live: 14 of its tensors"):
        run(put(engine, adapted.update(2)))


def test_a_layer_that_the_engine_leaves_out_is_found(
    start: Any, run: Any, tiny_model: Path, reference: Any, publish: Any, spec: EngineSpec
) -> None:
    engine = make_engine(EngineKind.in_process, replace(spec, lora_rank=4, lora_targets=("q_proj", "v_proj", "o_proj")))
    run(engine.start())
    run(publish(engine, reference.update(0)))
    with pytest.raises(EngineDeadError, match=r"not live: .*down_proj.*lora.sync=merged"):
        run(put(engine, Adapted(tiny_model, reference).update(1)))


def test_another_file_than_the_published_one_is_found(
    start: Any, run: Any, tiny_model: Path, reference: Any, publish: Any
) -> None:
    engine, adapted = start(), Adapted(tiny_model, reference)
    run(publish(engine, reference.update(0)))
    published, other = adapted.update(1), adapted.update(2)
    with pytest.raises(EngineDeadError, match="adapter of version 2 is not the published one"):
        run(put(engine, replace(other, digests=published.digests)))


def test_an_engine_has_room_for_the_adapters_of_all_stages(tiny_model: Path) -> None:
    spec = EngineSpec.of(RolloutConfig(gpus=0.0), ModelConfig(), str(tiny_model), [LORA, LoraConfig(rank=16)])
    assert spec.lora_rank == 16 and set(spec.lora_targets) == set(LINEAR)
    named = EngineSpec.of(RolloutConfig(gpus=0.0), ModelConfig(), str(tiny_model), [LoraConfig(rank=2, targets=["x"])])
    assert named.lora_targets == ("x",)
