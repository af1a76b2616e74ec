"""The figures that a person must see first: what the run did, how long it took, and what went wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.config.headline import lower_is_better
from raylign.telemetry.report.folder import Records
from raylign.telemetry.shown import LEARNING, duration, evaluated, set_scores
from raylign.telemetry.units import PERCENT, before_of, title, unit

FALLBACK = ("eval/score", "eval/rewards/accuracy", "eval/agreement", "reward/mean", "eval/loss", "loss")  # best first
COMPANIONS = {  # shown beside a headline
    "eval/rewards/accuracy": ("eval/rewards/margin", "eval/loss"),
    "eval/agreement": ("eval/margin", "eval/loss"),
    "rewards/accuracy": ("rewards/margin", "loss"),
}
ENDS = 0.1  # share of a stage's steps that its beginning and its end are averaged over


def headline(run: Records) -> dict[str, Any]:
    """Name, state, score before and after, totals and alarms, ready to be shown (numbers as text)."""
    alarms, scores = fired(run.events), results(run)
    return {
        "name": run.name,
        "facts": _facts(run),
        "finished": run.finished,
        "score": scores[0] if scores else None,
        "also": scores[1:],
        "steps": len(run.metrics),
        "stages": stages(run),
        "time": duration(run.worked) if run.metrics else "",
        "tokens": sum(_number(line.get("tokens/sampled")) for line in run.metrics),
        "speed": _mean([line["tokens/per_second"] for line in run.metrics if "tokens/per_second" in line]),
        "alarms": alarms,
        "restarts": sum(1 for event in run.events if event["kind"] == "resumed"),
    }


def results(run: Records) -> list[dict[str, Any]]:
    """The run's headline, and what is read beside it; empty where nothing of the kind was recorded."""
    recorded = {name for line in run.metrics for name in line}
    sets = sorted({name for line in run.metrics for name in set_scores(line)}, reverse=True)
    known = [str(event["metric"]) for event in run.events if event["kind"] == "headline"]
    metric = next((name for name in (*known[-1:], *FALLBACK, *sets) if name in recorded), "")
    beside = [name for name in sets if name != metric] if metric in sets else COMPANIONS.get(metric, ())
    measured = [score(run.metrics, name, run.events) for name in (metric, *beside) if name]
    return [entry for entry in measured if entry]


def score(
    lines: Sequence[Mapping[str, Any]], metric: str, events: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any] | None:
    """A metric before and after training: {"what", "metric", "before", "after", "share", "lower", "all"}; None without.

    Of evaluations, those of stages that do nothing else say it best; else what the last stage measured before its first
    step (an event) or the first evaluation, and the last one. Of what every step logs, the means of both ends of the
    last stage that logs it. `before` is null where there is but one value.
    """
    values = [(str(line["stage"]), line["step"], line[metric]) for line in lines if _is_number(line.get(metric))]
    if not values:
        return None
    last_stage = values[-1][0]
    if evaluated({metric: 0}):
        learning = {str(line["stage"]) for line in lines if any(name in line for name in LEARNING)}
        alone = [entry for entry in values if entry[0] not in learning]
        chosen = alone if len(alone) > 1 else values
        name = before_of(metric)
        own = [event[name] for event in events if event.get("stage") == last_stage and _is_number(event.get(name))]
        first, last = chosen[0][2] if chosen is alone or not own else own[-1], chosen[-1][2]
        several = len(values) > 1 or bool(own)
    else:
        chosen = [entry for entry in values if entry[0] == last_stage]
        few = max(1, round(ENDS * len(chosen)))
        first, last = (_mean([entry[2] for entry in part]) for part in (chosen[:few], chosen[-few:]))
        several = len(chosen) > 1
    return {
        "what": title(metric),
        "metric": metric,
        "before": first if several else None,
        "after": last,
        "share": unit(metric) in PERCENT and all(0 <= entry[2] <= 1 for entry in values),
        "lower": lower_is_better(metric),
        "all": values,
    }


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
