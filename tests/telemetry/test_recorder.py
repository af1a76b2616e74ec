"""The run folder: complete, flushed, truncatable, and never at the mercy of a tracker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml

from raylign.batch import Batch
from raylign.config.schema import TelemetryConfig
from raylign.loop.rows import row_from
from raylign.records import Group, Value
from raylign.telemetry.recorder import Recorder, read_lines
from raylign.telemetry.sinks import Sink
from raylign.testing import rows_of

Groups = Callable[..., Group]


def lines(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_metrics_events_and_settings(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    recorder.settings({"recipe": "grpo", "data": {"size": 3}}, ["recipe=grpo"])
    recorder.metrics(1, {"loss": np.float32(0.5), "bad": float("nan")}, "rl")
    recorder.event("worker_restarted", role="rollout", index=1, path=tmp_path)
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert (line["step"], line["stage"], line["loss"], line["bad"]) == (1, "rl", 0.5, None)
    (event,) = lines(tmp_path / "events.jsonl")
    assert (event["kind"], event["role"], event["step"]) == ("worker_restarted", "rollout", 1)
    assert yaml.safe_load((tmp_path / "resolved.yaml").read_text())["data"]["size"] == 3
    assert (tmp_path / "overrides.txt").read_text() == "recipe=grpo\n"
    environment = orjson.loads((tmp_path / "environment.json").read_bytes())
    assert environment["packages"]["ray"] == "2.60.0" and environment["python"].startswith("3.")
    assert environment["isolation"].keys() >= {"landlock", "seccomp", "uid", "namespaces"}
    recorder.close()


def test_rollouts_hold_everything(tmp_path: Path, a_group: Groups) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    group = a_group()
    batch = Batch.from_rows([row_from(group.trajectories[i], group.prompt, 0) for i in group.valid])
    advantage = np.where(batch["loss_mask"], np.where(batch.row_of_token == 0, 1.0, -1.0), 0).astype(np.float32)
    path = recorder.rollouts(12, [group], batch.with_streams(advantage=advantage), rows_of([group]).places, "rl")
    recorder.flush()
    assert path.name == "step_000012.jsonl"
    first, missing, last = lines(path)
    assert first["rewards"] == {"correct": {"score": 1.0}} and first["score"] == 1.0 and first["advantage"] == 1.0
    assert missing["rewards"] == {"correct": {"missing": "timeout"}}
    assert missing["score"] is None and missing["advantage"] is None
    assert last["advantage"] == -1.0 and last["seed"] == 2 and last["stop"] == "eos"
    turn = first["turns"][0]  # type: ignore[index]
    assert turn["token_ids"] == [0, 1, 2] and turn["versions"] == [2, 2, 2] and turn["logprobs"] == [-0.5] * 3
    assert first["prompt_ids"] == [7, 8] and first["text"] == "answer 0" and first["answer"] == "2"
    recorder.close()


def test_a_row_without_a_score_keeps_what_an_advantage_that_reads_none_gave_it(tmp_path: Path, a_group: Groups) -> None:
    recorder, group = Recorder(tmp_path, TelemetryConfig()), a_group()
    rows = rows_of([group], unscored=True)
    batch = rows.batch
    assert len(group.valid) < len(batch) == len(group.trajectories)
    advantage = np.where(batch["loss_mask"], batch.row_of_token + 1.0, 0).astype(np.float32)
    path = recorder.rollouts(1, [group], batch.with_streams(advantage=advantage), rows.places)
    recorder.flush()
    assert [line["advantage"] for line in lines(path)] == [1.0, 2.0, 3.0]
    recorder.close()


def test_varying_advantages_are_kept_per_token(tmp_path: Path, a_group: Groups) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    group = a_group(size=1)
    batch = Batch.from_rows([row_from(group.trajectories[0], group.prompt, 0)])
    advantage = np.array([0, 0, 1, 2, 3], np.float32)
    path = recorder.rollouts(1, [group], batch.with_streams(advantage=advantage), rows_of([group]).places)
    recorder.flush()
    assert lines(path)[0]["advantage"] == [1.0, 2.0, 3.0]
    recorder.close()


def test_details_channels_turns_gaps_and_weights(tmp_path: Path, a_group: Groups) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    group = a_group(size=1)
    trajectory = group.trajectories[0]
    call = replace(trajectory.calls[0], reward=0.5, flags={"success": True, "place": Path("x")})
    told = Value(
        score=1.0, details={"verdicts": [{"item": 1, "met": True}]}, channels={"turns": np.ones(2, np.float32)}
    )
    trajectory = replace(trajectory, calls=(call, replace(call, flags={})), rewards={"judge": told})
    group = replace(group, trajectories=(trajectory,))
    batch = Batch.from_rows([row_from(trajectory, group.prompt, 0)])
    mask = batch["loss_mask"]
    learner = np.where(mask, batch["sampler_logprob"] + np.float32(0.0123456), 0).astype(np.float32)
    weight = np.where(np.cumsum(mask) == 1, 0.0, 1.0).astype(np.float32)
    path = recorder.rollouts(
        1, [group], batch.with_streams(learner_logprob=learner, weight=weight), rows_of([group]).places
    )
    recorder.flush()
    (row,) = lines(path)
    assert row["gap"] == pytest.approx(0.0123, abs=1e-6), "rounded, and one number where all are equal"
    assert row["weight"] == [0, 1, 1, 1, 1, 1]
    first, second = row["turns"]  # type: ignore[misc]
    assert first["reward"] == 0.5 and first["flags"] == {"success": True, "place": "x"} and first["text"] == "answer 0"
    assert "flags" not in second
    assert row["rewards"] == {
        "judge": {"score": 1.0, "details": {"verdicts": [{"item": 1, "met": True}]}, "channels": {"turns": [1.0, 1.0]}}
    }
    recorder.close()


def test_the_number_of_rollouts_is_limited(tmp_path: Path, a_group: Groups) -> None:
    groups = [a_group(i) for i in range(4)]
    for limit, expected in ((5, 5), (0, 12)):
        recorder = Recorder(tmp_path, TelemetryConfig(rollouts_per_step=limit))
        path = recorder.rollouts(1, groups)
        recorder.flush()
        assert len(lines(path)) == expected
        recorder.close()


def test_truncate_drops_what_will_be_done_again(tmp_path: Path, a_group: Groups) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    for step in range(1, 6):
        recorder.metrics(step, {"loss": step}, "rl")
        recorder.rollouts(step, [a_group()])
        recorder.event("phase")
    recorder.truncate(3)
    recorder.metrics(4, {"loss": 40}, "rl")
    recorder.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "metrics.jsonl")] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 40),
    ]
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == [f"step_{i:06d}.jsonl" for i in (1, 2, 3)]
    assert len(lines(tmp_path / "events.jsonl")) == 5, "what happened, happened"


def test_a_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    recorder.metrics(1, {"loss": 1}, "rl")
    recorder.close()
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"step":2,"stage":"rl","lo')
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 1
    recorder = Recorder(tmp_path, TelemetryConfig())
    recorder.metrics(2, {"loss": 2}, "rl")
    recorder.close()
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_every_line_is_on_disk_at_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from raylign.config.schema import TelemetryConfig; from raylign.telemetry.recorder import Recorder\n"
        "recorder = Recorder(Path(sys.argv[1]), TelemetryConfig()); recorder.metrics(1, {'a': 1}, 'rl')\n"
        "recorder.event('x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=120)
    assert len(lines(tmp_path / "metrics.jsonl")) == 1 and len(lines(tmp_path / "events.jsonl")) == 1


class Broken:
    """A tracker that works once and then never again."""

    name = "broken"

    def __init__(self) -> None:
        self.calls = 0

    def metrics(self, step: int, values: object) -> None:
        self.calls += 1
        if self.calls > 1:
            raise ConnectionError("no route")

    def close(self) -> None:
        raise RuntimeError("never reached")


def test_a_broken_tracker_is_dropped_and_named_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, TelemetryConfig())
    broken: Sink = Broken()
    recorder._sinks = [broken]
    for step in range(1, 5):
        recorder.metrics(step, {"loss": 1}, "rl")
    recorder.close()
    (event,) = lines(tmp_path / "events.jsonl")
    assert event["kind"] == "sink_dropped" and "no route" in str(event["error"])
    assert broken.calls == 2 and len(lines(tmp_path / "metrics.jsonl")) == 4  # type: ignore[attr-defined]


def test_a_tracker_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    recorder = Recorder(tmp_path, TelemetryConfig(tensorboard=True))
    recorder.metrics(1, {"loss": 1}, "rl")
    recorder.close()
    (event,) = lines(tmp_path / "events.jsonl")
    assert event["sink"] == "tensorboard"


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorder = Recorder(tmp_path, TelemetryConfig(tensorboard=True))
    for step in (1, 2):
        recorder.metrics(step, {"loss/policy": step / 2}, "rl")
    recorder.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/policy")] == [(1, 0.5), (2, 1.0)]


def test_wandb_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    os.environ["WANDB_SILENT"] = "true"
    recorder = Recorder(tmp_path, TelemetryConfig(wandb=True), run_id="run1")
    recorder.metrics(1, {"loss": 1.0}, "rl")
    recorder.close()
    assert not (tmp_path / "events.jsonl").read_bytes(), (tmp_path / "events.jsonl").read_text()
    assert list((tmp_path / "wandb").glob("offline-run-*run1"))
