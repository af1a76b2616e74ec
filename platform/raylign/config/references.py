"""Settings that name what a stage leaves (``@STAGE/NAME``): found, checked when composing, and bound to paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from raylign.config.findings import Findings
from raylign.config.resolve import ResolvedStage, Run
from raylign.contracts import ARTIFACT, MODEL, REWARD_MODEL, Reference


def references(run: Run) -> list[Reference]:
    """All of a run, those of parts within parts too."""
    places = [("", run.config), *((part.key, part.config) for part in run.parts.values())]
    return [reference for key, settings in places for reference in _of(key, settings)]


def _of(key: str, value: Any) -> Iterator[Reference]:
    """Those of typed settings; a node within them is a part, and has its own."""
    if dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            entry, place = getattr(value, item.name), f"{key}.{item.name}" if key else item.name
            if ARTIFACT in item.metadata and str(entry).startswith("@"):
                yield Reference(key=place, value=str(entry), name=item.metadata[ARTIFACT])
            else:
                yield from _of(place, entry)
    elif isinstance(value, Mapping) and "_target_" not in value:
        for name, entry in value.items():
            yield from _of(f"{key}.{name}", entry)
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            yield from _of(f"{key}.{number}", entry)


def reference_rules(run: Run, problems: Findings) -> None:
    """Each reference means something that a stage before its first user leaves."""
    stages = {stage.name: stage for stage in run.stages}
    order = list(stages)
    for reference in references(run):
        named = stages.get(reference.stage)
        first = min((order.index(stage.name) for stage in users(run, reference.key)), default=len(order))
        before = [f"@{name}" for name in order[:first] if reference.among(stages[name].leaves)]
        what = "the model that is meant without one" if reference.name == MODEL else "none"
        empty = f"set {reference.key}= for {what}"
        fix = f"name {'one of ' if len(before) > 1 else ''}{', '.join(before)}, or {empty}" if before else empty
        if named is None:
            problems.expect(False, reference.key, reference.value, "names no stage of the run", fix)
        elif reference.among(named.leaves) is None:
            left = ", ".join(f"@{named.name}/{name}" for name in named.leaves) or "nothing"
            why = f"is none of what the stage leaves: {left}"
            problems.expect(False, reference.key, reference.value, why, fix)
        elif reference.among(named.leaves) == REWARD_MODEL and _is_policy(reference, stages):
            why = "is a reward model, which gives numbers and no text"
            problems.expect(False, reference.key, reference.value, why, fix)
        elif order.index(named.name) >= first:
            why = f"names no stage before stages.{order[first]}, which needs it"
            problems.expect(False, reference.key, reference.value, why, fix)


def _is_policy(reference: Reference, stages: Mapping[str, ResolvedStage]) -> bool:
    """Whether a language model is asked for."""
    stage = stages.get(reference.key.removeprefix("stages.").removesuffix(".start"))
    return reference.name == MODEL and (stage is None or stage.cls.of_policy)


def users(run: Run, key: str) -> list[ResolvedStage]:
    """The stages that read a setting."""
    root, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if root == "stages":
        return [stage for stage in run.stages if stage.name == name]
    if root == "rewards":
        return [stage for stage in run.stages if name in run.asked(stage)]
    if root == "audit":
        return run.audited
    if root == "frozen":
        return [stage for stage in run.stages if run.config.frozen[name].stream in run.streams_of(stage)]
    if root == "critic":
        return [stage for stage in run.stages if "value" in run.streams_of(stage)]
    return [stage for stage in run.stages if {"rollout", "rewards"} & stage.roles]


def bound(run: Run, path_of: Callable[[Reference], str | None]) -> Run:
    """The run with a path in place of each reference for which there is one by now."""
    found = {reference.key: path_of(reference) for reference in references(run)}
    paths = {key: path for key, path in found.items() if path is not None}
    if not paths:
        return run
    parts = {
        key: replace(part, node=_with(part.node, key, paths), config=_with(part.config, key, paths))
        for key, part in run.parts.items()
    }
    return replace(run, config=_with(run.config, "", paths), parts=parts)


def _with(value: Any, key: str, paths: Mapping[str, str]) -> Any:
    """The value at a key with these paths in it; what they do not touch is the same object."""
    if key in paths:
        return paths[key]
    prefix = f"{key}." if key else ""
    if not any(path.startswith(prefix) for path in paths):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        return replace(value, **{name: _with(entry, f"{prefix}{name}", paths) for name, entry in entries.items()})
    if isinstance(value, Mapping):
        return {name: _with(entry, f"{prefix}{name}", paths) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with(entry, f"{prefix}{number}", paths) for number, entry in enumerate(value)]
    return value
