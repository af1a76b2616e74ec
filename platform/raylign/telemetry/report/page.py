"""Put a run's page together: markup, style and script of this folder, and the run's data, in one file.

    run        the headline, as plain JSON: shown at once
    curves, timeline, tables, audit, index, texts-K, bodies-K        gzip, base64: unpacked by the browser when needed

The page fetches nothing: its content security policy forbids it.
"""

from __future__ import annotations

import base64
import gzip
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import orjson

from raylign.run_folder import write_atomically
from raylign.telemetry.report.audit import audit
from raylign.telemetry.report.curves import curves
from raylign.telemetry.report.folder import Records
from raylign.telemetry.report.headline import headline
from raylign.telemetry.report.rollouts import Rollouts
from raylign.telemetry.report.timeline import timeline
from raylign.telemetry.report.vocabulary import tokenizers_of

SCRIPTS = (
    "core",
    "headline",
    "curves",
    "chart",
    "timeline",
    "rollouts",
    "list",
    "tokens",
    "detail",
    "audit",
    "tables",
    "main",
)
STYLES = ("page", "views")
ROLLOUTS = 10_000  # on one page
EVENTS = 500  # the last ones, phases left out
JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def write_report(folder: Path, beside: Sequence[Path] = (), path: Path | None = None, rollouts: int = ROLLOUTS) -> Path:
    """Make a run's page from the files of its folder, as far as they exist. Returns its path.

    beside: other run folders, whose curves are laid over this run's and whose settings are compared.
    path: where to write it; by default `report.html` in the run folder. rollouts: how many the page may hold.
    """
    run, others = Records.read(folder), [Records.read(other) for other in beside]
    target = path or folder / "report.html"
    write_atomically(target, page(run, others, rollouts).encode())
    return target


def page(run: Records, others: Sequence[Records], rollouts: int) -> str:
    """The page's HTML."""
    marks = {
        "/*style*/": "\n".join(_source(f"{name}.css") for name in STYLES),
        "/*script*/": "\n".join(_source(f"{name}.js") for name in SCRIPTS),
        "<!--data-->": "\n".join(_data(run, others, rollouts)),
        "<!--title-->": run.name.replace("&", "&amp;").replace("<", "&lt;"),
    }
    html = _source("page.html")
    for mark, text in marks.items():
        html = html.replace(mark, text, 1)
    return html


def tables(run: Records, others: Sequence[Records]) -> dict[str, Any]:
    """Settings of this run, those in which the runs differ, environment, and the last events without phases."""
    settings_here, theirs = run.settings(), [other.settings() for other in others]
    every = sorted({key for settings in (settings_here, *theirs) for key in settings})
    columns = [[settings.get(key, "absent") for settings in (settings_here, *theirs)] for key in every]
    return {
        "runs": [run.name, *(other.name for other in others)],
        "settings": list(settings_here.items()),
        "differing": [[key, *values] for key, values in zip(every, columns, strict=True) if len(set(values)) > 1],
        "overrides": run.overrides,
        "environment": list(run.machine().items()),
        "events": [event for event in run.events if event["kind"] != "phase"][-EVENTS:],
    }


def _data(run: Records, others: Sequence[Records], limit: int) -> Iterator[str]:
    recorded = Rollouts(run.folder, limit, tokenizers_of(run))
    summary = headline(run) | {
        "made": time.strftime("%Y-%m-%d %H:%M:%S"),
        "beside": [headline(other) for other in others],
        "rollouts": len(recorded),
    }
    audited = audit(run, recorded)
    summary["audited"] = None if audited is None else len(audited["samples"])
    yield f'<script type="application/json" id="run">{_plain_json(summary)}</script>'
    if audited is not None:
        yield _packed("audit", audited)
    yield _packed("curves", [curves(records) for records in (run, *others)])
    yield _packed("timeline", timeline(run))
    yield _packed("tables", tables(run, others))
    if len(recorded):
        yield _packed("index", recorded.index)
        yield from (_packed(f"texts-{number}", chunk) for number, chunk in enumerate(recorded.texts()))
        yield from (_packed(f"bodies-{number}", chunk) for number, chunk in enumerate(recorded.bodies()))


def _packed(name: str, content: Any) -> str:
    squeezed = gzip.compress(orjson.dumps(content, option=JSON, default=str), 6, mtime=0)
    return f'<script type="application/gzip" id="{name}">{base64.b64encode(squeezed).decode()}</script>'


def _plain_json(content: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return orjson.dumps(content, option=JSON, default=str).decode().replace("<", "\\u003c")


def _source(name: str) -> str:
    return resources.files("raylign.telemetry.report").joinpath(name).read_text()
