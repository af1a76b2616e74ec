"""When which role worked: spans from the phases that a run recorded, and busy and idle seconds per stage and role.

A phase lasts until the next record of its process. Which roles a phase keeps busy:

    rollout   engines sample (rewards are streamed meanwhile and not seen here)       -> rollout
    reward    the last token is there, rewards are outstanding                        -> reward
    score     log-probs under other weights: of the learner, or of frozen models      -> learner or frozen model
    learn, save                                                                       -> learner
    publish   weights travel                                                          -> learner, rollout
    start     actors of this stage are started                                        -> none
    evaluate  held-out prompts are sampled and rewarded                               -> rollout, reward

Where a step measured the idle share of a role itself (``idle/<role>``), that is what counts in the table, with what the
role did between steps. Phases are those that the driver goes through: where rollouts run ahead of it (asynchronous
stages) they say little about a role, so the lanes then show the measured shares too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raylign.telemetry.report.folder import Records

ROLES = ("rollout", "reward", "frozen", "learner")
BUSY = {
    "rollout": ("rollout",),
    "reward": ("reward",),
    "score": ("learner",),
    "learn": ("learner",),
    "save": ("learner",),
    "publish": ("learner", "rollout"),
    "evaluate": ("rollout", "reward"),
}
BETWEEN_STEPS = ("evaluate", "save")
OWN_STREAMS = ("old_logprob", "value")  # scored by the learner or the critic, all others by frozen models
NEW_PROCESS = ("headline", "stage_started", "resumed")  # what follows a kill
ENDED = ("stopped", "failed")  # the last records of a process that ends by itself


class Span(NamedTuple):
    """Seconds since the run's first record."""

    stage: str
    phase: str
    step: int  # of the stage, from 1; 0: none
    start: float
    end: float


def timeline(run: Records) -> dict[str, Any]:
    """For the page: roles in their order, spans of phases, bands of stages, measured shares, markers, busy seconds."""
    phases, bands = spans(run), stage_spans(run)
    measured = shares(run)
    return {
        "seconds": round(run.ended - run.started, 3),
        "roles": ROLES,
        "stages": [[band.stage, round(band.start, 3), round(band.end, 3)] for band in bands],
        "phase": {
            "start": [round(span.start, 3) for span in phases],
            "end": [round(span.end, 3) for span in phases],
            "name": [span.phase for span in phases],
            "stage": [span.stage for span in phases],
            "step": [span.step for span in phases],
        },
        "busy": {stage: busy_of(run, stage) for stage in run.stages},
        "measured": measured if any("async/in_flight" in line for line in run.metrics) else {},
        "markers": [
            {"time": round(event["time"] - run.started, 3), "kind": event["kind"], "text": _text(event)}
            for event in run.events
            if event["kind"] not in ("phase", "headline", "stage_started", "stage_finished", "published")
        ],
        "table": table(run, phases, bands, measured),
    }


def spans(run: Records) -> list[Span]:
    """One span per recorded phase. What ran when a process was killed has no known end and is left out."""
    marks = [event for event in run.events if event["kind"] in ("phase", "stage_finished", *ENDED, *NEW_PROCESS)]
    phases, current = [], None
    for mark in marks:
        if current is not None and mark["kind"] not in NEW_PROCESS:
            phases.append(_span(run, current, mark["time"]))
        current = mark if mark["kind"] == "phase" else None
    if current is not None and run.ended > current["time"]:
        phases.append(_span(run, current, run.ended))
    return phases


def _span(run: Records, mark: Mapping[str, Any], end: float) -> Span:
    start = float(mark["time"]) - run.started
    return Span(str(mark["stage"]), str(mark["phase"]), int(mark.get("stage_step", -1)) + 1, start, end - run.started)


def stage_spans(run: Records) -> list[Span]:
    """When each stage ran, in one piece for every process that worked on it."""
    stages: list[Span] = []
    name, start, last = "", 0.0, 0.0
    marks = [*({"kind": "step", **line} for line in run.metrics), *run.events]  # a step is told before its stage ends
    for mark in sorted(marks, key=lambda mark: float(mark["time"])):
        now = float(mark["time"]) - run.started
        stage = mark.get("stage")
        if stage and (stage != name or mark["kind"] == "stage_started"):
            if name and last > start:
                stages.append(Span(name, "stage", 0, start, last))
            name, start = str(stage), now
        ends = mark["kind"] in ("stage_finished", *ENDED)
        if (ends or mark["kind"] == "headline") and name:  # a process that is killed has no record of its end
            stages.append(Span(name, "stage", 0, start, now if ends else last))
            name = ""
        last = now
    if name and last > start:
        stages.append(Span(name, "stage", 0, start, last))
    return stages


def busy_of(run: Records, stage: str) -> dict[str, tuple[str, ...]]:
    """phase -> the roles that it keeps busy in this stage."""
    names = {name for line in run.metrics if line["stage"] == stage for name in line if name.startswith("time/score/")}
    others = [name for name in names if name.removeprefix("time/score/") not in OWN_STREAMS]
    return BUSY | ({"score": ("frozen",)} if others else {})


def shares(run: Records) -> dict[str, list[list[float]]]:
    """Role -> [start, end, busy share] of every step that measured it."""
    shares_of: dict[str, list[list[float]]] = {}
    for line in run.metrics:
        seconds = line.get("time/step")
        for role in ROLES:
            idle = line.get(f"idle/{role}")
            if isinstance(idle, (int, float)) and isinstance(seconds, (int, float)):
                end = float(line["time"]) - run.started
                busy = min(1.0, max(0.0, 1.0 - idle))
                shares_of.setdefault(role, []).append([round(end - seconds, 3), round(end, 3), round(busy, 4)])
    return shares_of


def table(
    run: Records, phases: Sequence[Span], bands: Sequence[Span], measured: Mapping[str, Sequence[Sequence[float]]]
) -> list[dict[str, Any]]:
    """Per stage and role: busy and idle seconds of the stage's time, and per phase its seconds. Stages that recorded
    no phases say nothing about their roles (busy None).
    """
    rows = []
    for stage in run.stages:
        stage_phases = [span for span in phases if span.stage == stage]
        inside = [(band.start, band.end) for band in bands if band.stage == stage]
        total = sum(end - start for start, end in inside)
        roles_of = busy_of(run, stage)
        by_phase: dict[str, float] = {}
        for span in stage_phases:
            by_phase[span.phase] = by_phase.get(span.phase, 0.0) + span.end - span.start
        roles: dict[str, float] = {}
        for phase, seconds in by_phase.items():
            for role in roles_of.get(phase, ()):
                roles[role] = roles.get(role, 0.0) + seconds
        for role, parts in measured.items():
            worked = [(end - start) * share for start, end, share in parts if _within(end, inside)]
            if worked:
                between = [phase for phase in BETWEEN_STEPS if role in roles_of[phase]]
                roles[role] = sum(worked) + sum(by_phase.get(phase, 0.0) for phase in between)
        rows.append(
            {
                "stage": stage,
                "seconds": round(total, 3),
                "phases": {name: round(value, 3) for name, value in by_phase.items()},
                "roles": {role: round(min(roles[role], total), 3) for role in ROLES if role in roles},
            }
        )
    return rows


def _within(moment: float, pieces: Sequence[tuple[float, float]]) -> bool:
    return any(start <= moment <= end + 1e-3 for start, end in pieces)


def _text(event: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in event.items() if key not in ("time", "step", "kind", "hint")}
    return ", ".join(f"{key} {value}" for key, value in shown.items())[:300]
