"""The audit beside training: not a bit of a run changes, no part sees it, it costs its share, and it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.experiments._audit_worlds import HACKABLE, PROMPTS, SAMPLES, loop_of

from raylign.audit.auditor import Auditor
from raylign.audit.graded import EXPLOIT
from raylign.checkpoint import Checkpoints
from raylign.config.alarms import default_alarms
from raylign.config.schema import AuditConfig
from raylign.contracts import GroupMetrics, LearnerUpdate
from raylign.data.source import DatasetSource
from raylign.errors import LearnerError
from raylign.loop import Loop, StepSettings
from raylign.objectives.selection import VarianceFilter
from raylign.objectives.shaping import WeightedSum
from raylign.records import Group, Missing, Prompt, Reward, Trajectory
from raylign.telemetry.alarms import Alarms
from raylign.testing import FakeLearner, prompt

WORLD = HACKABLE["tampering"]
SHIPPED = AuditConfig()
TIMED = ("time/", "idle/", "tokens/per_second")


async def steps(loop: Loop, count: int, first: int = 0) -> list[dict[str, float]]:
    await loop.publish()
    return [(await loop.step(step)).metrics for step in range(first, first + count)]


def bits(loop: Loop) -> bytes:
    learner = loop.parts.learner
    assert isinstance(learner, FakeLearner)
    return learner.logits.tobytes()


def untimed(metrics: Mapping[str, float], without: tuple[str, ...] = ()) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith((*TIMED, *without))}


async def test_with_and_without_an_audit_weights_batches_and_metrics_are_the_same_bit_for_bit() -> None:
    loops = [loop_of(WORLD, 3, audit) for audit in (None, SHIPPED, AuditConfig(share=1.0))]
    start = bits(loops[0])
    plain, *audited = [await steps(loop, 6) for loop in loops]
    assert {bits(loop) for loop in loops} == {bits(loops[0])} and bits(loops[0]) != start
    batches: list[Any] = [loop.parts.learner.batches for loop in loops]  # type: ignore[attr-defined]
    for same in zip(*batches, strict=True):
        for name in ("token_ids", "loss_mask", "sampler_logprob", "advantage", "weight"):
            assert len({np.asarray(batch[name]).tobytes() for batch in same}) == 1, name
    for lines in audited:
        assert [untimed(line, ("audit/",)) for line in lines] == [untimed(line) for line in plain]
        assert all("audit/samples" in line and "time/audit_tail" in line for line in lines)


class Spies:
    """Everything that the parts of a loop were ever shown."""

    def __init__(self) -> None:
        self.seen: list[Group] = []
        spies = self

        class Source(DatasetSource):
            def observe(self, groups: Sequence[Group]) -> None:
                spies.seen += groups

        class Shaper(WeightedSum):
            def score(self, groups: Sequence[Group]) -> list[Group]:
                spies.seen += groups
                return super().score(groups)

            def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
                spies.seen += groups
                return super().metrics(groups)

        class Selector(VarianceFilter):
            def select(self, groups: Sequence[Group]) -> list[Group]:
                spies.seen += groups
                return super().select(groups)

        self.parts = {
            "source": Source(Source.Config(), prompts=[prompt(number) for number in range(64)], seed=1),
            "shaper": Shaper(Shaper.Config(), {"reward": 1.0}, 8),
            "selector": Selector(Selector.Config(ratio=0.5), seed=1),
        }


class Patient(FakeLearner):
    """A learner that is done long after the graders are."""

    async def update(self, batch: Any, objective: Mapping[str, Any]) -> LearnerUpdate:
        await asyncio.sleep(0.2)
        return await super().update(batch, objective)


async def test_no_shaper_selector_source_or_advantage_ever_sees_a_grade() -> None:
    spies = Spies()
    loop = loop_of(WORLD, 3, AuditConfig(share=1.0), learner=Patient(), **spies.parts)
    await loop.publish()
    results = [await loop.step(step) for step in range(3)]
    assert len(spies.seen) == 4 * 3 * PROMPTS, "all four times, in every step"
    for group in (*spies.seen, *(group for result in results for group in result.groups)):
        for trajectory in group.trajectories:
            assert set(trajectory.rewards) == {"reward"} and EXPLOIT not in trajectory.metrics
    for result in results:
        assert result.audited is not None and len(result.audited.graded) == PROMPTS * SAMPLES
        assert result.batch is not None and not [name for name in result.batch.streams if "audit" in name]


class Counting:
    """Graders that keep whom they were asked about."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        self.asked.append((trajectory.prompt_key, trajectory.sample_index))
        return {"grader": Missing(reason="none of this test's business")}

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        raise AssertionError("no grader looks at groups")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
async def test_no_more_samples_than_the_share_are_graded_and_a_metric_says_how_many(share: float) -> None:
    counting = Counting()
    auditor = Auditor(counting, {"grader": 1.0}, AuditConfig(share=share), seed=1)
    lines = await steps(loop_of(WORLD, 3, None, auditor=auditor), 5)
    for step, line in enumerate(lines, 1):
        sampled, asked = step * PROMPTS * SAMPLES, sum(int(each["audit/samples"]) for each in lines[:step])
        assert asked <= share * sampled and line["audit/share"] == asked / sampled <= share
    assert len(set(counting.asked)) == len(counting.asked) == sum(line["audit/samples"] for line in lines) > 0


async def test_a_run_that_is_resumed_audits_as_one_that_was_not(tmp_path: Path) -> None:
    settings = replace(SHIPPED, share=0.2)
    whole, broken, resumed = (loop_of(WORLD, 3, settings) for _ in range(3))
    lines = await steps(whole, 8)
    for stop in (1, 5):
        broken = loop_of(WORLD, 3, settings)
        await steps(broken, stop)
        checkpoints = Checkpoints(tmp_path / str(stop), keep=1)
        await checkpoints.save(stop, broken.state_dict(), broken.save)
        newest = checkpoints.newest()
        assert newest is not None
        resumed = loop_of(WORLD, 3, settings)
        await resumed.restore(newest.folder, newest.state)
        again = await steps(resumed, 8 - stop, stop)
        assert [untimed(line) for line in again] == [untimed(line) for line in lines[stop:]]
        assert bits(resumed) == bits(whole)


async def test_an_audit_may_be_added_to_a_run_and_taken_from_it(tmp_path: Path) -> None:
    loop = loop_of(WORLD, 3, None)
    await steps(loop, 2)
    checkpoints = Checkpoints(tmp_path, keep=2)
    await checkpoints.save(2, loop.state_dict(), loop.save)
    newest = checkpoints.newest()
    assert newest is not None
    added = loop_of(WORLD, 3, SHIPPED)
    await added.restore(newest.folder, newest.state)
    (line,) = await steps(added, 1, 2)
    assert line["audit/samples"] == 12.0, "it begins here"
    await checkpoints.save(3, added.state_dict(), added.save)
    newest = checkpoints.newest()
    assert newest is not None
    taken = loop_of(WORLD, 3, None)
    await taken.restore(newest.folder, newest.state)
    (line,) = await steps(taken, 1, 3)
    assert not [name for name in line if name.startswith("audit/")]


async def test_rollouts_that_run_ahead_are_audited_alike() -> None:
    settings = StepSettings(steps=6, prompts_per_step=PROMPTS, group_size=SAMPLES, staleness=1)
    loop = loop_of(WORLD, 3, SHIPPED, step=settings)
    lines = await steps(loop, 6)
    await loop.close()
    assert sum(line["audit/samples"] for line in lines) == 76.0, "a tenth of 6 x 128"


async def test_samples_that_dynamic_sampling_drops_are_audited_too() -> None:
    numbers = {"dynamic_sampling": True, "sampling_rounds": 3}
    settings = StepSettings(steps=0, prompts_per_step=PROMPTS, group_size=2, **numbers)
    loop = loop_of(WORLD, 3, AuditConfig(share=1.0), step=settings)
    await loop.publish()
    result = await loop.step(0)
    assert result.audited is not None and result.metrics["groups/sampled"] > len(result.groups)
    assert len(result.audited.graded) == 2 * result.metrics["groups/sampled"]


async def test_graders_that_all_fail_end_no_step_and_are_told_by_an_alarm() -> None:
    def failing(_: Prompt, sample: Trajectory) -> Any:
        return Missing(reason="the judge did not answer")

    plain, blind = loop_of(WORLD, 3, None), loop_of(WORLD, 3, SHIPPED, failing)
    await steps(plain, 6)
    alarms, raised = Alarms(default_alarms()), []
    for line in await steps(blind, 6):
        assert line["audit/missing/grader"] == 1.0 and line["missing/share"] == 0.0
        raised += alarms.step(line)
    assert [alarm.name for alarm in raised] == ["audit_blind"] and "audit/missing/grader" in str(raised[0])
    assert bits(plain) == bits(blind)


class Dying(FakeLearner):
    """A learner that dies while graders still think."""

    async def update(self, batch: Any, objective: Mapping[str, Any]) -> LearnerUpdate:
        await asyncio.sleep(0.01)
        raise LearnerError("rank 0 died")


async def test_a_step_that_fails_takes_its_audit_with_it() -> None:
    ended = []

    class Slow(Counting):
        async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append(trajectory.sample_index)
                raise
            raise AssertionError("nobody waits a minute")

    auditor = Auditor(Slow(), {"grader": 1.0}, SHIPPED, seed=1)
    loop = loop_of(WORLD, 3, None, auditor=auditor, learner=Dying())
    with pytest.raises(LearnerError, match="rank 0 died"):
        await loop.step(0)
    assert len(ended) == 12, "none outlives its step"
