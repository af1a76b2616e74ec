"""Run a sweep: check every point, ask the sampler, start, wait, tell; the same command continues it."""

from __future__ import annotations

import hashlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import orjson

from raylign.cli.options import say
from raylign.config.compose import compose_with_problems
from raylign.config.headline import direction, sweep_metric, sweep_problems
from raylign.config.resolve import Run
from raylign.config.schema import Config
from raylign.contracts import Launcher, Sampler
from raylign.errors import ConfigError, Problem, RunError
from raylign.run_folder import write_atomically
from raylign.sweeps.points import Handle, Point
from raylign.sweeps.results import Results, judge
from raylign.sweeps.space import Space
from raylign.telemetry.shown import duration

POLL_S = 0.5
STOPPED = 3  # exit status of a run that saved itself: it is not over


def sweep(overrides: Sequence[str], config_dir: str = "") -> int:
    """Run all points and print a table; status 0 when every point ended with 0.

    All points that the sampler may choose are composed and checked before the first one starts. Raises ConfigError.
    """
    space = Space.parse(overrides)
    run = _settings(space, config_dir)
    config = run.config
    judged = _judged(run)
    folder = _folder(config, space, judged)
    sampler: Sampler = run.parts["sweep.sampler"].build(
        space=space, folder=folder, seed=config.seed, direction=judged.direction
    )
    problems = _problems([space.point(values) for values in sampler.to_check()], config_dir, metric=judged.metric)
    if problems:
        raise ConfigError(problems)
    launcher: Launcher = run.parts["sweep.launcher"].build(config_dir=config_dir, name=folder.name)
    resumed = _claim(folder, space, _identity(config, space), judged, sampler.learns)
    say(f"{'continuing ' if resumed else ''}{sampler.total} points, {launcher.parallel} at a time, in {folder}")
    points: list[Point] = []
    try:
        with _terminable():
            _Driver(sampler, launcher, judged.metric, points).run()
    finally:
        launcher.close()
        results = Results(folder=folder, points=points, metric=judged.metric, direction=judged.direction)
        results.write()
        say(results.render())
    if all(point.status == 0 for point in points):
        write_atomically(folder / "finished.json", b"{}")
        return 0
    return 1


class Judged(NamedTuple):
    """What points are compared by."""

    metric: str  # <stage>/<metric>
    direction: str  # maximize or minimize


class _Driver:
    """The points under way."""

    def __init__(self, sampler: Sampler, launcher: Launcher, metric: str, points: list[Point]) -> None:
        self._sampler, self._launcher, self._metric = sampler, launcher, metric
        self._points = points
        self._running: list[tuple[Point, Handle, float]] = []

    def run(self) -> None:
        """Until every point is over; on Ctrl-C every running point saves itself first."""
        try:
            waiting = self._fill()
            while waiting or self._running:
                time.sleep(POLL_S)
                self._collect()
                waiting = self._fill()
        except KeyboardInterrupt:
            say("stopping: every running point saves itself; the same command continues the sweep")
            self._stop()
            raise
        except BaseException:
            self._stop()
            raise

    def _fill(self) -> bool:
        """Start points while there is room; False when the sampler has no more."""
        while len(self._running) < self._launcher.parallel:
            point = self._sampler.ask()
            if point is None:
                return False
            self._points.append(point)
            if point.finished or point.over:
                point.status = 0 if point.finished else 1
                self._end(point, "was finished before" if point.finished else "failed before")
                continue
            point.folder.mkdir(parents=True, exist_ok=True)
            self._running.append((point, self._launcher.start(point), time.monotonic()))
            say(f"[{point.name}] {shlex.join(point.varied)}")
        return True

    def _collect(self, stopping: bool = False) -> None:
        for entry in list(self._running):
            point, handle, started = entry
            point.status, seconds = handle.poll(), time.monotonic() - started
            point.seconds = seconds
            if point.status is None:
                continue
            self._running.remove(entry)
            if point.status == STOPPED or (stopping and point.status != 0):  # no verdict: it goes on another time
                say(f"[{point.name}] stopped after {duration(seconds)}")
            else:
                self._end(point, f"exit {point.status} after {duration(seconds)}")

    def _end(self, point: Point, how: str) -> None:
        judge(point, self._metric)
        self._sampler.tell(point)
        value = "" if point.value is None else f", {self._metric} {point.value:.4g}"
        say(f"[{point.name}] {how}{value}")

    def _stop(self) -> None:
        for _, handle, _ in self._running:
            handle.stop()
        while self._running:
            time.sleep(POLL_S)
            self._collect(stopping=True)


def _settings(space: Space, config_dir: str) -> Run:
    """The run that the sweep's own settings come from. Raises ConfigError."""
    first = space.ends()[0] if space.dimensions else ()
    run, problems = compose_with_problems([*space.point(first), *space.own], config_dir)
    if run is None or any(problem.key.startswith("sweep") for problem in problems):
        raise ConfigError(
            [*problems, *_problems([space.point(values) for values in space.ends()], config_dir, problems)]
        )
    return run


def _judged(run: Run) -> Judged:
    """As the sweep says, or by the headline of its first point. Raises ConfigError when no stage says what that is."""
    metric = sweep_metric(run)
    if not metric:
        why, fix = "no stage says what it is judged by", "set sweep.metric=STAGE/METRIC"
        raise ConfigError([Problem(key="sweep.metric", value="empty", why=why, fix=fix)])
    return Judged(metric, direction(metric, run.config.sweep.direction))


def _problems(
    points: Sequence[Sequence[str]], config_dir: str, known: Sequence[Problem] = (), metric: str = ""
) -> list[Problem]:
    """What is wrong with any of the points, each problem once. metric: that every one of them must be able to log."""
    told = {(problem.key, problem.value) for problem in known}
    by_key: dict[tuple[str, str], Problem] = {}
    for overrides in points:
        run, problems = compose_with_problems(overrides, config_dir)
        problems = [*problems, *(sweep_problems(metric, run) if run and not problems else ())]
        by_key |= {
            (problem.key, problem.value): problem for problem in problems if (problem.key, problem.value) not in told
        }
    return list(by_key.values())


def _identity(config: Config, space: Space) -> str:
    """Changes with what the points are and who chooses them; how many, where, in what order and how they are compared
    is free.
    """
    sampler = config.sweep.sampler.get("_target_")
    return hashlib.sha256(orjson.dumps([space.fixed, sampler, repr(space.dimensions)])).hexdigest()[:8]


def _folder(config: Config, space: Space, judged: Judged) -> Path:
    """The named folder, or the first numbered default one that is new or holds this very sweep, unfinished or compared
    by something else.
    """
    if config.sweep.dir:
        return Path(config.sweep.dir).expanduser()
    base, identity = Path("multirun") / config.recipe, _identity(config, space)
    for number in range(1, 100_000):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if not (path / "sweep.json").exists():
            return path
        known = orjson.loads((path / "sweep.json").read_bytes())
        over = (path / "finished.json").exists() and known["judged"] == list(judged)
        if known["identity"] == identity and not over:
            return path
    raise RunError(f"too many sweeps beside {base}; fix: name one by sweep.dir")


def _claim(folder: Path, space: Space, identity: str, judged: Judged, learns: bool) -> bool:
    """Make the folder this sweep's; True when it was already. learns: its points were chosen by what was measured.

    Raises RunError when it is another's.
    """
    place = folder / "sweep.json"
    known = orjson.loads(place.read_bytes()) if place.exists() else None
    if known and known["identity"] != identity:
        raise RunError(f"{folder} holds another sweep; fix: the command that it was started with, or another sweep.dir")
    if known and learns and known["judged"] != list(judged):
        metric, way = known["judged"]
        raise RunError(
            f"{folder}: its points are chosen by {metric} ({way}), not by {judged.metric} ({judged.direction}); "
            f"fix: sweep.metric={metric} sweep.direction={way}, or another sweep.dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    words = [*space.fixed, *(item.key for item in space.dimensions), *space.own]
    facts = {"identity": identity, "judged": list(judged), "command": words}
    write_atomically(place, orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    return known is not None


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM stops a sweep as Ctrl-C does; without it the points would be left alone."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[..., object] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
