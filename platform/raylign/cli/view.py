"""``raylign view``: write the pages of some runs, and serve them on this machine."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from raylign.cli.options import new_command, say
from raylign.errors import RunError
from raylign.telemetry.report import write_report
from raylign.telemetry.report.page import ROLLOUTS

LOCAL = "127.0.0.1"
NAMES = (LOCAL, "localhost", "[::1]")  # what a browser on this machine, or behind a tunnel to it, calls it
SOURCES = ("metrics.jsonl", "events.jsonl", "resolved.yaml")  # a page older than one of these is made again
EPILOG = """\
examples:
  raylign view outputs/grpo-tiny-seed1                  write report.html into the folder and serve it
  raylign view outputs/a outputs/b --no-serve           a page each, the curves of both laid over each other
  raylign view outputs/a --out /tmp/pages --port 8000   elsewhere, at a fixed port; a reload shows the run as it is then
"""


class Page(NamedTuple):
    """One run's page: where its run is, which runs stand beside it, where it is written."""

    folder: Path
    beside: tuple[Path, ...]
    path: Path
    rollouts: int

    def write(self) -> Path:
        """Make it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return write_report(self.folder, self.beside, self.path, self.rollouts)

    def fresh(self) -> bytes:
        """Its content, made again when a run has gone on since it was written."""
        written = self.path.stat().st_mtime_ns if self.path.exists() else -1
        sources = [folder / name for folder in (self.folder, *self.beside) for name in SOURCES]
        if any(source.exists() and source.stat().st_mtime_ns > written for source in sources):
            self.write()
        return self.path.read_bytes()


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "view", "write the pages of some runs and serve them", EPILOG)
    parser.add_argument("folders", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--no-serve", action="store_true", help="only write")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--out", default="", metavar="DIR", help="folder for the pages (default: each run's own)")
    parser.add_argument(
        "--rollouts", type=int, default=ROLLOUTS, metavar="N", help=f"on one page at most (default {ROLLOUTS:,})"
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Write, and serve until Ctrl-C."""
    pages = pages_of([Path(text).expanduser().absolute() for text in parsed.folders], parsed.out, parsed.rollouts)
    for page in pages.values():
        say(f"{page.write()} ({page.path.stat().st_size / 1e6:.1f} MB)")
    if parsed.no_serve:
        return 0
    with server(pages, parsed.port) as serving:
        for name in pages:
            say(f"http://{LOCAL}:{serving.server_address[1]}/{quote(name)}")
        say("Ctrl-C ends it")
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            say()
    return 0


def pages_of(folders: list[Path], out: str, rollouts: int) -> dict[str, Page]:
    """Address -> page. Raises RunError on a folder that is no run, or is named twice."""
    for folder in folders:
        if not (folder / "metrics.jsonl").exists() and not (folder / "events.jsonl").exists():
            raise RunError(f"{folder} is no run folder: it holds neither metrics.jsonl nor events.jsonl")
    if len(set(folders)) < len(folders):
        raise RunError("a run is named twice")
    pages: dict[str, Page] = {}
    for folder in folders:
        address = next(name for name in _addresses(folder) if name not in pages)
        path = Path(out).expanduser() / address if out else folder / "report.html"
        pages[address] = Page(folder, tuple(other for other in folders if other != folder), path, rollouts)
    return pages


def _addresses(folder: Path) -> list[str]:
    """URL name of each run; runs in different folders may share a folder name."""
    return [f"{folder.name}.html", *(f"{folder.name}-{number}.html" for number in range(2, 1000))]


def server(pages: Mapping[str, Page], port: int = 0) -> ThreadingHTTPServer:
    """A server of these pages on this machine; `/` is the first. Raises RunError when the port is taken."""
    try:
        return ThreadingHTTPServer((LOCAL, port), partial(_Handler, pages))
    except OSError as cause:
        raise RunError(f"port {port} of {LOCAL}: {cause.strerror}; fix: --port with another number, or none") from cause


def _own_name(hosts: Sequence[str]) -> bool:
    """Whether the one Host header names this machine's own address; any port, for a tunnel's may be another."""
    if len(hosts) != 1:
        return False
    match = re.fullmatch(r"(\[[0-9a-f:]+\]|[^:\[\]]+)(:[0-9]{1,5})?", hosts[0].strip().lower())
    return match is not None and match[1] in NAMES


class _Handler(BaseHTTPRequestHandler):
    """Answers GET of a page, nothing else."""

    def __init__(self, pages: Mapping[str, Page], *args: Any) -> None:
        self._pages = pages
        super().__init__(*args)

    def do_GET(self) -> None:
        """A page, 404, or 403 for another host's name: a page elsewhere whose name was made to lead here (DNS
        rebinding) would read the run through the visitor's browser.
        """
        if not _own_name(self.headers.get_all("Host") or []):
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to its own address only")
            return
        name = unquote(self.path.split("?")[0].lstrip("/")) or next(iter(self._pages))
        page = self._pages.get(name)
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = page.fresh()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the terminal belongs to the addresses."""
