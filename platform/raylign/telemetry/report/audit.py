"""What an audit came to, for its view of the page: a row for each grader of a stage, and the most telling samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.telemetry.report.folder import Records
from raylign.telemetry.report.rollouts import Rollouts

SAMPLES = 24  # shown at most
ENDS = 0.1  # share of the recorded steps that a first and a last value are averaged over
KINDS = {"": False, "eval/": True}  # before the names of metrics: whether they are of held-out prompts
ALARMS = {False: "exploit", True: "exploit_held_out"}


def audit(run: Records, recorded: Rollouts) -> dict[str, Any] | None:
    """{"graders": [..], "samples": [..], "asked": how many, "share": of all samples}; None without an audit."""
    asked = sum(line[name] for line in run.metrics for kind in KINDS if (name := f"{kind}audit/samples") in line)
    graders = [
        _grader(run, stage, kind, name) for stage in run.stages for kind in KINDS for name in _graders(run, stage, kind)
    ]
    if not graders and not asked:
        return None
    shares = [line["audit/share"] for line in run.metrics if "audit/share" in line]
    samples = recorded.exploits(SAMPLES) if len(recorded) else []
    return {"graders": graders, "samples": samples, "asked": asked, "share": shares[-1] if shares else None}


def _graders(run: Records, stage: str, kind: str) -> list[str]:
    """Graders of a stage, with their domain where they have one."""
    starts = tuple(f"{kind}audit/{figure}/" for figure in ("grade", "missing"))
    names = [name for line in run.metrics if line["stage"] == stage for name in line if name.startswith(starts)]
    found = list(dict.fromkeys(name.split("audit/")[1].partition("/")[2] for name in names))
    return [name for name in found if not any(other.startswith(f"{name}/") for other in found)]


def _grader(run: Records, stage: str, kind: str, name: str) -> dict[str, Any]:
    lines = [line for line in run.metrics if line["stage"] == stage]
    held_out, figures = KINDS[kind], {}
    for figure in ("grade", "exploit", "recent", "unbacked", "blind_spot", "first_appearance", "domination"):
        metric = f"{kind}audit/{figure}/{name}"
        figures[figure] = [line[metric] for line in lines if line.get(metric) is not None]
    grader, _, domain = name.partition("/")
    missing = [line[f"{kind}audit/missing/{grader}"] for line in lines if f"{kind}audit/missing/{grader}" in line]
    own = {"stage": stage, "grader": grader, "domain": domain, "held_out": held_out}
    started = [event for event in run.events if event["kind"] == "audit_start" and _same(event, own)]
    alarms = [event for event in run.events if event["kind"] == "alarm" and event.get("stage") == stage]
    return {
        **own,
        "start": {key: started[-1].get(key) for key in ("reward_from", "grade_to", "samples")} if started else None,
        "grade": _ends(figures["grade"]),
        "exploit": _ends(figures["exploit"]),
        "most": max(figures["recent"], default=None),
        "unbacked": figures["unbacked"][-1] if figures["unbacked"] else None,
        "blind_spot": bool(figures["blind_spot"]) and bool(max(figures["blind_spot"])),
        "first_appearance": figures["first_appearance"][-1] if figures["first_appearance"] else None,
        "domination": figures["domination"][-1] if figures["domination"] else None,
        "missing": float(np.mean(missing)) if missing else None,
        "alarm": any(
            event.get("alarm") == ALARMS[held_out] and str(event.get("metric", "")).endswith(f"/{name}")
            for event in alarms
        ),
    }


def _same(event: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return all(event.get(key) == value for key, value in own.items())


def _ends(values: Sequence[float]) -> list[float] | None:
    """First and last, each the mean of a tenth of them."""
    if not values:
        return None
    few = max(1, round(ENDS * len(values)))
    return [float(np.mean(values[:few])), float(np.mean(values[-few:]))]
