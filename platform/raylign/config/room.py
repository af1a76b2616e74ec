"""The positions of a model, and what prompts, answers and pairs ask of them: one message, with numbers that fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import SamplingConfig
from raylign.contracts import Stage
from raylign.models.facts import ModelFacts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PROMPT, ANSWER, CONTEXT = "data.max_prompt_tokens", "rollout.sampling.max_tokens", "model.max_context"


def room_rules(run: Run, facts: ModelFacts, problems: Findings) -> None:
    """A prompt and its answer fit into the run's context, and this into the model's positions."""
    config = run.config
    prompt, answer = config.data.max_prompt_tokens, config.rollout.sampling.max_tokens
    context, positions, needed = config.model.max_context, facts.context, prompt + answer
    asked = f"{PROMPT} + {ANSWER} = {needed}"
    if positions and needed > positions:
        why = f"cannot make room: {asked} tokens are more than the {positions} positions of {facts.name}"
        problems.expect(False, CONTEXT, context, why, f"set {' '.join(_fitting(run, positions))}")
    elif positions and context > positions:
        more = "" if config.model.path else " or raise model.tiny.context"
        why = f"is more than the {positions} positions of {facts.name}"
        fix = f"set {' '.join([f'{CONTEXT}={positions}', *_others(run, positions, prompt)])}{more}"
        problems.expect(False, CONTEXT, context, why, fix)
    elif needed > context:
        why, fix = f"is less than {asked}", f"set {CONTEXT}={needed}, or shorten one of the two"
        problems.expect(False, CONTEXT, context, why, fix)


def _fitting(run: Run, positions: int) -> Iterator[str]:
    """Overrides under which everything fits. The smaller of prompt and answer stays as it is, where it leaves room."""
    config = run.config
    prompt, answer = config.data.max_prompt_tokens, config.rollout.sampling.max_tokens
    if not config.model.path:  # the model is made as it is wanted
        yield from (f"model.tiny.context={prompt + answer}", f"{CONTEXT}={prompt + answer}")
        return
    half = positions // 2
    shorter = prompt if prompt <= half else positions - answer if answer <= half else half
    yield f"{CONTEXT}={positions}"
    if shorter < prompt:
        yield f"{PROMPT}={shorter}"
    if positions - shorter < answer:
        yield f"{ANSWER}={positions - shorter}"
    yield from _others(run, positions, shorter)


def _others(run: Run, positions: int, prompt: int) -> Iterator[str]:
    """Overrides of the other lengths that would not fit then: of evaluations, and of pairs."""
    for part in run.parts.values():
        for key, length in _lengths(part.key, part.config, issubclass(part.cls, Stage)):
            most = positions - prompt if key.endswith("sampling.max_tokens") else positions
            if length > most:
                yield f"{key}={most}"


def _lengths(key: str, settings: DataclassInstance, stage: bool) -> Iterator[tuple[str, int]]:
    """(key, tokens) of the ways to sample within a part, and of a stage's own limit of prompt and answer together."""
    for item in dataclasses.fields(settings):
        value, below = getattr(settings, item.name), f"{key}.{item.name}"
        if isinstance(value, SamplingConfig):
            yield f"{below}.max_tokens", value.max_tokens
        elif stage and item.name == "max_tokens":
            yield below, value
