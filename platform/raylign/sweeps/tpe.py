"""Optuna's tree-structured Parzen estimator as a sampler (Bergstra et al., NeurIPS 2011); the extra `sweep`.

The study lies in the sweep's folder and is all the state there is. Every trial draws from a generator of its own,
seeded by (seed, number of the trial), so that an interrupted sweep chooses what an undisturbed one would have chosen
(with one point at a time; with several, what is known at a choice depends on who ended first).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylign.contracts import Sampler
from raylign.errors import ConfigError, Problem, RaylignError
from raylign.sweeps.points import Point
from raylign.sweeps.space import Dimension, Space

STUDY = "optuna.journal"


class Tpe(Sampler):
    """Samples where the points so far were good."""

    @dataclass
    class Config:
        """Number of points, and of random ones before the estimator starts."""

        trials: int = 20
        startup: int = 8

        def __post_init__(self) -> None:
            if self.trials < 1 or self.startup < 1:
                raise ValueError(f"trials ({self.trials}) and startup ({self.startup}) must be at least 1")

    def __init__(self, config: Config, space: Space, folder: Path, seed: int = 0, direction: str = "maximize") -> None:
        self.total = config.trials
        self._startup, self._space, self._folder, self._seed = config.startup, space, folder, seed
        if not space.dimensions:
            why = "no setting varies"
            raise ConfigError([Problem(key="sweep", value="", why=why, fix="write key=interval(a,b) or key=a,b")])
        self._optuna = _optuna()
        self._direction = direction
        self._opened: Any = None
        self._next = 0

    def to_check(self) -> list[tuple[str, ...]]:
        """The ends of every dimension."""
        return self._space.ends()

    def ask(self) -> Point | None:
        """Resume an unfinished trial of an earlier call, else ask Optuna for a new one."""
        if self._next == self.total:
            return None
        states, number = self._optuna.trial.TrialState, self._next
        self._next += 1
        known = self._study.get_trials(deepcopy=False)
        if number < len(known):
            return self._point(number, known[number].params, known[number].state != states.RUNNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=self._optuna.exceptions.ExperimentalWarning)
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=_mixed(self._seed, number), n_startup_trials=self._startup, constant_liar=True
            )
        trial = self._study.ask()
        params = {dimension.key: _suggest(trial, dimension) for dimension in self._space.dimensions}
        return self._point(trial.number, params, over=False)

    def tell(self, point: Point) -> None:
        """Keep the value of a point; one that failed or measured nothing is kept as failed."""
        states = self._optuna.trial.TrialState
        if point.over:
            return
        if point.status == 0 and point.value is not None:
            self._study.tell(point.number, point.value)
        else:
            self._study.tell(point.number, state=states.FAIL)

    @property
    def _study(self) -> Any:
        """Opened when first needed: a sweep that is refused writes nothing."""
        if self._opened is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            backend = self._optuna.storages.journal.JournalFileBackend(str(self._folder / STUDY))
            self._opened = self._optuna.create_study(
                storage=self._optuna.storages.JournalStorage(backend),
                study_name="sweep",
                direction=self._direction,
                load_if_exists=True,
            )
        return self._opened

    def _point(self, number: int, params: Mapping[str, Any], over: bool) -> Point:
        values = [
            str(params[item.key]) if item.values else item.text(params[item.key]) for item in self._space.dimensions
        ]
        return Point(
            number=number,
            overrides=self._space.point(values),
            varied=self._space.settings(values),
            folder=self._folder / f"{number:03d}",
            over=over,
        )


def _mixed(seed: int, number: int) -> int:
    """A generator's seed of its own for a trial: neighbours share nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def _suggest(trial: Any, dimension: Dimension) -> Any:
    if dimension.values:
        return trial.suggest_categorical(dimension.key, list(dimension.values))
    if dimension.whole:
        step = {} if dimension.log else {"step": round(dimension.step) or 1}
        return trial.suggest_int(dimension.key, round(dimension.low), round(dimension.high), log=dimension.log, **step)
    return trial.suggest_float(
        dimension.key, dimension.low, dimension.high, log=dimension.log, step=dimension.step or None
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as cause:
        raise RaylignError("sweep=optuna needs Optuna; fix: pip install 'raylign[sweep]' (or: make setup)") from cause
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
