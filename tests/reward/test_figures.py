"""What reward pools did reaches the metrics of a step, the events of a run, and the alarm on restarts."""

from __future__ import annotations

from typing import Any

from raylign.actors.reward.figures import Figures
from raylign.config.alarms import default_alarms
from raylign.recipes.stages.actor_figures import ActorFigures
from raylign.telemetry.alarms import Alarms


def test_figures_are_absent_and_not_zero_where_nothing_was_scored() -> None:
    assert Figures(restarts=1).metrics("r") == {"restarts/reward/r": 1.0}
    figures = Figures(rpcs=1, children=2)
    figures.scored(0.5)
    figures.scored(1.5)
    figures.missing["timeout"] += 1
    assert figures.metrics("r") == {
        "restarts/reward/r": 0.0,
        "reward_pool/r/items": 2.0,
        "reward_pool/r/rpcs": 1.0,
        "reward_pool/r/children": 2.0,
        "reward_pool/r/latency_mean_s": 1.0,
        "reward_pool/r/latency_max_s": 1.5,
        "reward_pool/r/missing": 1.0,
        "reward_pool/r/missing_timeout": 1.0,
    }


class Pool:
    """Rollout pool and reward pools of which one worker each dies in every step."""

    restarts, alive = 0, 2

    def metrics(self) -> dict[str, float]:
        return Figures(restarts=1).metrics("correct")


def test_restarts_are_counted_from_record_to_record_and_raise_the_alarm() -> None:
    told: list[dict[str, Any]] = []
    figures = ActorFigures(lambda kind, **fields: told.append({"kind": kind, **fields}))
    assert figures.take("sft", None, None) == {}
    alarms, raised, pool = Alarms(default_alarms()), [], Pool()
    for _ in range(3):
        metrics = figures.take("rl", pool, pool)  # type: ignore[arg-type]
        assert metrics["restarts/reward/correct"] == 1 and metrics["workers/rollout"] == 2
        raised += alarms.step(metrics)
    assert [(event["kind"], event["role"], event["count"]) for event in told] == [
        ("actors_restarted", "reward/correct", 1)
    ] * 3
    (alarm,) = raised
    assert alarm.name == "engine_restarts" and "logs/reward-NAME-*.log" in alarm.hint
    pool.restarts = 3
    assert figures.take("rl", pool, None)["restarts/rollout"] == 3  # type: ignore[arg-type]
    assert figures.take("rl", Pool(), None)["restarts/rollout"] == 0, "another pool begins anew"  # type: ignore[arg-type]
