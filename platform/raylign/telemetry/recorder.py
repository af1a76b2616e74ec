"""The run folder's own record, always written: what was run, every step's metrics, the samples, the events.

    resolved.yaml  overrides.txt  environment.json      what was run, on what
    metrics.jsonl                                       one line a step: {"step", "stage", "time", name: number, ...}
    events.jsonl                                        one line an event: {"time", "step", "kind", ...}
    rollouts/step_000123.jsonl                          one line a trajectory, see `Recorder.rollouts`

`step` counts over the whole run, all stages together, so that curves never fold back. One process writes: the driver.
Lines are written at once; rollouts and sinks, which take longer, in a thread, in their order.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

from raylign.audit.graded import EXPLOIT
from raylign.batch import Batch
from raylign.config.schema import TelemetryConfig
from raylign.contracts import Place
from raylign.payloads import described
from raylign.records import Absent, Float32s, Group, Missing, Reward, Trajectory
from raylign.run_folder import write_atomically
from raylign.telemetry.environment import environment
from raylign.telemetry.sinks import Sink, open_sinks

LEARNER_LOGPROBS = ("learner_logprob", "old_logprob")  # streams under the weights that sampled, best first
BEHIND = 4  # writes that may wait for the disk before whoever records waits for them
JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class Recorder:
    """Writes a run folder. Sinks (W&B, TensorBoard) get the same metrics and can never fail the run.

    Example: ``recorder = Recorder(folder, config.telemetry, run_id="grpo-1"); recorder.metrics(1, {"loss": .3}, "rl")``
    """

    def __init__(self, folder: Path, config: TelemetryConfig, *, run_id: str = "") -> None:
        self.folder = Path(folder)
        self._config = config
        self._run_id = run_id or self.folder.name
        (self.folder / "rollouts").mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "events.jsonl"):
            _heal(self.folder / name)
        self._metrics = (self.folder / "metrics.jsonl").open("ab")
        self._events = (self.folder / "events.jsonl").open("ab")
        self._sinks: list[Sink] | None = None
        self._step = 0
        self._writer = ThreadPoolExecutor(1, "recorder")
        self._waiting: deque[Future[None]] = deque()
        self.say: Callable[[str], None] = lambda line: None  # to whoever watches the run

    def settings(self, resolved: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
        """Store the configuration, the command line's part of it, and the environment."""
        write_atomically(self.folder / "resolved.yaml", yaml.safe_dump(dict(resolved), sort_keys=False).encode())
        write_atomically(self.folder / "overrides.txt", "".join(f"{item}\n" for item in overrides).encode())
        write_atomically(self.folder / "environment.json", orjson.dumps(environment(), option=orjson.OPT_INDENT_2))

    def metrics(self, step: int, values: Mapping[str, float], stage: str) -> None:
        """One line of numbers (NaN and infinity become null), flushed.

        Raises what an earlier write of rollouts raised, such as OSError on a full disk.
        """
        self._step = step
        line = {"step": step, "stage": stage, "time": round(time.time(), 3), **_plain(values)}
        _append(self._metrics, line)
        numbers = {name: value for name, value in line.items() if isinstance(value, (int, float))}
        self._later(functools.partial(self._to_sinks, step, numbers))

    def event(self, kind: str, **fields: Any) -> None:
        """Something that is no number: a restart, a dropped group, an alarm."""
        _append(self._events, {"time": round(time.time(), 3), "step": self._step, "kind": kind, **fields})

    def rollouts(
        self,
        step: int,
        groups: Sequence[Group],
        batch: Batch | None = None,
        places: Sequence[Place] = (),
        stage: str = "",
    ) -> Path:
        """Store trajectories of one step, whole groups first, up to the configured number; see `flush`. Those that an
        audit calls exploits are stored beyond it, too.

        places: where each row of `batch` comes from; its streams are stored. A line holds prompt, turns (ids,
        log-probs, versions; text, role, reward and flags), rewards with their details, and of rows of the batch
        `advantage`, `weight` and `gap` (the learner's log-prob less the sampler's): one number where all sampled tokens
        share it, else one per sampled token; null where it is not known or nothing is learned from the token.
        """
        path = self.folder / "rollouts" / f"step_{step:06d}.jsonl"

        def write() -> None:
            streams = _streams(groups, batch, places) if batch is not None else {}
            limit = self._config.rollouts_per_step or sum(len(group.trajectories) for group in groups)
            lines: list[bytes] = []
            for g, group in enumerate(groups):
                for t, trajectory in enumerate(group.trajectories):
                    if len(lines) >= limit and not trajectory.metrics.get(EXPLOIT):
                        continue
                    score = group.scores[t] if t < len(group.scores) else None
                    row = {"step": step, "stage": stage, **_row(group, trajectory), "score": score}
                    row |= {"advantage": None, "weight": None, "gap": None, **streams.get((g, t), {})}
                    lines.append(orjson.dumps(row, option=JSON, default=str))
            write_atomically(path, b"".join(line + b"\n" for line in lines))

        self._later(write)
        return path

    def truncate(self, step: int) -> None:
        """Forget metrics and rollouts after `step`, so that a resume counts nothing twice.

        Events stay: a worker that died did die.
        """
        self.flush()
        self._metrics.close()
        _rewrite(self.folder / "metrics.jsonl", lambda line: line.get("step", 0) <= step)
        for path in (self.folder / "rollouts").glob("step_*.jsonl"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()
        self._metrics = (self.folder / "metrics.jsonl").open("ab")
        self._step = step

    def flush(self) -> None:
        """Wait until everything recorded is written. Raises what a write raised, such as OSError on a full disk."""
        while self._waiting:
            self._waiting.popleft().result()

    async def flushed(self) -> None:
        """`flush`, with the event loop free meanwhile."""
        await asyncio.to_thread(self.flush)

    def close(self) -> None:
        """Write everything; sinks get their last chance. What cannot be written any more is said in an event."""
        self._writer.shutdown()
        for error in [error for write in self._waiting if (error := write.exception())]:
            self.event("not_recorded", error=f"{type(error).__name__}: {error}"[:500])
        self._waiting.clear()
        for sink in self._sinks or ():
            self._guard(sink, sink.close)
        self._sinks = []
        self._metrics.close()
        self._events.close()

    def _later(self, write: Callable[[], None]) -> None:
        """In the thread. Raises what an earlier write raised."""
        self._waiting.append(self._writer.submit(write))
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > BEHIND):
            self._waiting.popleft().result()

    def _to_sinks(self, step: int, values: Mapping[str, float]) -> None:
        if self._sinks is None:
            self._sinks = open_sinks(self._config, self.folder, self._run_id, self._sink_failed)
        for sink in list(self._sinks):
            self._guard(sink, functools.partial(sink.metrics, step, values))

    def _guard(self, sink: Sink, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as cause:  # noqa: BLE001  a tracker may raise anything, and no run may end because of it
            self._sinks = [other for other in self._sinks or () if other is not sink]
            self._sink_failed(sink.name, cause)

    def _sink_failed(self, name: str, cause: Exception) -> None:
        error = f"{type(cause).__name__}: {cause}"[:500]
        self.event("sink_dropped", sink=name, error=error)
        self.say(f"{name} gets no more metrics ({' '.join(error.split())}); the run folder keeps them all")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a .jsonl file; one that was cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_bytes().split(b"\n"):
        if not text:
            continue
        try:
            lines.append(orjson.loads(text))
        except orjson.JSONDecodeError:
            continue
    return lines


def _append(stream: Any, line: Mapping[str, Any]) -> None:
    stream.write(orjson.dumps(line, option=JSON, default=str) + b"\n")
    stream.flush()


def _heal(path: Path) -> None:
    """Drop a last line that a kill cut off, so that the next one does not grow onto it."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        _rewrite(path, lambda line: True)


def _rewrite(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    lines = [line for line in read_lines(path) if keep(line)]
    write_atomically(path, b"".join(orjson.dumps(line) + b"\n" for line in lines))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def _row(group: Group, trajectory: Trajectory) -> dict[str, Any]:
    prompt = group.prompt
    return {
        "prompt": trajectory.prompt_key,
        "sample": trajectory.sample_index,
        "domain": prompt.domain,
        "messages": [dict(message) for message in prompt.messages],
        "answer": prompt.answer if isinstance(prompt.answer, (str, int, float, list, dict)) else str(prompt.answer),
        "prompt_ids": prompt.token_ids,
        "seed": trajectory.seed,
        "stop": trajectory.stop.value,
        "text": trajectory.text,
        "rewards": {name: _reward(reward) for name, reward in trajectory.rewards.items()},
        "metrics": dict(trajectory.metrics),
        **({"payload": {n: described(value) for n, value in trajectory.payload.items()}} if trajectory.payload else {}),
        "turns": [
            {
                "context_ids": call.context_ids,
                "token_ids": call.token_ids,
                "logprobs": call.logprobs,
                "versions": call.versions,
                "stop": call.stop.value,
                **({"text": call.text} if len(trajectory.calls) > 1 else {}),
                **({"role": call.role} if call.role else {}),
                **({} if call.learn else {"learn": False}),
                **({"reward": call.reward} if call.reward is not None else {}),
                **({"flags": dict(call.flags)} if call.flags else {}),
            }
            for call in trajectory.calls
        ],
    }


def _reward(reward: Reward) -> dict[str, Any]:
    if isinstance(reward, Missing):
        return {"missing": reward.reason}
    if isinstance(reward, Absent):
        return {"absent": True}
    return {
        "score": reward.score,
        **({"details": dict(reward.details)} if reward.details else {}),
        **({"channels": dict(reward.channels)} if reward.channels else {}),
        **({"roles": dict(reward.roles)} if reward.roles else {}),
        **({"spans": reward.spans} if reward.spans is not None else {}),
    }


def _streams(
    groups: Sequence[Group], batch: Batch, places: Sequence[Place]
) -> dict[tuple[int, int], dict[str, Float32s | float | None]]:
    """advantage, weight and gap of every trajectory that has a row, by (group, trajectory); NaN where no row learns."""
    learner = next((name for name in LEARNER_LOGPROBS if name in batch), None)
    by_trajectory: dict[tuple[int, int], dict[str, Float32s]] = {}
    for row, place in zip(range(len(batch)), places, strict=True):
        lengths = [len(call.token_ids) for call in groups[place.group].trajectories[place.trajectory].calls]
        ends = np.cumsum(lengths).tolist()
        sampled = [at for call in place.calls for at in range(ends[call] - lengths[call], ends[call])]
        mask = batch.row(row, "loss_mask")
        values = {name: batch.row(row, name)[mask] for name in ("advantage", "weight")}
        if learner:
            values["gap"] = _rounded(batch.row(row, learner)[mask] - batch.row(row, "sampler_logprob")[mask])
        streams = by_trajectory.setdefault((place.group, place.trajectory), {})
        for name, learned in values.items():
            streams.setdefault(name, np.full(sum(lengths), np.nan, np.float32))[sampled] = learned
    return {at: {name: _compact(values) for name, values in streams.items()} for at, streams in by_trajectory.items()}


def _compact(values: Float32s) -> Float32s | float | None:
    """One number where all are equal, None where there is none."""
    if np.isnan(values).all():
        return None
    return float(values[0]) if bool((values == values[0]).all()) else values


def _rounded(values: Float32s) -> Float32s:
    """Three digits: a colour and a tooltip need no more, and the file stays small."""
    scale = 10.0 ** (2 - np.floor(np.log10(np.maximum(np.abs(values.astype(np.float64)), 1e-9))))
    rounded: Float32s = (np.round(values * scale) / scale).astype(np.float32)
    return rounded
