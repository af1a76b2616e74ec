"""Alarms over a run's metrics, once a recorded step; see `raylign.config.alarms` for what can be watched.

The state is a function of the stage's recorded metrics, so that a resumed run takes it up from `metrics.jsonl` alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

from raylign.config.alarms import AlarmAction, AlarmConfig, AlarmRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm that was raised.

    Example: ``Alarm(name="kl", metric="ref_kl", value=2.4, threshold=2.0, text="ref_kl is 2.4 ...", hint="lower ...")``
    """

    name: str
    metric: str
    value: float
    threshold: float
    text: str  # what is the matter, in one line
    hint: str
    stop: bool

    def __str__(self) -> str:
        end = "; the run saves itself and stops" if self.stop else ""
        return f"alarm {self.name}: {self.text}{end}" + (f"; {self.hint}" if self.hint else "")

    def fields(self) -> dict[str, Any]:
        """Fields of the event that this alarm writes."""
        return {
            "alarm": self.name,
            "metric": self.metric,
            "value": self.value,
            "threshold": self.threshold,
            "action": "stop" if self.stop else "warn",
            "text": self.text,
            "hint": self.hint,
        }


class Alarms:
    """Watches the steps of one stage after another.

    Example: ``alarms.begin(lines); for alarm in alarms.step(metrics): print(alarm)``
    """

    def __init__(self, configs: Mapping[str, AlarmConfig]) -> None:
        self._configs = {name: config for name, config in configs.items() if config.action is not AlarmAction.off}
        self.begin()

    def begin(self, recorded: Sequence[Mapping[str, Any]] = ()) -> None:
        """A stage begins, or goes on after these recorded steps of it; their alarms are not raised again."""
        self._watches = [_Watch(name, config) for name, config in self._configs.items()]
        for metrics in recorded:
            self.step(metrics)

    def step(self, metrics: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that this step raises."""
        alarms = [watch.step(metrics) for watch in self._watches]
        return [alarm for alarm in alarms if alarm is not None]


@dataclass(slots=True)
class _History:
    """What a rule may look at: the first and the last values of a stage; of `diverges`, all evaluations."""

    window: int
    first: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=deque)
    count: int = 0
    between: list[float] = field(default_factory=list)  # training values since the last evaluation
    evaluations: list[tuple[float, float]] = field(default_factory=list)  # (held-out, mean training value before it)

    def add(self, value: float) -> None:
        self.count += 1
        if len(self.first) < self.window:
            self.first.append(value)
        self.recent.append(value)
        if len(self.recent) > self.window:
            self.recent.popleft()

    @property
    def full(self) -> bool:
        return len(self.recent) == self.window

    @property
    def apart(self) -> bool:
        """Whether the last values share none with the first."""
        return self.count >= 2 * self.window

    @property
    def now(self) -> float:
        return float(np.mean(self.recent))

    @property
    def start(self) -> float:
        return float(np.mean(self.first))


def unheard(
    configs: Mapping[str, AlarmConfig], given: Iterable[str], recorded: Iterable[Mapping[str, Any]]
) -> dict[str, str]:
    """Of a run's alarms those that the command line set (keys `given`) and no step could raise, since none recorded
    what they watch: name -> what is to be said.
    """
    names = {key.split(".")[1] for key in given if key.startswith("alarms.")}
    own = {name: configs[name] for name in configs if name in names and configs[name].action is not AlarmAction.off}
    known = dict.fromkeys(name for metrics in recorded for name, _ in _matching(list(metrics), metrics)) if own else {}
    said = {}
    for name, config in own.items():
        absent = [metric for metric in config.metrics if not _matching([metric], dict.fromkeys(known, 0.0))]
        if len(absent) == len(config.metrics) or (absent and config.rule is AlarmRule.diverges):
            near = [like for metric in absent for like in get_close_matches(metric, list(known), 1)]
            like = f" (there is {', '.join(near)})" if near else ""
            fix = f"set alarms.{name}.metrics to names of metrics.jsonl{like}"
            said[name] = f"alarm {name} watched nothing: no step recorded {', '.join(absent)}; {fix}"
    return said


Finding = tuple[float, str]  # the value, and what is the matter with it


class _Watch:
    """One alarm and what it has seen of the stage."""

    def __init__(self, name: str, config: AlarmConfig) -> None:
        self._name, self._config = name, config
        self._history = _History(config.window)
        self._raised = False
        self._metric = config.metrics[-1] if config.rule is AlarmRule.diverges else config.metrics[0]

    def step(self, metrics: Mapping[str, Any]) -> Alarm | None:
        config = self._config
        if config.rule is AlarmRule.diverges:
            if not self._evaluated(metrics):
                return None
        else:
            values = _matching(config.metrics, metrics)
            if not values:
                return None
            self._metric, value = max(values, key=lambda pair: pair[1])
            self._history.add(sum(value for _, value in values) if config.rule is AlarmRule.total else value)
        finding = RULES[config.rule](self._history, config)
        news = finding is not None and not self._raised
        self._raised = finding is not None
        if finding is None or not news:
            return None
        value, text = finding
        return Alarm(
            name=self._name,
            metric=self._metric,
            value=value,
            threshold=config.threshold,
            text=f"{self._metric} {text}",
            hint=config.hint,
            stop=config.action is AlarmAction.stop,
        )

    def _evaluated(self, metrics: Mapping[str, Any]) -> bool:
        """Take in a step; whether it brought an evaluation that can be judged."""
        training, held_out = (_matching([name], metrics) for name in self._config.metrics)
        history = self._history
        history.between += [value for _, value in training]
        if not held_out or not history.between:
            return False
        history.evaluations.append((held_out[0][1], float(np.mean(history.between))))
        history.between = []
        return True


def _matching(names: Sequence[str], metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(name, value) of the finite metrics that these names mean."""
    wanted: dict[str, None] = {}
    for name in names:
        below = [other for other in metrics if other.startswith(name[:-1])] if name.endswith("/*") else [name]
        wanted |= dict.fromkeys(below)
    values = [(name, metrics.get(name)) for name in wanted]
    return [(name, float(v)) for name, v in values if isinstance(v, (int, float)) and math.isfinite(v)]


def _above(history: _History, config: AlarmConfig) -> Finding | None:
    if not history.full or history.now <= config.threshold:
        return None
    return history.now, f"is {history.now:.3g}, above {config.threshold:g} ({_over(config)})"


def _below(history: _History, config: AlarmConfig) -> Finding | None:
    if not history.full or history.now >= config.threshold:
        return None
    return history.now, f"is {history.now:.3g}, below {config.threshold:g} ({_over(config)})"


def _grows(history: _History, config: AlarmConfig) -> Finding | None:
    if not history.apart or history.start <= 0 or history.now <= config.threshold * history.start:
        return None
    return (
        history.now,
        f"is {history.now:.3g}, {history.now / history.start:.3g} times its start, {history.start:.3g}",
    )


def _falls(history: _History, config: AlarmConfig) -> Finding | None:
    if not history.apart or history.start <= 0 or history.now >= config.threshold * history.start:
        return None
    return (
        history.now,
        f"is {history.now:.3g}, {history.now / history.start:.2%} of its start, {history.start:.3g}",
    )


def _total(history: _History, config: AlarmConfig) -> Finding | None:
    total = sum(history.recent)
    return (total, f"sums up to {total:g} within {config.window} steps") if total > config.threshold else None


def _diverges(history: _History, config: AlarmConfig) -> Finding | None:
    width = config.window
    if len(history.evaluations) < 2 * width:
        return None
    held_out, training = np.array(history.evaluations).T
    means = np.convolve(held_out, np.ones(width) / width, "valid")  # of every `width` evaluations in a row
    rewards = np.convolve(training, np.ones(width) / width, "valid")
    best = int(means[:-width].argmax())  # the last mean must share no evaluation with it
    fell, rose = means[best] - means[-1], rewards[-1] > rewards[best]
    if fell <= config.threshold or not rose:
        return None
    up = f"{config.metrics[0]} rose from {rewards[best]:.3g} to {rewards[-1]:.3g}"
    return float(means[-1]), f"fell from {means[best]:.3g} to {means[-1]:.3g} while {up}"


def _over(config: AlarmConfig) -> str:
    return f"mean of {config.window} steps" if config.window > 1 else "this step"


RULES: dict[AlarmRule, Callable[[_History, AlarmConfig], Finding | None]] = {
    AlarmRule.above: _above,
    AlarmRule.below: _below,
    AlarmRule.grows: _grows,
    AlarmRule.falls: _falls,
    AlarmRule.total: _total,
    AlarmRule.diverges: _diverges,
}
