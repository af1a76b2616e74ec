"""Chat models in the place of the policy's engines: served ones, endpoints, scripts. They answer, or live episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylign.actors.environments.remote import environments_of
from raylign.actors.judge.chat import ChatModel
from raylign.actors.judge.episodes import ChatEpisodes
from raylign.actors.judge.rollouts import ChatRollouts
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.actors.rollout.strategies import SingleTurn
from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.errors import Problem
from raylign.recipes.stages.context import RunContext


def teacher_problems(key: str, by: str, teacher: Mapping[str, Any], run: Run) -> list[Problem]:
    """What is wrong with who answers in a stage: nobody searches among what a chat model might have said."""
    findings = Findings(key)
    if not (by or teacher):
        return findings
    why, fix = f"answers beside judges.{by}", f"set {key}.by= or leave it out"
    findings.expect(not (by and teacher), "teacher", "given", why, fix)
    strategy = run.parts.get(f"{key}.strategy")
    if strategy is not None and strategy.cls not in (SingleTurn, MultiTurn):
        why, fix = "is a matter of the engines, and a chat model answers in their place", "leave it out"
        findings.append(Problem(key=f"{key}.strategy", value=strategy.cls.__name__, why=why, fix=fix))
    return findings


def teacher_of(stage: str, node: Mapping[str, Any]) -> ChatModel:
    """The chat model that a stage names itself."""
    return build(ChatModel, node, f"stages.{stage}.teacher")


async def chat_rollouts(context: RunContext, model: ChatModel) -> ChatRollouts:
    """Its samples; episodes where the present stage plays, in environments of actors or of the driver's process."""
    run, own = context.run, context.settings
    strategy = run.parts.get(f"stages.{context.name}.strategy") or run.parts["rollout.strategy"]
    if not issubclass(strategy.cls, MultiTurn):
        return ChatRollouts(model)
    spec = await context.roles.environment(context.name if own.environment else "", own.environment)
    environments = environments_of(spec)
    assert environments is not None, "composing refuses a multi-turn strategy without an environment"
    return ChatEpisodes(model, environments, strategy.config)
