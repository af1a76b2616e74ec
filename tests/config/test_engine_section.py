"""Rollouts and judges share the settings of their engines: the same keys, defaults and rules."""

from dataclasses import fields

import pytest

from raylign.config.schema import EngineConfig, JudgeConfig, RolloutConfig

WRONG = {
    "workers": 0,
    "tensor_parallel": 0,
    "gpus": 1.5,
    "cpus": 0.0,
    "threads": 100_000,
    "max_sequences": 1_000_000,
    "kv_cache_gb": -1.0,
    "gpu_memory": 1.5,
    "max_restarts": 1_000_000,
}


@pytest.mark.parametrize("section", [RolloutConfig, JudgeConfig])
@pytest.mark.parametrize("name", WRONG)
def test_every_engine_setting_is_checked_under_the_key_of_its_section(section: type[EngineConfig], name: str) -> None:
    problems = section(**{name: WRONG[name]}).problems("judges.j")
    assert [problem.key for problem in problems] == [f"judges.j.{name}"]


def test_each_section_checks_its_own_settings_besides() -> None:
    assert [problem.key for problem in RolloutConfig(max_missing=2.0).problems("rollout")] == ["rollout.max_missing"]
    assert [problem.key for problem in JudgeConfig(max_context=0).problems("judges.j")] == ["judges.j.max_context"]
    judge = JudgeConfig(endpoint="http://judge:8000/v1")
    assert [problem.key for problem in judge.problems("judges.j")] == ["judges.j.path"]


def test_rollouts_and_judges_have_the_same_engine_by_default() -> None:
    shared = [entry.name for entry in fields(EngineConfig)]
    rollout, judge = RolloutConfig(), JudgeConfig()
    assert {name: getattr(rollout, name) for name in shared} == {name: getattr(judge, name) for name in shared}
    assert set(shared) == {*WRONG, "engine"}
