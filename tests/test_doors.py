"""A third forward kind and payloads by reference, through the loop, a checkpoint and the record."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from raylign import plain
from raylign.actors.learner.forward import forward_kind, loss_of_nothing
from raylign.actors.learner.passes import token_streams
from raylign.actors.learner.spec import LearnerSpec, scatter
from raylign.batch import Batch
from raylign.config.schema import LearnerConfig, TelemetryConfig
from raylign.contracts import LearnerUpdate, RolloutTask, Scored
from raylign.errors import CheckpointError, RewardError
from raylign.loop import Loop, StepSettings
from raylign.packing import dummy
from raylign.payloads import Reference, fetch, put
from raylign.records import Float32s, Group, Payload, Prompt, Reward, Trajectory, Value
from raylign.telemetry.recorder import Recorder
from raylign.testing import FakeLearner, FakeRewards, FakeRollouts, fake_loop, rows_of

CPU = torch.device("cpu")
SPEC = LearnerSpec(
    model_path="none",
    learner=LearnerConfig(gpus=0, micro_batch_tokens=8),
    total_steps=10,
    kind={"_target_": "constant_kind.Constant", "start": 0.5},
)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (4, 3, 3)).astype(np.uint8)


class Painter(FakeRollouts):
    """Every trajectory brings an image, and plain data beside it."""

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        async for scored in super().stream(tasks):
            for item in scored:
                image = Payload(kind="image", content=picture(item.trajectory.seed))
                trajectory = replace(item.trajectory, payload={"image": image, "title": "a door"})
                yield [replace(item, trajectory=trajectory)]


class InProcess(FakeLearner):
    """A learner without ranks: its forward kind, and plain gradient descent."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = forward_kind(SPEC)
        self.kind.load()
        self.fills = self.kind.streams

    async def streams(self, batch: Batch, names: Collection[str]) -> dict[str, Float32s]:
        kind, (plan,) = self.kind, self.kind.pack(batch, 1)
        parts = token_streams(lambda m: kind.fill(names, kind.model, kind.inputs(m, batch, CPU)), names, plan)
        return {name: scatter([part], batch.tokens) for name, part in parts.items()}

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        kind, (plan,) = self.kind, self.kind.pack(batch, 1)
        for micro in plan:
            outputs = kind.forward(kind.model, kind.inputs(micro, batch, CPU))
            (kind.view(outputs, micro, batch, CPU).extras["level"].mean() / len(plan)).backward()
        loss_of_nothing(kind.forward(kind.model, kind.inputs(dummy(), batch, CPU))).backward()
        with torch.no_grad():
            for weight in kind.model.parameters():
                weight -= 0.25 * weight.grad
        return await super().update(batch, objective)

    async def save(self, folder: str) -> None:
        torch.save(self.kind.model.state_dict(), folder)

    async def restore(self, folder: str) -> None:
        self.kind.model.load_state_dict(torch.load(folder, weights_only=True))


def brightness(_: Prompt, trajectory: Trajectory) -> Reward:
    return Value(score=float(trajectory.payload["image"].content.mean()))


def make(staleness: int = 0, needs: frozenset[str] = frozenset({"constant"})) -> Loop:
    rewards, step = (
        FakeRewards({"rule": brightness}),
        StepSettings(prompts_per_step=2, group_size=3, staleness=staleness),
    )
    return fake_loop(rewards, step=step, rollouts=Painter(), learner=InProcess(), objective={}, objective_needs=needs)


def level(loop: Loop) -> float:
    return float(loop.parts.learner.kind.model.level.detach())  # type: ignore[attr-defined]


async def test_a_third_kind_reads_payloads_and_fills_its_stream() -> None:
    loop = make()
    result = await loop.step(0)
    batch = result.batch
    assert batch is not None and len(batch.payloads) == len(batch) == 6
    assert level(loop) == pytest.approx(0.25), "one step down the extra tensor"
    for row, (group, sample) in enumerate((place.group, place.trajectory) for place in result.places):
        trajectory = result.groups[group].trajectories[sample]
        held = batch.payloads[row]
        assert held == {"image": trajectory.payload["image"]} and isinstance(held["image"], Reference)
        image = picture(trajectory.seed)
        np.testing.assert_array_equal(fetch(held["image"]), image)
        assert trajectory.rewards["rule"] == Value(score=float(image.mean())), "rewards see the content"
        filled = batch.row(row, "constant")[batch.row(row, "loss_mask")]
        np.testing.assert_allclose(filled, 0.5 + image.mean(), rtol=1e-6)


async def test_a_stream_that_nobody_fills_is_named() -> None:
    with pytest.raises(RewardError, match="a learner or a frozen model that fills rho, and there is none"):
        await make(needs=frozenset({"constant", "rho"})).step(0)
    with pytest.raises(RewardError, match="a critic"):
        await make(needs=frozenset({"value"})).step(0)


async def test_payloads_and_the_kind_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    loop = make(staleness=1)
    await loop.publish()
    await loop.step(0)
    while loop._buffer._flights or not loop._buffer._finished:  # none may land between the save and the look
        await asyncio.sleep(0.01)
    await loop.save(tmp_path)
    saved = [group for item in loop._buffer._finished for group in item.collected.groups]
    again = make(staleness=1)
    await again.restore(tmp_path, loop.state_dict())
    assert level(again) == level(loop) != 0.5
    back = [group for item in again._buffer._finished for group in item.collected.groups]
    assert len(back) == len(saved) > 0
    for old, new in zip(saved, back, strict=True):
        for before, after in zip(old.trajectories, new.trajectories, strict=True):
            reference = after.payload["image"]
            assert isinstance(reference, Reference) and after.payload["title"] == "a door"
            assert fetch(reference).tobytes() == fetch(before.payload["image"]).tobytes()
            assert (reference.kind, reference.shape, reference.dtype) == ("image", (4, 3, 3), "uint8")
    await loop.close()
    await again.close()


def test_a_reference_of_another_run_is_no_data() -> None:
    foreign = put(Payload(kind="image", content=picture(0)))
    with pytest.raises(CheckpointError, match=r"raylign\.payloads\.Reference"):
        plain.loads(pickle.dumps(foreign))


async def test_the_record_says_what_a_payload_is(tmp_path: Path) -> None:
    result = await make().step(0)
    recorder = Recorder(tmp_path, TelemetryConfig())
    path = recorder.rollouts(1, result.groups, result.batch, result.places)
    recorder.close()
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    image = {"kind": "image", "shape": [4, 3, 3], "dtype": "uint8", "bytes": 36}
    assert len(lines) == 6 and all(line["payload"] == {"image": image, "title": {"kind": "str"}} for line in lines)


@pytest.mark.parametrize("content", [[1, 2], b"png", np.array([object()]), None])
def test_a_payload_is_an_array_of_numbers(content: Any) -> None:
    with pytest.raises(ValueError, match=r"payload \(image\) .*fix: give an array of numbers"):
        Payload(kind="image", content=content)


async def test_payloads_stay_with_their_rows() -> None:
    groups: list[Group] = (await make().step(0)).groups
    batch = rows_of(groups).batch
    picked = batch.select([4, 1])
    assert picked.payloads == (batch.payloads[4], batch.payloads[1])
    fresh = np.zeros(batch.tokens, np.float32)
    fresh[batch.offsets[1] + 3] = 1.0
    cut = batch.with_streams(fresh=fresh).by_context()
    assert [cut.payloads[row] for row in range(4)] == [batch.payloads[row] for row in (0, 1, 1, 2)]


@pytest.mark.parametrize("kind", ["flow", {"start": 0.5}, ""])
def test_a_kind_that_is_none_is_refused(kind: Any) -> None:
    known = "causal_lm or reward_model or scalar_head"
    with pytest.raises(ValueError, match=rf"kind is .*{known}, or give a mapping with the _target_"):
        replace(SPEC, kind=kind)
