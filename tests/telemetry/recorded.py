"""Run folders as a run leaves them, written by the real recorder with a clock of their own."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raylign.batch import Batch
from raylign.config.schema import TelemetryConfig
from raylign.loop.rows import row_from
from raylign.records import Call, Group, Missing, Prompt, StopReason, Trajectory, Value
from raylign.telemetry.recorder import Recorder
from raylign.testing import rows_of

NONE = np.zeros(0, np.int32)
VERDICTS = [
    {"criterion": "cites the tool's answer", "verdict": "yes", "reason": "it says 3"},
    {"criterion": "is polite", "verdict": "no", "reason": "no greeting"},
]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, start: float = 1.7e9) -> None:
        self.now = start
        monkeypatch.setattr("raylign.telemetry.recorder.time", SimpleNamespace(time=lambda: self.now))

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def ids_of(text: str, tokenizer: Any) -> np.ndarray:
    return np.array(tokenizer.encode(text).ids, np.int32)


def a_turn(text: str, tokenizer: Any, context: str = "", **fields: Any) -> Call:
    ids = ids_of(text, tokenizer)
    return Call(
        context_ids=ids_of(context, tokenizer) if context else NONE,
        token_ids=ids,
        logprobs=np.linspace(-0.1, -2, len(ids)).astype(np.float32),
        versions=np.full(len(ids), 4, np.int32),
        text=text,
        **{"stop": StopReason.EOS, **fields},
    )


def dialogue(tokenizer: Any, number: int = 0) -> Group:
    """Two samples of a prompt that calls a tool: one goes on for two turns, of the other nothing could be judged."""
    call = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    prompt = Prompt(
        id=f"tools{number}",
        messages=({"role": "system", "content": "Use tools."}, {"role": "user", "content": "What is 1 + 2?"}),
        token_ids=ids_of("What is 1 + 2?", tokenizer),
        answer={"calls": ["add"], "value": 3},
        domain="arithmetic",
    )
    turns = (
        a_turn(call, tokenizer, reward=0.25, flags={"turn": 0, "valid": True, "tool_calls": [{"name": "add"}]}),
        a_turn("It is 3 für Dich.", tokenizer, context="<|user|>3<|end|>", reward=1.0, flags={"turn": 1}),
    )
    judged = {
        "checklist": Value(score=0.5, details={"verdicts": VERDICTS, "asked": 2}),
        "exact": Value(score=1.0, details={"parsed": "3"}),
    }
    unjudged = {"checklist": Missing(reason="the judge did not answer"), "exact": Value(score=0.0)}
    return Group(
        prompt=prompt,
        trajectories=(
            Trajectory(
                prompt_key=prompt.key, sample_index=0, calls=turns, seed=2**60, stop=StopReason.DONE, rewards=judged
            ),
            Trajectory(
                prompt_key=prompt.key,
                sample_index=1,
                calls=(a_turn("no idea", tokenizer),),
                seed=1,
                stop=StopReason.LENGTH,
                rewards=unjudged,
            ),
        ),
        scores=(1.5, None),
    )


def batch_of(group: Group) -> Batch:
    """The learner's rows of a group's valid samples: advantages that vary, a gap, a token without weight."""
    batch = Batch.from_rows([row_from(group.trajectories[i], group.prompt, 0) for i in group.valid])
    mask = batch["loss_mask"]
    place = np.arange(batch.tokens)
    weight = np.where(place == np.flatnonzero(mask)[1], 0.0, 1.0)
    return batch.with_streams(
        advantage=np.where(mask, np.sin(place / 5), 0).astype(np.float32),
        weight=weight.astype(np.float32),
        learner_logprob=np.where(mask, batch["sampler_logprob"] + 0.001 * (place % 7), 0).astype(np.float32),
    )


def plain_group(step: int, size: int, tokenizer: Any) -> Group:
    """One prompt, `size` one-turn samples: every third is right, every fifth is cut off."""
    prompt = Prompt(
        id=f"sum{step}",
        messages=({"role": "user", "content": f"{step} + {step}?"},),
        token_ids=ids_of(f"{step} + {step}?", tokenizer),
        answer=str(2 * step),
    )
    trajectories = []
    for index in range(size):
        stop = StopReason.LENGTH if index % 5 == 0 else StopReason.EOS
        text = f"{2 * step}" if index % 3 == 0 else f"about {2 * step + index} needle{step}x{index}"
        trajectories.append(
            Trajectory(
                prompt_key=prompt.key,
                sample_index=index,
                calls=(a_turn(text, tokenizer, stop=stop),),
                seed=index,
                stop=stop,
                rewards={"correct": Value(score=float(index % 3 == 0), details={"parsed": text})},
            )
        )
    scores = tuple(float(index % 3 == 0) for index in range(size))
    return Group(prompt=prompt, trajectories=tuple(trajectories), scores=scores)


def record_run(
    folder: Path,
    clock: Clock,
    model: Path,
    *,
    steps: int = 60,
    samples: int = 4,
    learning_rate: float = 1e-4,
    alarm: bool = True,
) -> Path:
    """A run of three stages: an evaluation, `steps` steps of RL with `samples` rollouts each, an evaluation."""
    from tokenizers import Tokenizer

    tokenizer, noise = Tokenizer.from_file(str(model / "tokenizer.json")), random.Random(0)
    recorder = Recorder(folder, TelemetryConfig(rollouts_per_step=0))
    recorder.settings(
        {"recipe": "grpo", "scale": "tiny", "seed": 1, "learner": {"optim": {"lr": learning_rate}}, "note": "a<b>"},
        ["recipe=grpo", f"learner.optim.lr={learning_rate}"],
    )
    _evaluated(recorder, clock, "before", 1, 0.31)
    recorder.event("stage_started", stage="rl", model=str(model))
    clock.pass_(3)
    for step in range(steps):
        for phase, seconds in (("rollout", 2.0), ("reward", 0.5), ("score", 0.25), ("learn", 1.0), ("publish", 0.25)):
            recorder.event("phase", stage="rl", stage_step=step, phase=phase)
            clock.pass_(seconds)
        reward = 1 / (1 + math.exp(-(step - steps / 2) / 10))
        numbers = {
            "reward/mean": reward + noise.gauss(0, 0.03),
            "reward/format": 0.9,
            "loss/policy": -0.01 * noise.random(),
            "entropy": 1.1 - reward,
            "length/mean": 20 + 10 * reward,
            "kl": float("nan") if step == 5 else reward * 0.01,
            "time/step": 4.0,
            "time/generate": 2.5,
            "tokens/sampled": 1000.0,
            "tokens/per_second": 250.0,
            "steady": 7.0,
        }
        recorder.metrics(step + 2, numbers, "rl")
        group = dialogue(tokenizer, step) if step % 10 == 0 else plain_group(step + 1, samples, tokenizer)
        recorder.rollouts(step + 2, [group], batch_of(group), rows_of([group]).places, "rl")
        if alarm and step == steps // 2:
            text, hint = "entropy is 0.6, 50.00% of its start, 1.1", "samples become alike"
            recorder.event("alarm", stage="rl", alarm="entropy_collapse", metric="entropy", text=text, hint=hint)
    recorder.event("stage_finished", stage="rl", metrics={})
    _evaluated(recorder, clock, "after", steps + 2, 0.925)
    recorder.close()
    kept = folder / "stages" / "rl" / "model"
    kept.mkdir(parents=True)
    shutil.copy(model / "tokenizer.json", kept)
    (folder / "finished.json").write_text("{}")
    return folder


def _evaluated(recorder: Recorder, clock: Clock, stage: str, step: int, score: float) -> None:
    recorder.event("stage_started", stage=stage, model="")
    clock.pass_(1)
    recorder.event("phase", stage=stage, stage_step=0, phase="evaluate")
    clock.pass_(2)
    recorder.metrics(step, {"eval/score": score, "eval/length/mean": 4.0}, stage)
    recorder.event("stage_finished", stage=stage, metrics={})
