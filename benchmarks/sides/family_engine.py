"""The engine's half of `benchmarks.families`: it scores and samples under versions 0 to 2 of what was published."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sides.family_learner import ENGINE, LAYOUT, PROMPT, ROW, UPDATES, _write

SAMPLED = 24  # tokens


def sample(folder: str) -> None:
    """Leave `engine.json`: per version the row's and the sampled tokens' log-probs, and why there are no more."""
    path = Path(folder)
    result: dict[str, Any] = {"versions": []}
    try:
        asyncio.run(_run(path, result["versions"]))
    except Exception as cause:  # noqa: BLE001 - whatever ends the engine is its reason
        result["reason"] = " ".join(str(cause).split())
    _write(path / ENGINE, result)
    os._exit(0)  # an engine that died may keep threads


async def _run(path: Path, versions: list[Any]) -> None:
    from raylign.actors.rollout.engine import FLOAT32_GAP, EngineSpec, make_engine
    from raylign.config.schema import EngineKind
    from raylign.contracts import WeightUpdate

    policies = json.loads((path / LAYOUT).read_text())
    layout = [(name, dtype, tuple(shape), offset) for name, dtype, shape, offset in policies["layout"]]
    probe = np.array(policies["probe"], np.int32)
    spec = EngineSpec(
        model_path=str(path / "model"),
        dtype="float32",
        max_context=128,
        max_sequences=8,
        kv_cache_bytes=1 << 27,
        max_gap=FLOAT32_GAP,
    )
    engine = make_engine(EngineKind.in_process, spec)
    await engine.start()
    versions.append(await _sampled(engine))
    for version in range(UPDATES + 1):
        await engine.pause()
        await engine.load(layout, np.load(path / f"{version}.npy"))
        await engine.commit(version)
        update = WeightUpdate(
            version=version,
            buffer=None,
            layout=tuple(layout),
            digests=policies["digests"][version],
            probe_ids=probe,
            probe_logprobs=np.array(policies["logprobs"][version], np.float32),
        )
        await engine.verify(update)
        await engine.resume()
        if version:
            versions.append(await _sampled(engine))


async def _sampled(engine: Any) -> list[dict[str, Any]]:
    from raylign.contracts import Sampling

    ids = np.random.default_rng(3).integers(8, 260, ROW).astype(np.int32)
    scores = await engine.score(ids, 1)
    completion = await engine.generate(ids[:PROMPT], Sampling(max_tokens=SAMPLED), 5)
    whole = [*ids[:PROMPT].tolist(), *completion.token_ids.tolist()]
    return [
        {"ids": ids.tolist(), "logprobs": scores.tolist()},
        {"ids": whole, "logprobs": completion.logprobs.tolist()},
    ]
