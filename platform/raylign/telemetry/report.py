"""One self-contained `report.html` per run: curves, accuracy before and after, settings, samples. No network."""

from __future__ import annotations

import html
import itertools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import orjson
import yaml

from raylign.run_folder import write_atomically
from raylign.telemetry.progress import duration
from raylign.telemetry.recorder import read_lines

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 190, 52, 10, 10, 26
MAIN = ("reward", "eval", "loss", "length", "entropy", "approx_kl_k3", "grad_norm", "sampler_gap", "tokens", "time")
SERIES = 6  # lines in one chart that can be told apart
SMOOTHING = 0.7
ACCURACY = ("eval/score",)
GROUPS, SAMPLES = 4, 4  # shown of the last step


class Point(NamedTuple):
    """One value of a metric."""

    x: float  # step
    y: float
    stage: str


def write_report(folder: Path) -> Path:
    """Make `<run>/report.html` from the files of a run folder, as far as they exist. Returns its path."""
    lines = read_lines(folder / "metrics.jsonl")
    resolved = _yaml(folder / "resolved.yaml")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("raylign.telemetry").joinpath("report.html").read_text()
    )
    drawn, steady = charts(lines)
    text = page.render(
        name=folder.name,
        recipe=resolved.get("recipe", ""),
        summary=_summary(lines),
        accuracy=_accuracy(lines),
        charts=drawn,
        steady=steady,
        settings=_settings(resolved),
        overrides=_text(folder / "overrides.txt").split("\n"),
        environment=_environment(folder / "environment.json"),
        events=_events(folder / "events.jsonl"),
        rollouts=_rollouts(folder / "rollouts"),
        made=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    path = folder / "report.html"
    write_atomically(path, text.encode())
    return path


def charts(lines: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """One chart per metric family (the name up to its last slash), and (name, value) of what never changed.

    A chart is {"title", "main", "svg", "legend": [(series number, name, last value)]}; the main ones come first.
    """
    families: dict[str, dict[str, list[Point]]] = {}
    for line in lines:
        for name, value in line.items():
            if name in ("step", "time", "stage") or not isinstance(value, (int, float)) or not math.isfinite(value):
                continue
            family = name.rpartition("/")[0] or name
            families.setdefault(family, {}).setdefault(name, []).append(Point(line["step"], value, line["stage"]))
    made, steady = [], []
    for family in sorted(families, key=_rank):
        moving = {}
        for name, points in sorted(families[family].items()):
            if len({point.y for point in points}) > 1:
                moving[name] = points
            else:
                steady.append((name, _number(points[-1].y)))
        names = list(moving)
        for first in range(0, len(names), SERIES):
            shown = {name: moving[name] for name in names[first : first + SERIES]}
            legend = [
                (number, name.rpartition("/")[2], _number(points[-1].y))
                for number, (name, points) in enumerate(shown.items())
            ]
            main = family in MAIN and first == 0
            made.append({"title": family, "main": main, "svg": _svg(list(shown.items())), "legend": legend})
    return made, steady


def _rank(family: str) -> tuple[int, str]:
    return (MAIN.index(family) if family in MAIN else len(MAIN)), family


def _svg(series: Sequence[tuple[str, Sequence[Point]]]) -> str:
    xs = [point.x for _, points in series for point in points]
    ys = [point.y for _, points in series for point in points]
    ticks_y = _ticks(min(ys), max(ys))
    ticks_x = [x for x in _ticks(min(xs), max(xs)) if min(xs) <= x <= max(xs) and x == int(x)]
    x0, x1, y0, y1 = min(xs), max(xs), ticks_y[0], ticks_y[-1]

    def px(x: float) -> float:
        return LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / ((y1 - y0) or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for y in ticks_y:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py(y) + 3:.1f}" text-anchor="end">{_number(y)}</text>')
    for x in ticks_x:
        parts.append(f'<text x="{px(x):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{_number(x)}</text>')
    for number, (name, points) in enumerate(series):
        for _, stage in itertools.groupby(points, key=lambda point: point.stage):  # no line from stage to stage
            own = list(stage)
            many = len(own) > 20
            line = " ".join(f"{px(point.x):.1f},{py(point.y):.1f}" for point in own)
            parts.append(f'<polyline class="s{number}{" raw" if many else ""}" points="{line}"/>')
            if many:
                smooth = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in _smoothed(own))
                parts.append(f'<polyline class="s{number}" points="{smooth}"/>')
            last = own[-1]
            title = f"{name} = {_number(last.y)} at step {_number(last.x)} ({last.stage})"
            place = f'cx="{px(last.x):.1f}" cy="{py(last.y):.1f}"'
            parts.append(f'<circle class="s{number}" {place} r="3"><title>{html.escape(title)}</title></circle>')
    return "".join([*parts, "</svg>"])


def _smoothed(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Exponential mean, corrected for its start."""
    total, weight, out = 0.0, 0.0, []
    for point in points:
        total, weight = SMOOTHING * total + point.y, SMOOTHING * weight + 1
        out.append((point.x, total / weight))
    return out


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that enclose [low, high]."""
    span = (high - low) or abs(high) or 1.0
    raw = span / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _summary(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    if not lines:
        return []
    stages = list(dict.fromkeys(str(line["stage"]) for line in lines))
    spent = lines[-1]["time"] - lines[0]["time"]
    return [("steps", str(lines[-1]["step"])), ("stages", " → ".join(stages)), ("time", duration(spent))]


def _accuracy(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """First and last held-out accuracy, and all in between."""
    found = []
    for line in lines:
        value = next((line[name] for name in ACCURACY if isinstance(line.get(name), (int, float))), None)
        if value is not None:
            found.append((line["stage"], line["step"], value))
    if not found:
        return None
    written = Counter(line["stage"] for line in lines)
    alone = [entry for entry in found if written[entry[0]] == 1]  # of stages that do nothing but evaluate
    first, last = (alone[0], alone[-1]) if len(alone) > 1 else (found[0], found[-1])
    change = f"{(last[2] - first[2]) * 100:+.1f}"
    return {"before": f"{first[2]:.1%}", "after": f"{last[2]:.1%}", "change": change, "all": found}


def _settings(resolved: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in resolved.items():
        if isinstance(value, Mapping) and value:
            rows += _settings(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows


def _rollouts(folder: Path) -> dict[str, Any] | None:
    files = sorted(folder.glob("step_*.jsonl"))
    if not files:
        return None
    trained = (path for path in reversed(files) if any(row.get("advantage") is not None for row in read_lines(path)))
    chosen = next(trained, files[-1])  # samples that were learned from say more than those of an evaluation
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in read_lines(chosen):
        groups.setdefault(str(row["prompt"]), []).append(row)
    shown = []
    for key, rows in list(groups.items())[:GROUPS]:
        scores = [row["score"] for row in rows if row.get("score") is not None]
        ranked = sorted(rows, key=lambda row: -(row.get("score") or 0))
        picked = ranked if len(ranked) <= SAMPLES else ranked[: SAMPLES // 2] + ranked[-(SAMPLES // 2) :]
        mean = _number(sum(scores) / len(scores)) if scores else "-"
        shown.append(
            {"key": key, "first": rows[0], "rows": [_sample(row) for row in picked], "n": len(rows), "mean": mean}
        )
    return {"step": int(chosen.stem.removeprefix("step_")), "groups": shown}


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    rewards = [
        (name, f"missing: {reward['missing']}" if "missing" in reward else _number(reward["score"]))
        for name, reward in row.get("rewards", {}).items()
    ]
    advantage = row.get("advantage")
    shown = _number(advantage) if isinstance(advantage, (int, float)) else "-" if advantage is None else "per token"
    tokens = sum(len(turn["token_ids"]) for turn in row.get("turns", ()))
    good = isinstance(advantage, (int, float)) and advantage > 0
    return {**row, "chips": rewards, "advantage": shown, "tokens": tokens, "good": good}


def _events(path: Path) -> list[dict[str, Any]]:
    """The last events, the phases of ordinary steps left out."""
    return [event for event in read_lines(path) if event["kind"] != "phase"][-50:]


def _environment(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    fields = orjson.loads(path.read_bytes())
    rows = [(name, str(value)) for name, value in fields.items() if not isinstance(value, dict)]
    rows += [(name, str(version)) for name, version in fields.get("packages", {}).items()]
    git = fields.get("git") or {}
    return rows + ([("git", git["sha"] + (" with changes" if git.get("changed") else ""))] if git.get("sha") else [])


def _yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(_text(path)) or {}


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
