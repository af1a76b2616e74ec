from __future__ import annotations

import math

import pytest

from raylign.actors.learner.optimization import deepspeed_config, effective_stage, learning_rate
from raylign.config.schema import LearnerConfig, Offload, OptimConfig, Schedule

LR = 2.0


def rates(schedule: Schedule, warmup: int, total: int, steps: int) -> list[float]:
    optim = OptimConfig(lr=LR, schedule=schedule, warmup_steps=warmup, min_lr_ratio=0.1)
    return [learning_rate(optim, step, total) for step in range(steps)]


def test_constant_with_warmup() -> None:
    assert rates(Schedule.constant, 4, 10, 6) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_linear_reaches_the_floor_at_the_last_step_and_stays() -> None:
    assert rates(Schedule.linear, 2, 7, 9) == pytest.approx([1.0, 2.0, 2.0, 1.55, 1.1, 0.65, 0.2, 0.2, 0.2])


def test_cosine() -> None:
    got = rates(Schedule.cosine, 0, 5, 6)
    wanted = [0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    assert got == pytest.approx([*wanted, 0.2])


def test_a_schedule_shorter_than_its_warmup_is_finite() -> None:
    assert rates(Schedule.cosine, 3, 2, 5) == pytest.approx([2 / 3, 4 / 3, 2.0, 0.2, 0.2])


def test_bf16_starts_at_stage_2() -> None:
    assert [effective_stage(LearnerConfig(zero_stage=stage), "bfloat16") for stage in range(4)] == [2, 2, 2, 3]
    assert [effective_stage(LearnerConfig(zero_stage=stage), "float32") for stage in range(4)] == [0, 1, 2, 3]
    settings = deepspeed_config(LearnerConfig(zero_stage=2), "bfloat16")
    assert settings["data_types"]["grad_accum_dtype"] == "fp32" and settings["communication_data_type"] == "fp32"


def test_offload_reaches_deepspeed() -> None:
    settings = deepspeed_config(LearnerConfig(zero_stage=3, offload=Offload.cpu, gpus=0), "float32")
    assert settings["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": False}
