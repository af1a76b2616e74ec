"""Scores by token that nobody would add to an advantage, and weights of scores that nobody gives."""

from __future__ import annotations

from collections.abc import Iterator

from raylign.config.nearest import nearest
from raylign.config.resolve import ResolvedStage, Run
from raylign.contracts import Advantage, RewardFunction, RewardShaper
from raylign.errors import Problem


def unweighed(run: Run) -> list[Problem]:
    """What is wrong between rewards, shaper and advantage of each stage that trains on its own samples."""
    problems: dict[str, Problem] = {}
    for stage in run.stages:
        advantage, shaper = run.advantage(stage), run.parts.get(f"{stage.key}.shaper") or run.parts.get("shaper")
        if advantage is None or shaper is None or not issubclass(shaper.cls, RewardShaper):
            continue
        from_rewards = set(_scoring_tokens(run, stage))
        own = set(shaper.cls.token_scores(shaper.config))
        for name in sorted(from_rewards - own) if not shaper.cls.reads_spans else ():
            why = f"scores tokens, and {shaper.key}={shaper.cls.__name__} makes nothing of it"
            fix = "take another shaper, or leave the reward out"
            problems.setdefault(name, Problem(key=f"rewards.{name}.fn", value="given", why=why, fix=fix))
        key = run.part("advantage", stage.name).key
        for problem in _between(key, advantage, own | from_rewards):
            problems.setdefault(problem.key, problem)
    return list(problems.values())


def _scoring_tokens(run: Run, stage: ResolvedStage) -> Iterator[str]:
    for name in run.asked(stage):
        part = run.parts.get(f"rewards.{name}.fn")
        if part is not None and issubclass(part.cls, RewardFunction) and part.cls.scores_tokens:
            yield name


def _between(key: str, advantage: Advantage, given: set[str]) -> Iterator[Problem]:
    weights = advantage.token_weights
    for name in sorted(given - set(weights)):
        why = f"does not weigh {name}, which scores single tokens: they would not be learned from"
        fix = f"set {key}.token_weights.{name}=1, or 0 where it is to be logged only"
        if type(advantage).token_weights is Advantage.token_weights:
            fix = f"set {key}._target_ to one that takes them, such as raylign.objectives.advantage.group.GRPO"
        yield Problem(key=f"{key}.token_weights", value=", ".join(weights) or "{}", why=why, fix=fix)
    for name in sorted(set(weights) - given):
        fix = nearest(name, sorted(given)) if given else "leave it out, or add a reward that scores tokens"
        why = "is the name of nothing that scores single tokens in this stage"
        yield Problem(key=f"{key}.token_weights.{name}", value=f"{weights[name]:g}", why=why, fix=fix)
