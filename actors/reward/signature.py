"""The ways in which people write reward functions, told apart by the names of their parameters.

| convention | parameters                                                  | gets, returns                         |
|------------|-------------------------------------------------------------|---------------------------------------|
| raylign    | ``prompt, response, answer, **meta``                        | one response, one number              |
| group      | ``prompt, responses, answer, **meta`` (``scope: GROUP``)    | a prompt's responses, as many numbers |
| verl       | ``data_source, solution_str, ground_truth, extra_info``     | one response, one number              |
| verl batch | ``data_sources, solution_strs, ground_truths, extra_infos`` | lists, a list                         |
| TRL        | ``prompts, completions, **columns``                         | lists, a list                         |

Of verl's and TRL's parameters a function may leave out what it does not use. raylign's first three may have other
names, in this order. Further parameters are columns of the data, or `kwargs`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from raylign.records import Prompt, Trajectory

ACCEPTED = (
    "(prompt, response, answer, **meta), with scope=GROUP (prompt, responses, answer, **meta); "
    "verl's (data_source, solution_str, ground_truth, extra_info); TRL's (prompts, completions, **columns)"
)
OWN = ("prompt", "response", "responses", "answer")
ANSWERS = ("answer", "solution", "ground_truth")
OWN_THREE = ("prompt", "response", "answer")
NAMED_LIKE = {  # by place: names that are never used for another of the three
    0: frozenset(("prompt", "question", "query", "problem", "instruction", "prompt_text", "prompts", "queries")),
    1: frozenset((
        "response", "completion", "prediction", "pred", "generation", "model_output", "response_text", "responses",
        "completion_text", "prediction_text", "predictions",
    )),
    2: frozenset(("answer", "ground_truth", "gold", "gold_answer", "reference", "target", "label", "gt", "labels")),
}  # fmt: skip
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Convention(Enum):
    """Whose way of writing a reward function."""

    own = "raylign"
    verl = "verl"
    verl_batch = "verl, lists"
    trl = "TRL"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes."""

    convention: Convention
    names: tuple[str, ...]
    takes_all: bool  # **anything
    by_name: bool  # own convention: the first three are called by name
    lists: bool  # one call takes several responses and returns as many values

    def columns(self, own: Mapping[str, Any], kwargs: Mapping[str, Any], taken: Sequence[str]) -> dict[str, Any]:
        """Those of the prompt's columns and of `kwargs` that the function takes."""
        chosen = {
            name: value for name, value in own.items() if name not in taken and (self.takes_all or name in self.names)
        }
        return {**chosen, **kwargs}


def signature_of(function: Callable[..., Any], path: str, kwargs: Mapping[str, Any], group: bool) -> Signature:
    """How to call a function. Raises TypeError, saying what is accepted, when none of the conventions fits it."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise TypeError(f"{path} tells no signature; accepted are {ACCEPTED}") from error
    names = tuple(parameters)
    takes_all = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values())
    unknown = [name for name in kwargs if name not in names and not takes_all]
    if unknown:
        raise TypeError(f"{path}{inspect.signature(function)} does not take kwargs.{unknown[0]}")
    for convention, mark in (
        (Convention.verl, "solution_str"),
        (Convention.verl_batch, "solution_strs"),
        (Convention.trl, "completions"),
    ):
        if mark in names:
            return Signature(convention, names, takes_all, by_name=True, lists=convention is not Convention.verl)
    positional = [item for item in parameters.values() if item.kind in POSITIONAL and item.name not in kwargs]
    said, other, scope = ("responses", "response", "TRAJECTORY") if group else ("response", "responses", "GROUP")
    if other in names and said not in names:
        raise TypeError(f"{path}{inspect.signature(function)} takes '{other}': set its scope to {scope}")
    anything = any(item.kind is inspect.Parameter.VAR_POSITIONAL for item in parameters.values())
    # the first three, whatever the others are called
    in_order = len(positional) >= 3 and positional[1].name == said and not _elsewhere(positional)
    only_named = inspect.Parameter.POSITIONAL_ONLY not in {item.kind for item in parameters.values()}
    if said in names and only_named and not in_order:
        return Signature(Convention.own, names, takes_all, by_name=True, lists=group)
    if anything or len(positional) >= 3:
        if moved := _elsewhere(positional):
            raise TypeError(
                f"{path}{inspect.signature(function)} would get {moved}; name its parameters prompt, {said}, answer"
            )
        return Signature(Convention.own, names, takes_all, by_name=False, lists=group)
    raise TypeError(f"{path}{inspect.signature(function)} cannot be called as a reward; accepted are {ACCEPTED}")


def _elsewhere(positional: Sequence[inspect.Parameter]) -> str:
    """Which of the first three parameters is named like another one's value, as 'the answer as question'."""
    for place, item in enumerate(positional[:3]):
        meant = next((role for role, names in NAMED_LIKE.items() if item.name.lower() in names), place)
        if meant != place:
            return f"the {OWN_THREE[place]} as {item.name!r}"
    return ""


def call(
    function: Callable[..., Any],
    signature: Signature,
    item: tuple[Prompt, Sequence[Trajectory]],
    kwargs: Mapping[str, Any],
    conversational: bool,
) -> Any:
    """One call on some trajectories of a prompt: all of them where it takes lists, else `trajectories` is one."""
    prompt, trajectories = item
    texts = [trajectory.text for trajectory in trajectories]
    if signature.convention is Convention.trl:
        return function(**_trl(signature, prompt, trajectories, kwargs, conversational))
    if signature.convention is Convention.own:
        return _call_own(function, signature, prompt, texts, kwargs)
    given: dict[str, Any] = {
        "data_source": prompt.domain,
        "solution_str": texts[0] if texts else "",
        "ground_truth": prompt.answer,
        "extra_info": prompt.meta.get("extra_info", dict(prompt.meta)),
    }
    if signature.convention is Convention.verl_batch:
        once = {name: value for name, value in given.items() if name != "solution_str"}
        given = {"solution_strs": texts, **{_plural(name): [value] * len(texts) for name, value in once.items()}}
    taken = {name: value for name, value in given.items() if signature.takes_all or name in signature.names}
    return function(**{**signature.columns(prompt.meta, {}, tuple(given)), **taken, **kwargs})


def last_user(prompt: Prompt) -> str:
    """The text of the last user message."""
    texts = [message["content"] for message in prompt.messages if message["role"] == "user"]
    return str(texts[-1]) if texts else ""


def _call_own(
    function: Callable[..., Any], signature: Signature, prompt: Prompt, texts: Sequence[str], kwargs: Mapping[str, Any]
) -> Any:
    columns = signature.columns(prompt.meta, kwargs, OWN)
    said: Any = list(texts) if signature.lists else texts[0]
    if not signature.by_name:
        return function(last_user(prompt), said, prompt.answer, **columns)
    own = {"prompt": last_user(prompt), "response": said, "responses": said, "answer": prompt.answer}
    return function(**{**{name: value for name, value in own.items() if name in signature.names}, **columns})


def _trl(
    signature: Signature,
    prompt: Prompt,
    trajectories: Sequence[Trajectory],
    kwargs: Mapping[str, Any],
    conversational: bool,
) -> dict[str, Any]:
    count = len(trajectories)
    asked: Any = [dict(message) for message in prompt.messages] if conversational else last_user(prompt)
    texts = [trajectory.text for trajectory in trajectories]
    given: dict[str, Any] = {
        "prompts": [asked] * count,
        "completions": [[{"role": "assistant", "content": text}] for text in texts] if conversational else texts,
        "completion_ids": [[int(i) for call in t.calls for i in call.token_ids] for t in trajectories],
        "trainer_state": None,
    }
    columns = {**{name: prompt.answer for name in ANSWERS if prompt.answer is not None}, **prompt.meta}
    listed = {name: [value] * count for name, value in signature.columns(columns, {}, tuple(given)).items()}
    taken = {name: value for name, value in given.items() if signature.takes_all or name in signature.names}
    return {**listed, **taken, **kwargs}


def _plural(name: str) -> str:
    return f"{name}s"
