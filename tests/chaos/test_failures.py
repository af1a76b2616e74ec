"""Every kind of failure has a test that proves how it ends, and what ends a run is an exit status."""

from __future__ import annotations

import ast
import asyncio
import errno
import io
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from failure_kinds import KINDS, Kind
from ray.exceptions import OutOfMemoryError

from raylign import errors
from raylign.cli import main, train
from raylign.config.schema import TelemetryConfig
from raylign.contracts import StageResult, StageSettings
from raylign.recipes import opening, run, stage_order
from raylign.recipes.stages.context import StopRequested
from raylign.recipes.stages.outcome import refuse_lost
from raylign.recipes.stages.rl import Rl
from raylign.recipes.stopping import ECHO_S, stopping_on_signals
from raylign.telemetry.lines import PlainProgress
from raylign.telemetry.recorder import Recorder, read_lines

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.failure)
def test_every_kind_has_its_proof(kind: Kind) -> None:
    file, _, name = kind.proof.partition("::")
    tree = ast.parse((TESTS / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


ENDS = {kind.ends for kind in KINDS if isinstance(kind.ends, type)} - {OSError, StopRequested, Exception}


def status_of(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(*_: Any) -> int:
        raise error

    monkeypatch.setitem(sys.modules, "a_runner", SimpleNamespace(train=fail))  # type: ignore[arg-type]
    monkeypatch.setattr(train, "RUNNER", "a_runner")
    return main(["train", "recipe=grpo", "scale=tiny"])


@pytest.mark.parametrize("ends", sorted(ENDS, key=lambda ends: ends.__name__), ids=lambda ends: ends.__name__)
def test_what_ends_a_run_is_an_exit_status(
    ends: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ends([]) if ends is errors.ConfigError else ends("because")
    status = status_of(error, monkeypatch)
    assert status == {"ConfigError": 2, "PlanError": 2, "DataError": 2, "KeyboardInterrupt": 130}.get(ends.__name__, 1)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_a_machine_refuses_is_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(OSError(number, "no", "/home/x/.cache"), monkeypatch) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "/home/x/.cache" in told and "fix: " in told
    with pytest.raises(OSError):
        status_of(OSError(errno.EIO, "broken", "x"), monkeypatch)


def test_a_lost_model_ends_the_run() -> None:
    for metrics in ({"loss": float("nan")}, {"grad_norm": float("inf")}):
        with pytest.raises(errors.RunError, match="the model is lost"):
            refuse_lost("rl", 3, metrics)
    refuse_lost("rl", 3, {"loss": 0.0})


@pytest.mark.parametrize(
    ("version", "taught", "why", "said"),
    [
        (0, 0, "none of 2 steps left a group to learn from", []),
        (2, 0, "", ["nothing_learned"]),
        (2, 1, "", []),
    ],
    ids=["no step to learn from", "every group flat", "one step taught"],
)
async def test_a_stage_that_learned_nothing_fails_or_says_so(
    version: int, taught: int, why: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, exported, events = Rl(Rl.Config(steps=2), "rl"), list[str](), list[str]()

    async def nothing(*_: Any) -> None:
        return None

    async def export(folder: str) -> None:
        exported.append(folder)

    async def made(*_: Any) -> Any:
        learner = SimpleNamespace(export=export)
        return SimpleNamespace(version=version, taught=taught, close=nothing, parts=SimpleNamespace(learner=learner))

    monkeypatch.setattr(stage, "loop", made)
    monkeypatch.setattr(stage, "_train", nothing)
    context: Any = SimpleNamespace(
        folder=SimpleNamespace(stage=lambda name: tmp_path),
        cfg=SimpleNamespace(run=SimpleNamespace(keep_checkpoints=1)),
        model_of=lambda start: "m",
        event=lambda name, message, **facts: events.append(name),
        hand_over=lambda *args, **named: None,
    )
    with pytest.raises(errors.RewardError, match=f"^rl: {why}.*; fix: ") if why else nullcontext():
        await stage.run(context)
    assert bool(exported) == (not why) and events == said, "what was not changed at all leaves no model"


class Context:
    """A run that does what it is told, and remembers how it ended."""

    def __init__(self, folder: Path, recorded: bool = False) -> None:
        self.screen = io.StringIO()
        self.progress, self.recorder = PlainProgress(self.screen), Recorder(folder, TelemetryConfig())
        self.recorded, self.stop_requested, self.closed = recorded, False, False
        stage = SimpleNamespace(name="one", config=StageSettings(), roles=frozenset())
        self.cfg, self.run = SimpleNamespace(judges={}), SimpleNamespace(stages=[stage])
        self.folder = SimpleNamespace(stage_result=lambda name: None)
        self.lineage = SimpleNamespace(model="m", start="m", of=lambda path: "m")
        self.roles = SimpleNamespace(shared=False, close=self.close, engines=SimpleNamespace(stage_ended=lambda: None))
        self.first_step = 0
        self.enter = lambda name: stage

    async def close(self) -> None:
        self.closed = True


def stages_that(fail: Callable[[], Any], context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(*_: Any) -> StageResult:
        await fail()
        return StageResult(steps=1)

    monkeypatch.setattr(stage_order, "_run_stage", work)
    monkeypatch.setattr(stage_order, "dump_stacks", lambda: [])
    asyncio.run(stage_order.run_stages(context))  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ZeroDivisionError("a part's own"), errors.RewardError("x"), OutOfMemoryError("x")])
def test_a_defect_is_recorded_and_not_swallowed(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise error

    context = Context(tmp_path)
    with pytest.raises(type(error)):
        stages_that(fail, context, monkeypatch)
    assert context.closed and [line["kind"] for line in read_lines(tmp_path / "events.jsonl")] == ["failed"]


def test_memory_is_told_as_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("make_plan", "connect", "check_shared", "announce", "check"):
        monkeypatch.setattr(opening, name, lambda *args: "")
    folder = SimpleNamespace(path=tmp_path, resumed=False, close=lambda: None)
    monkeypatch.setattr(opening.RunFolder, "open", lambda *args: folder)
    monkeypatch.setattr(opening.Placement, "create", lambda *args: None)
    monkeypatch.setattr(opening, "RunContext", lambda *args, **named: None)
    cfg: Any = SimpleNamespace(telemetry=TelemetryConfig(progress="none"), cluster=SimpleNamespace(ready_timeout_s=1.0))
    resolved: Any = SimpleNamespace(config=cfg, tree={})
    placed = SimpleNamespace(gpus=0, loads=())
    monkeypatch.setattr(opening, "connect", lambda *args: placed)
    with pytest.raises(errors.RunError, match="ran out of memory"), opening.open_run(resolved):
        raise OutOfMemoryError("a page of Ray's text")


def test_a_tracker_that_fails_is_told_on_the_screen(tmp_path: Path) -> None:
    recorder, said = Recorder(tmp_path, TelemetryConfig()), list[str]()
    recorder.say = said.append

    class Broken:
        name = "wandb"

        def metrics(self, step: int, values: Any) -> None:
            raise ConnectionError("no\nroute")

    recorder._sinks = [Broken()]  # type: ignore[list-item]
    recorder.metrics(1, {"loss": 1.0}, "rl")
    recorder.metrics(2, {"loss": 1.0}, "rl")
    recorder.flush()
    assert said == ["wandb gets no more metrics (ConnectionError: no route); the run folder keeps them all"]
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 2


@pytest.mark.parametrize("busy", [True, False], ids=["reading data", "waiting for engines"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_stops_at_once(
    busy: bool, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    async def work() -> None:
        if not busy:
            asyncio.get_running_loop().call_later(0.01, signal.raise_signal, number)
            await asyncio.sleep(60)
        signal.raise_signal(number)
        time.sleep(60)

    context, before = Context(tmp_path), signal.getsignal(number)
    with pytest.raises(StopRequested, match="before a step"):
        stages_that(work, context, monkeypatch)
    assert context.closed and context.screen.getvalue().startswith("stopping: ") and signal.getsignal(number) is before
    assert [event["kind"] for event in read_lines(tmp_path / "events.jsonl")] == ["stopped"], "a stop is no failure"


async def test_a_signal_in_a_step_lets_it_end(tmp_path: Path) -> None:
    context: Any = Context(tmp_path, recorded=True)
    with stopping_on_signals(context):
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.01)
        assert context.stop_requested and "after this step" in context.screen.getvalue()


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    context: Any = Context(tmp_path, recorded=True)
    with pytest.raises(KeyboardInterrupt), stopping_on_signals(context):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # of one wish: to the process, and to its group
        await asyncio.sleep(ECHO_S + 0.05)
        signal.raise_signal(signal.SIGINT)


def test_a_stop_is_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    @contextmanager
    def opened(*_: Any) -> Any:
        yield SimpleNamespace(progress=PlainProgress(io.StringIO()))

    async def stop(context: Any) -> None:
        raise StopRequested("stopped")

    monkeypatch.setattr(run, "open_run", opened)
    monkeypatch.setattr(run, "run_watched", stop)
    monkeypatch.setattr(run.gc, "freeze", lambda: None)
    assert run.train(None) == run.STOPPED == 3  # type: ignore[arg-type]
