"""What each stage of a run asks of whom, and what it leaves: known before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.config.resolve import ResolvedStage, Run

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage. Example: ``StageCost(stage="made", kind="Generate", actors=("rollout",), prompts="64", ...)``"""

    stage: str
    kind: str
    actors: tuple[str, ...]
    prompts: str  # in all; "all": as many as its rows give
    samples: str  # of each prompt
    tokens: str  # of all prompts and samples, if each ran to its limit; without a number of prompts of one prompt
    leaves: tuple[str, ...]


def stage_costs(run: Run) -> list[StageCost]:
    """Of all stages, in order."""
    return [_cost(stage, run) for stage in run.stages]


def _cost(stage: ResolvedStage, run: Run) -> StageCost:
    asked, config = stage.cls.asks(stage.config), run.config
    prompts = samples = tokens = "-"
    if asked is not None:
        longest = config.data.max_prompt_tokens + (asked.max_tokens or config.rollout.sampling.max_tokens)
        one = asked.samples * longest
        prompts, samples = f"{asked.prompts:,}" if asked.prompts else ALL, f"{asked.samples}"
        tokens = f"{asked.prompts * one:,}" if asked.prompts else f"{one:,} a prompt"
    rewards = tuple(f"reward/{name}" for name in sorted(run.asked(stage)))
    actors = tuple(role for role in ("learner", "rollout") if role in stage.roles)
    return StageCost(
        stage=stage.name,
        kind=stage.cls.__name__,
        actors=(*actors, *rewards),
        prompts=prompts,
        samples=samples,
        tokens=tokens,
        leaves=stage.leaves,
    )
