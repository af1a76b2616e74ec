"""The figures that a person must see first: what the run did, how long it took, and what went wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.telemetry.progress import duration
from raylign.telemetry.report.folder import Records

SCORE = "eval/score"
REWARD = "reward/mean"
ENDS = 0.1  # share of a stage's steps that its beginning and its end are averaged over


def headline(run: Records) -> dict[str, Any]:
    """Name, state, score before and after, totals and alarms, ready to be shown (numbers as text)."""
    alarms = fired(run.events)
    return {
        "name": run.name,
        "facts": _facts(run),
        "finished": run.finished,
        "score": score(run.metrics),
        "steps": len(run.metrics),
        "stages": stages(run),
        "time": duration(run.ended - run.started) if run.metrics else "",
        "tokens": sum(_number(line.get("tokens/sampled")) for line in run.metrics),
        "speed": _mean([line["tokens/per_second"] for line in run.metrics if "tokens/per_second" in line]),
        "alarms": alarms,
        "restarts": sum(1 for event in run.events if event["kind"] == "resumed"),
    }


def score(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Held-out score before and after training, or without evaluations the training reward; None without either.

    Stages that do nothing but evaluate (one line) say it best; else the first and the last evaluation do.
    """
    scores = [(str(line["stage"]), line["step"], line[SCORE]) for line in lines if _is_number(line.get(SCORE))]
    if len(scores) > 1:
        written = Counter(str(line["stage"]) for line in lines)
        alone = [entry for entry in scores if written[entry[0]] == 1]
        first, last = (alone[0], alone[-1]) if len(alone) > 1 else (scores[0], scores[-1])
        return {"what": "held-out score", "before": first[2], "after": last[2], "all": scores}
    rewards = [(str(line["stage"]), line["step"], line[REWARD]) for line in lines if _is_number(line.get(REWARD))]
    if not rewards:
        return {"what": "held-out score", "before": None, "after": scores[0][2], "all": scores} if scores else None
    few = max(1, round(ENDS * len(rewards)))
    before, after = _mean([r[2] for r in rewards[:few]]), _mean([r[2] for r in rewards[-few:]])
    return {"what": "training reward", "before": before if len(rewards) > 1 else None, "after": after, "all": scores}


def stages(run: Records) -> list[dict[str, Any]]:
    """Per stage: name, recorded steps, first and last step number, seconds from its first record to its last."""
    stages_of_run = []
    for name in run.stages:
        lines = [line for line in run.metrics if line["stage"] == name]
        times = [line["time"] for line in lines]
        times += [
            event["time"]
            for event in run.events
            if event.get("stage") == name and event["kind"] in ("stage_started", "stage_finished", "phase")
        ]
        seconds = max(times) - min(times) if times else 0.0
        edges = {"first": lines[0]["step"], "last": lines[-1]["step"]} if lines else {"first": None, "last": None}
        stages_of_run.append({"name": name, "steps": len(lines), "seconds": round(seconds, 1), **edges})
    return stages_of_run


def fired(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The alarms, each once: a step that a resumption did again may have raised its alarm again."""
    alarms: dict[tuple[int, str], dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "alarm":
            alarms[event["step"], event["alarm"]] = dict(event)
    return list(alarms.values())


def _facts(run: Records) -> list[tuple[str, str]]:
    model = (run.resolved.get("model") or {}).get("path") or "tiny"
    known = {
        "recipe": run.resolved.get("recipe"),
        "scale": run.resolved.get("scale"),
        "model": model if run.resolved else None,
        "seed": run.resolved.get("seed"),
        "commit": ((run.environment.get("git") or {}).get("sha") or "")[:10],
    }
    return [(key, str(value)) for key, value in known.items() if value not in (None, "")]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else 0.0


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if _is_number(value)]
    return float(np.mean(known)) if known else None
