"""Every choice that changes the numbers of a run, from the resolved Configs of its parts, defaults included."""

from __future__ import annotations

import dataclasses

from raylign.config.differing import fields_of, flat, text
from raylign.config.resolve import Run
from raylign.run_folder import flatten
from raylign.telemetry.table import table

TRAINING_PARTS = ("shaper", "selector", "advantage", "objective")


def choices(run: Run) -> dict[str, object]:
    """Dotted key -> value of everything that changes the numbers of this run, defaults included."""
    config, stages = run.config, run.stages
    rl = any(stage.batch for stage in stages)
    shown: dict[str, object] = {}
    for stage in stages:
        shown |= flat(stage.key, fields_of(stage.config))
    keys: list[str] = []
    if any("rollout" in stage.roles for stage in stages):
        shown |= flat("rollout.sampling", dataclasses.asdict(config.rollout.sampling))
        keys.append("rollout.strategy")
    if rl:
        keys += [*TRAINING_PARTS, *(f"rewards.{name}.fn" for name in config.rewards)]
        if not all(run.weighs_itself(stage) for stage in stages if run.asked(stage)):
            shown |= {f"rewards.{name}.weight": reward.weight for name, reward in config.rewards.items()}
    if rl and "value" in run.streams():
        keys.append("critic.objective")
        shown |= flat("critic.optim", dataclasses.asdict(config.critic.optim))
    for key in keys:
        part = run.parts[key]
        shown[key] = part.cls.__name__
        shown |= flat(key, fields_of(part.config))
    if any("learner" in stage.roles for stage in stages):
        shown |= flat("learner.optim", dataclasses.asdict(config.learner.optim))
        shown["learner.share_prompts"] = config.learner.share_prompts
    shown["model.dtype"] = config.model.dtype
    return shown


def describe(run: Run) -> str:
    """Every setting of a run as two tables: those that change its numbers, and all others."""
    known = choices(run)
    others = {key: value for key, value in flatten(dict(run.tree)).items() if key not in known}
    rows = [[(key, text(value)) for key, value in part.items()] for part in (known, others)]
    numbers = table(["setting that changes the numbers", "value"], rows[0])
    return f"{numbers}\n\n{table(['every other setting', 'value'], rows[1])}" if rows[1] else numbers
