"""Scores and metrics of a shaper are two questions: each is checked, and only training asks for scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scripted_loop import Observing, Remembering, first_token, make

from raylign.config.compose import compose
from raylign.contracts import GroupMetrics, RewardShaper, Sampling
from raylign.errors import ConfigError, RewardError
from raylign.evaluate import Evaluator
from raylign.loop import Loop
from raylign.loop.scoring import logged, scored
from raylign.objectives.shaping import WeightedSum
from raylign.recipes.stages.context import RunContext
from raylign.records import Group
from raylign.testing import prompt


def evaluator_of(loop: Loop) -> Evaluator:
    return Evaluator(
        rollouts=loop.parts.rollouts,
        rewards=loop.parts.rewards,
        weights={"rule": 0.5},
        shaper=loop.parts.shaper,
        sampling=Sampling(max_tokens=8),
        seed=1,
        stall_s=5.0,
    )


async def settled(loop: Loop) -> None:
    """Until all rollouts that were begun have ended."""
    while loop._buffer._flights:
        await asyncio.sleep(0)


async def state_of(loop: Loop, folder: Path) -> dict[str, Any]:
    """All that a checkpoint would hold, by file, and the counts of the buffer."""
    folder.mkdir()
    await loop.save(folder)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    counts = loop._buffer._counts
    return {**files, **loop.state_dict(), "counts": (counts.begun, counts.stale, tuple(counts.ages))}


@pytest.mark.parametrize("staleness", [0, 1])
async def test_an_evaluation_during_training_moves_nothing_of_it(staleness: int, tmp_path: Path) -> None:
    def made() -> Loop:
        return make(first_token, staleness=staleness, shaper=Remembering, source=Observing)

    evaluated, alone = made(), made()
    for step in range(3):
        results = [await evaluated.step(step), await alone.step(step)]
        assert [group.scores for group in results[0].groups] == [group.scores for group in results[1].groups]
        await settled(evaluated)
        await settled(alone)
        before = await state_of(evaluated, tmp_path / f"before{step}")
        assert before["counts"][0] == (4 * (step + 2 + staleness) if staleness else 0)
        evaluation = await evaluator_of(evaluated).run([prompt(90), prompt(91)], samples=2, greedy=False)
        assert evaluation.metrics["eval/memory/size"] == 12 * (step + 1), "what the run's shaper logs is logged"
        tokens = [t.calls[0].token_ids[0] for group in evaluation.groups for t in group.trajectories]
        assert evaluation.score == pytest.approx(0.5 * np.mean(tokens)), "by the rewards, not by the shaper"
        after = await state_of(evaluated, tmp_path / f"after{step}")
        assert after == before and {"shaper/history.npy", "source/sizes.npy"} < set(after)
    await evaluated.close()
    await alone.close()


# --------------------------------------------------------------------------------------- answers that are no answers


class Wrong(WeightedSum):
    """A shaper whose answers are spoilt by two functions."""

    scores: Callable[[list[Group]], list[Group]] = staticmethod(lambda groups: groups)
    logs: Callable[[list[GroupMetrics]], list[GroupMetrics]] = staticmethod(lambda metrics: metrics)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        return type(self).scores(super().score(groups))

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        return type(self).logs(super().metrics(groups))


def each(change: Callable[[Group], Group]) -> Callable[[list[Group]], list[Group]]:
    return lambda groups: [change(group) for group in groups]


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"scores": lambda groups: groups[1:]}, "score answers for 3 of 4 groups"),
        ({"scores": lambda groups: groups[::-1]}, "score changed prompt or trajectories of p"),
        ({"scores": each(lambda g: replace(g, scores=()))}, "score answers for 0 of 3 trajectories of p"),
        ({"scores": each(lambda g: replace(g, scores=(0.0,) * 4))}, "score answers for 4 of 3 trajectories"),
        ({"scores": each(lambda g: replace(g, call_scores=(None,)))}, "score answers for 1 of 3 trajectories"),
        (
            {"scores": each(lambda g: replace(g, trajectories=g.trajectories[::-1]))},
            "score changed prompt or trajectories",
        ),
        ({"scores": each(lambda g: replace(g, scores=(0.0, float("nan"), 1.0)))}, "score gives nan in p.*; fix: "),
        ({"scores": each(lambda g: replace(g, scores=(0.0, None, -float("inf"))))}, "score gives -inf in p"),
        ({"logs": lambda metrics: metrics[1:]}, "metrics answers for 3 of 4 groups"),
        ({"logs": lambda metrics: [GroupMetrics(trajectories=({},))] * 4}, "metrics answers for 1 of 3 traj.* p"),
    ],
)
async def test_a_shaper_that_leaves_something_out_is_refused(spoilt: dict[str, Any], message: str) -> None:
    shaper = type("Spoilt", (Wrong,), {name: staticmethod(function) for name, function in spoilt.items()})
    with pytest.raises(RewardError, match=rf"^Spoilt\.{message}"):
        await make(first_token, shaper=shaper).step(0)


async def test_a_shaper_that_logs_nothing_and_one_that_logs_of_trajectories() -> None:
    class Silent(WeightedSum):
        metrics = RewardShaper.metrics

    class Numbered(WeightedSum):
        def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
            return [GroupMetrics(trajectories=[{"n": float(i)} for i, _ in enumerate(g.trajectories)]) for g in groups]

    silent = await make(first_token, shaper=Silent).step(0)
    assert "reward/unscored" not in silent.metrics and silent.metrics["reward/mean"] > 0
    numbered = await make(first_token, shaper=Numbered).step(0)
    assert numbered.metrics["n"] == 1.0
    assert [[t.metrics["n"] for t in group.trajectories] for group in numbered.groups] == [[0, 1, 2]] * 4


async def test_metrics_that_were_there_before_stay() -> None:
    result = await make(first_token).step(0)
    group = replace(result.groups[0], metrics={"mine": 3.0})
    shaper = WeightedSum(WeightedSum.Config(), {"rule": 1.0}, max_tokens=8)
    assert logged(shaper, scored(shaper, [group]))[0].metrics.keys() == {
        "mine", "reward/rule", "reward/score", "reward/unscored"
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ what it is made with


class Reading(WeightedSum):
    """Keeps what it was made with."""

    def __init__(self, config: Any, *, weights: Any, max_tokens: int, tokenizer: Any, seed: int) -> None:
        super().__init__(config, weights, max_tokens)
        self.made_of = (tokenizer, seed)


class Narrow(WeightedSum):
    """Takes neither tokenizer nor seed."""

    def __init__(self, config: Any, weights: Any, max_tokens: int) -> None:
        super().__init__(config, weights, max_tokens)


def composed(kind: type) -> Any:
    target = f"{kind.__module__}.{kind.__qualname__}"
    return compose(
        ["recipe=grpo", "scale=tiny", "seed=7", "run.allow_targets=[tests.]", f"shaper={{_target_: {target}}}"]
    )


def test_a_shaper_is_made_with_the_policys_template_and_the_runs_seed() -> None:
    run, template = composed(Reading), object()
    context = SimpleNamespace(run=run, cfg=run.config, template=template, weights={"correct": 1.0})
    made: Any = RunContext.shaper(cast(RunContext, context))
    assert made.made_of == (template, 7) and made.weights == {"correct": 1.0}


def test_a_shaper_that_cannot_be_made_so_is_refused_before_a_run() -> None:
    with pytest.raises(ConfigError, match=r"Narrow\(config, weights, max_tokens, tokenizer, seed\)"):
        composed(Narrow)
