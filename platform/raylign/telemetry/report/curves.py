"""Every metric of a run as a column, for the page's charts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raylign.telemetry.report.folder import Records
from raylign.telemetry.units import label, title, unit

NOT_METRICS = ("step", "stage", "time")


def curves(run: Records) -> dict[str, Any]:
    """{"name", "stages", "stage": [index], "step": [..], "time": [seconds since the start], "metrics": {name: column},
    "units": {name: unit}, "words": {name: [title, label among its family]}, "alarms": [..]}.

    A column has one entry a recorded step, null where the step has no such number.
    """
    stages = run.stages
    metrics: dict[str, list[float | None]] = {}
    for row, line in enumerate(run.metrics):
        for name, value in line.items():
            if name not in NOT_METRICS and isinstance(value, (int, float)) and math.isfinite(value):
                metrics.setdefault(name, [None] * len(run.metrics))[row] = float(np.float32(value))
    return {
        "name": run.name,
        "stages": stages,
        "stage": [stages.index(str(line["stage"])) for line in run.metrics],
        "step": [line["step"] for line in run.metrics],
        "time": [round(line["time"] - run.started, 2) for line in run.metrics],
        "metrics": {name: metrics[name] for name in sorted(metrics)},
        "units": {name: unit(name) for name in metrics},
        "words": {name: [title(name), label(name)] for name in metrics},
        "alarms": [
            [event["step"], event["alarm"], str(event.get("metric", ""))]
            for event in run.events
            if event["kind"] == "alarm"
        ],
    }
