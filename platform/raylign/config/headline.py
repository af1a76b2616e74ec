"""The metric that a run is judged by, and which metrics its stages can log at all (`raylign.contracts.Stage.logs`).

A metric is named as ``<stage>/<metric>``, where it may be that of any stage as ``<metric>``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from raylign.config.resolve import ResolvedStage, Run
from raylign.errors import Problem

EVERY_STAGE = ("loop/*", "workers/*", "restarts/*", "reward_pool/*", "audit/*")  # recorded by whoever runs it
EVALUATIONS = "eval/"  # which a stage that lists none does not make, whatever else it may log
CLOSE = 0.9  # likeness of two names of which one is taken for a slip of the other
TOLD = 4  # names in a message


def logged_by(stage: ResolvedStage, run: Run) -> tuple[str, ...]:
    """Names and patterns of the metrics of a stage, the most telling first; empty where nobody knows."""
    return stage.cls.logs(stage.key, stage.config, run)


def headline(run: Run) -> str:
    """``<stage>/<metric>``: `telemetry.headline` of the last stage that logs it, or what the last stage is judged by;
    empty where no stage says.
    """
    wanted = run.config.telemetry.headline
    if _of_stage(wanted, run):
        return wanted
    for stage in reversed(run.stages):
        for name in logged_by(stage, run):
            if not name.endswith("*") and not wanted:
                return f"{stage.name}/{name}"
        if wanted and _logs(stage, wanted, run):
            return f"{stage.name}/{wanted}"
    return ""


def sweep_metric(run: Run) -> str:
    """What the points of a sweep are compared by: `sweep.metric`, or the headline."""
    return run.config.sweep.metric or headline(run)


def direction(metric: str, wanted: str = "") -> str:
    """maximize or minimize: as wanted, or by the metric: losses are better when they are lower."""
    return wanted or ("minimize" if lower_is_better(metric) else "maximize")


def lower_is_better(metric: str) -> bool:
    """Whether a metric is a loss."""
    words = metric.split("/")
    return words[-1] in ("loss", "nll") or "loss" in words[:-1]


def metric_problems(run: Run) -> list[Problem]:
    """What is wrong with the metrics that a run and its sweep are judged by: no stage can log them."""
    wanted = run.config.telemetry.headline
    right = not wanted or _of_stage(wanted, run) or _anywhere(wanted, run)
    problems = [] if right else [_problem("telemetry.headline", wanted, run, wanted)]
    return problems + sweep_problems(run.config.sweep.metric, run)


def sweep_problems(metric: str, run: Run) -> list[Problem]:
    """What is wrong with a metric ``<stage>/<metric>`` of the points of a sweep."""
    if not metric:
        return []
    stage, _, name = metric.partition("/")
    chosen = next((each for each in run.stages if each.name == stage), None)
    if chosen is not None and name and _logs(chosen, name, run):
        return []
    return [_problem("sweep.metric", metric, run, name)]


def _of_stage(metric: str, run: Run) -> bool:
    """Whether it is ``<stage>/<metric>`` of a stage that may log it."""
    name, _, own = metric.partition("/")
    return bool(own) and any(stage.name == name and _logs(stage, own, run) for stage in run.stages)


def _anywhere(name: str, run: Run) -> bool:
    """Whether any stage may log it, and it is no slip of what another logs."""
    known = [each for stage in run.stages for each in logged_by(stage, run)]
    return name in known or (not _slip(name, known) and any(_logs(stage, name, run) for stage in run.stages))


def _logs(stage: ResolvedStage, name: str, run: Run) -> bool:
    """Whether a stage may log a metric."""
    known = logged_by(stage, run)
    if not known or name in known:
        return True
    if name.startswith(EVALUATIONS) and not any(pattern.startswith(EVALUATIONS) for pattern in known):
        return False
    return not _slip(name, known) and any(fnmatchcase(name, pattern) for pattern in (*known, *EVERY_STAGE))


def _slip(name: str, known: Sequence[str]) -> bool:
    """Whether a name is nearly one of those that are logged for certain: then that one was meant."""
    certain = [each for each in known if not each.endswith("*")]
    return bool(difflib.get_close_matches(name, certain, n=1, cutoff=CLOSE))


def _problem(key: str, metric: str, run: Run, name: str) -> Problem:
    whole = key == "sweep.metric"
    known = list(dict.fromkeys(_known(run, whole)))
    close = difflib.get_close_matches(metric, known, n=TOLD, cutoff=0.6)
    close += [each for each in known if each.rpartition("/")[2] == name.rpartition("/")[2] and each not in close]
    fix = f"did you mean {' or '.join(close[:TOLD])}?" if close else f"known: {', '.join(known[:12]) or 'none'}"
    stages = ", ".join(stage.name for stage in run.stages)
    return Problem(key=key, value=metric, why=f"no stage of this run ({stages}) logs it", fix=fix)


def _known(run: Run, whole: bool) -> Iterator[str]:
    """Names that stages log for certain, the last stage's first."""
    stages: Sequence[ResolvedStage] = run.stages
    for stage in reversed(stages):
        for name in logged_by(stage, run):
            if not name.endswith("*"):
                yield f"{stage.name}/{name}" if whole else name
