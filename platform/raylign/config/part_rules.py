"""Rules of what many parts hold: ways to sample, optimizers and penalties, at every depth of their settings."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from raylign.config.findings import Findings
from raylign.config.resolve import ResolvedPart
from raylign.config.schema import Config, SamplingConfig, Section
from raylign.errors import Problem

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def part_rules(part: ResolvedPart, config: Config) -> list[Problem]:
    """What is wrong with the sections within a part's settings, and with a coefficient that only a penalty has."""
    return _rules(part.key, part.config, config)


def _rules(key: str, settings: DataclassInstance, config: Config) -> list[Problem]:
    problems = Findings(key)
    for item in dataclasses.fields(settings):
        value, below = getattr(settings, item.name), f"{key}.{item.name}"
        if isinstance(value, Section):
            problems += value.problems(below)
        if isinstance(value, SamplingConfig):
            room = config.model.max_context - config.data.max_prompt_tokens
            why = f"leaves no room for the prompt's {config.data.max_prompt_tokens} tokens in model.max_context"
            if room > 0:  # else the lengths of the whole run do not fit, which is told there
                problems.at_most(f"{item.name}.max_tokens", value.max_tokens, room, why)
        elif item.name == "kl_coef":
            why = "pays for running away from the reference; a penalty is positive"
            problems.expect(value >= 0, item.name, value, why, f"set {below}=0 or more")
        elif dataclasses.is_dataclass(value) and not isinstance(value, (Section, type)):
            problems += _rules(below, value, config)
    return problems
