"""Labels on the calls of a rollout -> its reward, the scores of its calls by level, and the figures of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from raylign.actors.environments.checklist import ChecklistExaminer, checklists_of, judged_turns
from raylign.actors.judge.checklist import Float64s
from raylign.actors.judge.flips import JudgedTurn, Satisfied, step_advantages
from raylign.config.build import named
from raylign.config.resolve import Run
from raylign.contracts import Part, RewardFunction
from raylign.errors import Problem
from raylign.objectives.advantage.turn import Level, TurnAdvantage
from raylign.objectives.shaping import WeightedSum
from raylign.records import Float32s, Group, Prompt, Trajectory, Value

GAP_LIMIT = 0.05  # judged minus true completion above which a judge is being pleased rather than the task done


class ChecklistScore(RewardFunction):
    """R_i of the module's docstring. Raises where judge or simulator failed, so that the rollout leaves its group."""

    judges_text = False

    @dataclass
    class Config:
        """What a label counts for; the same as the examiner's."""

        satisfied: Satisfied = Satisfied.gated

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value per rollout; channel ``calls``: the share of each call of the policy, which add up to the score."""
        return [self._value(prompt, trajectory) for trajectory in trajectories]

    def _value(self, prompt: Prompt, trajectory: Trajectory) -> Value:
        lost = [call.flags["lost"] for call in trajectory.calls if call.flags.get("lost")]
        if lost:
            raise ValueError(str(lost[0]))
        shares = call_scores(prompt, trajectory, self.config.satisfied) / reference_turns(prompt)
        return Value(score=float(shares.sum()), channels={"calls": shares.astype(np.float32)})


class ChecklistLevels(WeightedSum):
    """`WeightedSum` of the rewards, and turn scores that `TurnAdvantage` of the same level works on.

    Group metrics: ``cm2/pass/<focus>`` (share of the items of reached turns that were satisfied), ``cm2/reached``
    (share of the reference's turns), ``cm2/gate_stops`` (share of rollouts ended by a must-pass item), ``cm2/dropped``;
    ``judge/…``: calls, latency, cache hits, failures and disagreement on repeated questions; ``tools/…``: shares of
    answers by source. With `truth`, ``cm2/judge_gap`` (judged minus true) and ``cm2/judge_gap_alarm`` above 0.05.
    """

    @dataclass
    class Config(WeightedSum.Config):
        """Every choice that changes the number."""

        level: Level = Level.trajectory
        satisfied: Satisfied = Satisfied.gated
        min_holders: int = 5  # of level step
        normalise: bool = False  # F_norm = std of the indicators at level step; off: 1
        checklist: str = "checklist"  # the reward that holds R
        truth: str = ""  # a reward that knows the truth without the judge, where there is one

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The places that must agree: level in shaper and advantage, satisfied in examiner, reward and shaper."""
        wanted: list[tuple[str, type[Part], str, Enum]] = [
            ("advantage", TurnAdvantage, "level", config.level),
            ("environment.fn.examiner", ChecklistExaminer, "satisfied", config.satisfied),
            (f"rewards.{config.checklist}.fn", ChecklistScore, "satisfied", config.satisfied),
        ]
        problems, advantage = [], run.parts.get("advantage")
        if advantage and not issubclass(advantage.cls, TurnAdvantage) and config.level is not Level.trajectory:
            why = f"reads no scores of turns, which {key}.level={config.level.name} makes"
            fix = f"set advantage._target_={named(TurnAdvantage)}, or {key}.level=trajectory"
            problems.append(Problem(key="advantage._target_", value=named(advantage.cls), why=why, fix=fix))
        for place, kind, name, value in wanted:
            part = run.parts.get(place)
            if part is None or not issubclass(part.cls, kind):
                continue  # another advantage, examiner or reward has rules of its own
            theirs: Enum = vars(part.config)[name]
            if theirs.name != value.name:
                why, fix = f"is not what {key}.{name} says: {value.name}", f"set {place}.{name}={value.name}"
                problems.append(Problem(key=f"{place}.{name}", value=theirs.name, why=why, fix=fix))
        return problems

    config: Config

    def _scored(self, group: Group) -> Group:
        config, judged = self.config, self._judged(group)
        by_call: dict[int, Float64s] = {}
        if config.level is Level.step:
            by_call = self._steps(group, judged)
        else:
            by_call = {i: call_scores(group.prompt, group.trajectories[i], config.satisfied) for i in judged}
        scores: list[Float32s | None] = [None] * len(group.trajectories)
        for i, values in by_call.items():
            scores[i] = values.astype(np.float32)
        return replace(super()._scored(group), call_scores=tuple(scores))

    def _metrics(self, group: Group) -> dict[str, float]:
        config, judged = self.config, self._judged(group)
        metrics = super()._metrics(group) | _pass_rates(group, judged, config.satisfied) | _episode_figures(group)
        metrics["cm2/dropped"] = 1.0 - len(judged) / max(len(group.trajectories), 1)
        if config.truth:
            metrics |= gap_metrics(*_pairs(group, config.checklist, config.truth))
        return metrics

    def _judged(self, group: Group) -> dict[int, Any]:
        """The judged turns of the rollouts that have a score, by their index."""
        scores = self._scores(group)
        return {i: judged_turns(group.prompt, t) for i, t in enumerate(group.trajectories) if scores[i] is not None}

    def _steps(self, group: Group, judged: Mapping[int, Any]) -> dict[int, Float64s]:
        """Ready advantages of every call: eq. 8-10 for each turn and checklist, averaged over the checklists."""
        config, rollouts = self.config, list(judged)
        found = {i: np.zeros(len(group.trajectories[i].calls)) for i in rollouts}
        lists = checklists_of(group.prompt)
        for variant, turns in enumerate(lists):
            for turn in range(len(turns)):
                there = [_at(judged[i][variant], turn) for i in rollouts]
                parts = step_advantages(there, config.satisfied, config.min_holders, config.normalise)
                for i, part in zip(rollouts, parts, strict=True):
                    if part is not None:
                        found[i][_calls_of(group.trajectories[i], turn)] += part / len(lists)
        return found


def call_scores(prompt: Prompt, trajectory: Trajectory, mode: Satisfied) -> Float64s:
    """[calls] sum_c w_c r_c of every call, averaged over the checklists of its turn; not divided by L_ref."""
    found = np.zeros(len(trajectory.calls))
    variants = judged_turns(prompt, trajectory)
    for turns in variants:
        for turn, judged in enumerate(turns):
            found[_calls_of(trajectory, turn)] += judged.step_scores(mode) / len(variants)
    return found


def reference_turns(prompt: Prompt) -> int:
    """L_ref: annotated turns, the same for all rollouts, so that turns not reached pay nothing."""
    return len(checklists_of(prompt)[0])


def gap_metrics(judged: Sequence[float], true: Sequence[float], limit: float = GAP_LIMIT) -> dict[str, float]:
    """Judged completion beside the true one, and an alarm where the judge sees more than there is."""
    if not judged:
        return {}
    gap = float(np.mean(judged) - np.mean(true))
    return {"cm2/judge_gap": gap, "cm2/judge_gap_alarm": float(gap > limit)}


def _at(turns: Sequence[JudgedTurn], turn: int) -> JudgedTurn | None:
    return turns[turn] if turn < len(turns) else None


def _calls_of(trajectory: Trajectory, turn: int) -> list[int]:
    return [number for number, call in enumerate(trajectory.calls) if call.flags["turn"] == turn]


def _pass_rates(group: Group, judged: Mapping[int, Any], mode: Satisfied) -> dict[str, float]:
    """Per focus, over the items of all turns that were reached; and the share of the reference's turns reached."""
    found: dict[str, list[bool]] = {}
    lists = checklists_of(group.prompt)
    for variants in judged.values():
        for checklists, turns in zip(lists, variants, strict=True):
            for checklist, turn in zip(checklists, turns, strict=False):  # later turns were not reached
                for item, passed in zip(checklist.items, turn.ever(mode), strict=True):
                    found.setdefault(item.focus.value, []).append(bool(passed))
    metrics = {f"cm2/pass/{focus}": float(np.mean(values)) for focus, values in sorted(found.items())}
    reached = [len(variants[0]) for variants in judged.values()]
    if reached:
        metrics["cm2/reached"] = float(np.mean(reached)) / len(lists[0])
        for turn in range(1, len(lists[0])):
            metrics[f"cm2/reached_turn_{turn + 1}"] = float(np.mean([count > turn for count in reached]))
    return metrics


def _episode_figures(group: Group) -> dict[str, float]:
    """What the calls of all rollouts cost, from the figures that each left on its last call."""
    last = [trajectory.calls[-1].flags for trajectory in group.trajectories if trajectory.calls]
    if not last:
        return {}

    def total(name: str) -> float:
        return float(sum(flags.get(name, 0.0) for flags in last))

    asked, calls, repeats = total("judge/asked"), total("judge/calls"), total("judge/repeats")
    metrics = {"cm2/gate_stops": total("stop_gate") / len(last), "judge/calls": calls, "judge/asked": asked}
    if calls:
        metrics["judge/latency_s"] = total("judge/seconds") / calls
    if asked:
        metrics["judge/hit_rate"] = total("judge/hits") / asked
        metrics["judge/failures"] = (total("judge/unavailable") + total("judge/unreadable")) / asked
    if repeats:
        metrics["judge/disagreement"] = total("judge/disagreements") / repeats
    kinds = ("tool", "recorded", "simulated", "unparsable", "unknown_tool", "schema", "too_many")
    answered = sum(total(f"tool_{kind}") for kind in kinds)
    if answered:
        metrics |= {f"tools/{kind}": total(f"tool_{kind}") / answered for kind in kinds}
    return metrics


def _pairs(group: Group, checklist: str, truth: str) -> tuple[list[float], list[float]]:
    found = [(t.rewards.get(checklist), t.rewards.get(truth)) for t in group.trajectories]
    both = [(a.score, b.score) for a, b in found if isinstance(a, Value) and isinstance(b, Value)]
    return [a for a, _ in both], [b for _, b in both]
