"""Streams of rewards and grades without a policy: how often the shipped alarm is raised over chance alone.

A stream has `STEPS` steps of `A_STEP` audited samples. Reward and grade drift from where they start to where they end
over the first half. Sound: the grade hangs on the reward through the same relation throughout, sharp or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from raylign.audit.watch import Measured, Watch
from raylign.config.alarms import default_alarms
from raylign.config.schema import ExploitConfig
from raylign.telemetry.alarms import Alarms

STEPS, A_STEP = 100, 13  # a tenth of 128 samples
Float64s: TypeAlias = NDArray[np.float64]
Rng: TypeAlias = np.random.Generator
Stream: TypeAlias = Callable[[Rng, float], tuple[Float64s, Float64s]]  # of the way gone, 0 to 1: rewards and grades


def coins(rng: Rng, chance: Float64s | float) -> Float64s:
    """Zeros and ones."""
    return (rng.random(A_STEP) < chance).astype(np.float64)


def binary(start: float, end: float, right: float, wrong: float) -> Stream:
    """Right or wrong, graded right with one probability where it is and with another where it is not."""

    def draw(rng: Rng, way: float) -> tuple[Float64s, Float64s]:
        reward = coins(rng, start + way * (end - start))
        return reward, coins(rng, np.where(reward > 0, right, wrong))

    return draw


def sized(shift: float, rho: float) -> Stream:
    """A normal reward whose mean rises by so many deviations, and a grade that correlates with it."""

    def draw(rng: Rng, way: float) -> tuple[Float64s, Float64s]:
        reward = rng.normal(way * shift, 1, A_STEP)
        return reward, rho * reward + np.sqrt(1 - rho**2) * rng.normal(size=A_STEP)

    return draw


def free(shift: float, chance: float, loss: float = 0.0) -> Stream:
    """A reward that rises while grades stay what they are, or fall by a loss."""

    def draw(rng: Rng, way: float) -> tuple[Float64s, Float64s]:
        return rng.normal(way * shift, 1, A_STEP), coins(rng, chance - way * loss)

    return draw


def tampered(skill: float, gain: float, end: float) -> Stream:
    """Right by skill, which grows, or rewarded by tampering, from 1 % on; graded by skill."""

    def draw(rng: Rng, way: float) -> tuple[Float64s, Float64s]:
        grade = coins(rng, skill + way * gain)
        return np.maximum(grade, coins(rng, 0.01 + way * (end - 0.01))), grade

    return draw


SOUND: dict[str, Stream] = {
    "nothing learned, exact": binary(0.3, 0.3, 1.0, 0.0),
    "nothing learned, unrelated": free(0.0, 0.3),
    "exact": binary(0.3, 0.9, 1.0, 0.0),
    "rare at first": binary(0.03, 0.8, 1.0, 0.0),
    "a fifth of false verdicts": binary(0.3, 0.9, 0.8, 0.2),
    "strict: 40 % of the right are graded wrong": binary(0.3, 0.9, 0.6, 0.0),
    "lenient: 40 % of the wrong are graded right": binary(0.3, 0.9, 1.0, 0.4),
    "sized, correlation .8": sized(2.0, 0.8),
    "sized, correlation .5": sized(2.0, 0.5),
    "nearly all good from the start": free(2.0, 0.95),
}
HACKED: dict[str, Stream] = {
    "grades stay at .3": free(2.0, 0.3),
    "grades stay at .7": free(2.0, 0.7),
    "grades fall": free(2.0, 0.6, 0.5),
    "grades never above 0": free(2.0, 0.0),
    "sized grades, unrelated": sized(2.0, 0.0),
    "tampering, skill .35 to .58": tampered(0.35, 0.23, 0.99),
    "tampering, skill .1 to .1": tampered(0.1, 0.0, 0.95),
    "tampering, skill .45 to .48, half of the failures": tampered(0.45, 0.03, 0.48),
}


def raised(stream: Stream, seed: int) -> int:
    """The step in which the shipped alarm is raised; 0: never."""
    rng, watch, alarms = np.random.default_rng(seed), Watch(ExploitConfig(), 1.0), Alarms(default_alarms())
    for step, measured in enumerate(steps_of(stream, rng), 1):
        figures = watch.metrics(measured, watch.step(step, measured))
        if alarms.step({f"audit/{figure}/grader": value for figure, value in figures.items()}):
            return step
    return 0


def steps_of(stream: Stream, rng: Rng) -> Iterator[list[Measured]]:
    """The audited samples of every step."""
    for step in range(STEPS):
        rewards, grades = stream(rng, min(1.0, 2 * step / STEPS))
        yield [Measured(float(reward), float(grade)) for reward, grade in zip(rewards, grades, strict=True)]
