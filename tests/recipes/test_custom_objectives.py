"""A stage asks an objective what it can do, whosever it is: its own settings are read by itself alone."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from raylign.batch import Batch
from raylign.config.compose import compose
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.errors import ConfigError, Problem

BASE = ("recipe=grpo", "scale=tiny", f"run.allow_targets=[{__name__}.]")
STALE, UPDATES = "stages.rl.staleness=1", "stages.rl.minibatches=2"


class Plain(Objective):
    """Corrects for nothing, and has none of the settings of raylign's own losses."""

    @dataclass
    class Config:
        """Settings of its own."""

        sharpness: float = 1.0

    def __init__(self, config: Config) -> None:
        self.config = config

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def terms(self, view: TokenView) -> LossTerms:
        assert view.logprob is not None
        return LossTerms(components={"policy": -view.logprob.sum() * self.config.sharpness})


class Corrected(Plain):
    """Weighs what older policies sampled."""

    corrects_staleness = True


class Held(Plain):
    """Holds the log-probs from before its updates."""

    reuses_batches = True


class Both(Corrected, Held):
    """Does either."""


class Settled(Plain):
    """Has settings named as those of raylign's losses, and they mean nothing of the kind."""

    @dataclass
    class Config:
        """Look alike."""

        old_logprob: str = "recompute"
        mismatch: str = "truncate"

    def __init__(self, config: Config) -> None:
        super().__init__(Plain.Config())


def problems_of(kind: str, *overrides: str) -> dict[str, Problem]:
    try:
        compose([*BASE, f"objective={{_target_: {__name__}.{kind}}}", *overrides])
    except ConfigError as error:
        return {problem.key: problem for problem in error.problems}
    return {}


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [("Plain", ()), ("Corrected", (STALE,)), ("Held", (UPDATES,)), ("Both", (STALE, UPDATES, "stages.rl.epochs=2"))],
)
def test_an_objective_with_its_own_correction_is_taken(kind: str, overrides: tuple[str, ...]) -> None:
    assert problems_of(kind, *overrides) == {}


@pytest.mark.parametrize("kind", ["Plain", "Settled"])
@pytest.mark.parametrize(
    ("override", "word"),
    [
        (STALE, "corrects_staleness = True"),
        (UPDATES, "reuses_batches = True"),
        ("stages.rl.epochs=2", "reuses_batches"),
    ],
)
def test_one_that_says_nothing_is_told_how_to_say_it(kind: str, override: str, word: str) -> None:
    problem = problems_of(kind, override)["objective._target_"]
    assert word in problem.fix and problem.value == kind and "mismatch" not in problem.fix


@pytest.mark.parametrize(("kind", "override"), [("Corrected", UPDATES), ("Held", STALE)])
def test_one_ability_is_not_the_other(kind: str, override: str) -> None:
    assert "objective._target_" in problems_of(kind, override)


@pytest.mark.parametrize(
    ("overrides", "key", "fix"),
    [
        ((STALE,), "objective.mismatch.mode", "set objective.mismatch.mode=truncate"),
        ((UPDATES,), "objective.old_logprob", "set objective.old_logprob=recompute"),
        (("stages.rl.epochs=3",), "objective.old_logprob", "set objective.old_logprob=recompute"),
    ],
)
def test_raylign_s_own_name_the_setting_and_take_it(overrides: tuple[str, ...], key: str, fix: str) -> None:
    base = ["recipe=grpo", "scale=tiny", *overrides]
    with pytest.raises(ConfigError) as caught:
        compose(base)
    assert {problem.key: problem.fix for problem in caught.value.problems}[key] == fix
    compose([*base, fix.removeprefix("set ")])


def test_an_objective_of_the_stage_is_the_one_that_is_asked() -> None:
    brings = f"stages.rl.objective={{_target_: {__name__}.%s}}"
    with pytest.raises(ConfigError) as caught:
        compose([*BASE, brings % "Plain", STALE])
    assert "stages.rl.objective._target_" in {problem.key for problem in caught.value.problems}
    compose([*BASE, brings % "Corrected", STALE])
