"""Every alarm on a sequence that it must see and on one that it must not, and across a resumption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raylign.config.alarms import AlarmAction, AlarmConfig, AlarmRule, alarm_problems, default_alarms
from raylign.config.compose import compose
from raylign.errors import ConfigError
from raylign.telemetry.alarms import Alarm, Alarms, unheard

Lines = list[dict[str, Any]]
STEPS = 120


def steps(make: Callable[[int], dict[str, float]], count: int = STEPS) -> Lines:
    return [make(step) for step in range(count)]


def noise(step: int) -> float:
    return float(np.random.default_rng(step).normal())


def healthy(step: int) -> dict[str, float]:
    """A run that learns: reward and held-out score rise, entropy falls to a fifth, answers get longer."""
    share = step / STEPS
    metrics = {
        "reward/mean": 0.2 + 0.6 * share + 0.05 * noise(step),
        "ref_kl": 0.2 * share,
        "approx_kl_k3": 0.001,
        "entropy": 0.6 - 0.48 * share + 0.01 * noise(step),
        "groups/equal": 0.2 + 0.6 * share,
        "length/mean": 100 + 150 * share + 5 * noise(step),
        "clip_low": 0.02 + 0.01 * noise(step),
        "clip_high": 0.03,
        "async/staleness": 1.5,
        "sampler_gap": 0.004 + 0.001 * noise(step),
        "missing/correct": 0.02,
        "missing/judge": 0.3 if step == 50 else 0.01,
        "restarts/rollout": 1.0 if step in (10, 90) else 0.0,
        "length/truncated": float("nan"),
        "length/empty": 0.02,
        "unused/reflection": 0.1,
        "audit/exploit/judge": 0.25,
        "audit/unbacked/judge": 0.2 if step == 50 else 0.0,
        "audit/missing/judge": 0.2 if step % 10 == 0 else 0.0,
    }
    evaluated = {"eval/score": 0.2 + 0.5 * share + 0.02 * noise(step), "eval/audit/unbacked/judge": 0.0}
    return metrics | (evaluated if step % 10 == 9 else {})


def bent(**changes: Callable[[int, float], float]) -> Lines:
    """The healthy run with some metrics changed; `__` in a name stands for a slash."""
    lines = steps(healthy)
    for name, change in changes.items():
        key = name.replace("__", "/")
        for step, line in enumerate(lines):
            if key in line:
                line[key] = change(step, line[key])
    return lines


BAD = {
    "reward_hacking": bent(eval__score=lambda step, value: value if step < 60 else 0.45 - 0.006 * (step - 60)),
    "kl": bent(ref_kl=lambda step, value: value if step < 60 else 0.1 * (step - 60)),
    "entropy_collapse": bent(entropy=lambda step, value: value if step < 60 else 0.002),
    "zero_variance": bent(groups__equal=lambda step, value: 0.99 if step > 80 else value),
    "length_explosion": bent(length__mean=lambda step, value: value * 1.03**step),
    "empty_answers": bent(length__empty=lambda step, value: 0.9 if step > 70 else value),
    "unused_term": bent(unused__reflection=lambda step, value: 1.0 if step > 50 else value),
    "clip_share": bent(clip_low=lambda step, value: 0.6 if step > 100 else value),
    "exploit": bent(audit__unbacked__judge=lambda step, value: 0.3 if step > 40 else value),
    "exploit_held_out": bent(eval__audit__unbacked__judge=lambda step, value: 0.3 if step > 60 else value),
    "audit_blind": bent(audit__missing__judge=lambda step, value: 0.4 if step > 60 else value),
    "staleness": bent(async__staleness=lambda step, value: 12.0 if step > 30 else value),
    "logprob_gap": bent(sampler_gap=lambda step, value: 0.2 if step > 30 else value),
    "missing_rewards": bent(missing__judge=lambda step, value: 0.4 if step > 60 else value),
    "engine_restarts": bent(restarts__rollout=lambda step, value: 1.0 if 40 < step < 44 else value),
}


def raised(lines: Lines, alarms: Alarms | None = None) -> list[tuple[int, Alarm]]:
    alarms = alarms or Alarms(default_alarms())
    return [(step, alarm) for step, line in enumerate(lines) for alarm in alarms.step(line)]


def test_there_is_a_bad_sequence_for_every_alarm() -> None:
    assert set(BAD) == set(default_alarms())


def test_a_healthy_run_raises_none() -> None:
    assert raised(steps(healthy)) == []


@pytest.mark.parametrize("name", sorted(BAD))
def test_each_alarm_is_raised_once_and_alone(name: str) -> None:
    ((step, alarm),) = raised(BAD[name])
    assert alarm.name == name and alarm.hint and not alarm.stop
    assert alarm.metric.split("/")[0] in str(alarm) and step > 5


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(name: str) -> None:
    lines = BAD[name]
    ((when, _),) = raised(lines)
    for cut in (when - 3, when, when + 1, when + 10):
        resumed = Alarms(default_alarms())
        resumed.begin(lines[:cut])
        later = [cut + step for step, _ in raised(lines[cut:], resumed)]
        assert later == ([when] if cut <= when else []), cut


def test_absent_metrics_raise_nothing() -> None:
    assert raised([{} for _ in range(50)]) == []
    assert raised([{"loss": 1.0, "eval/score": 1.0 - step / 50} for step in range(50)]) == []


def test_an_alarm_is_raised_again_after_it_was_over() -> None:
    config = {"x": AlarmConfig(metrics=["x"], threshold=1.0, window=2)}
    values = [0, 2, 2, 2, 0, 0, 2, 2]
    assert [step for step, _ in raised([{"x": float(v)} for v in values], Alarms(config))] == [2, 7]


def test_a_new_stage_starts_anew() -> None:
    alarms = Alarms({"x": AlarmConfig(metrics=["x"], rule=AlarmRule.falls, threshold=0.5, window=2)})
    assert not raised([{"x": 8.0}] * 5, alarms)
    alarms.begin()
    assert not raised([{"x": 1.0}] * 5, alarms), "1 is no fall within this stage"


def test_each_rule_at_its_edge() -> None:
    def last(rule: AlarmRule, values: list[float], threshold: float, window: int = 2) -> bool:
        alarms = Alarms({"x": AlarmConfig(metrics=["x"], rule=rule, threshold=threshold, window=window)})
        return bool(raised([{"x": value} for value in values], alarms))

    assert last(AlarmRule.above, [1, 3.1], 2) and not last(AlarmRule.above, [1, 3], 2)
    assert last(AlarmRule.below, [1, 2.9], 2) and not last(AlarmRule.below, [1, 3], 2)
    assert last(AlarmRule.grows, [1, 1, 2, 2.1], 2) and not last(AlarmRule.grows, [1, 1, 2, 2], 2)
    assert last(AlarmRule.falls, [2, 2, 1, 0.9], 0.5) and not last(AlarmRule.falls, [2, 2, 1, 1], 0.5)
    assert not last(AlarmRule.grows, [1, 1, 9], 2), "the last values must share none with the first"
    assert last(AlarmRule.total, [1, 0, 1, 1], 1) and not last(AlarmRule.total, [1, 0, 1, 0], 1)
    assert not last(AlarmRule.above, [3], 2), "one value is no window of two"


def test_the_largest_of_a_family_counts() -> None:
    alarms = Alarms({"x": AlarmConfig(metrics=["m/*"], threshold=1.0, window=1)})
    ((_, alarm),) = raised([{"m/a": 0.5, "m/b": 1.5, "other": 9.0, "m/c": float("inf")}], alarms)
    assert (alarm.metric, alarm.value) == ("m/b", 1.5)


def test_a_falling_score_with_a_falling_reward_is_no_hacking() -> None:
    lines = bent(
        eval__score=lambda step, value: value if step < 60 else 0.45 - 0.006 * (step - 60),
        reward__mean=lambda step, value: value if step < 60 else 0.5 - 0.004 * (step - 60),
    )
    assert raised(lines) == []


def test_an_alarm_that_was_set_and_that_nothing_is_recorded_for_is_told() -> None:
    lines = [{"stage": "rl", "reward/mean": 0.5}, {"stage": "rl", "eval/score": 0.5, "loss": None}]
    configs = {
        **default_alarms(),
        "heard": AlarmConfig(metrics=["rewards/mean", "reward/*"]),  # one of them is enough
        "silenced": AlarmConfig(metrics=["nothing"], action=AlarmAction.off),
        "of_the_recipe": AlarmConfig(metrics=["nothing"]),
        "mine": AlarmConfig(metrics=["reward/mean", "eval/scores"], rule=AlarmRule.diverges),
        "lost": AlarmConfig(metrics=["loss"]),
    }
    given = ["seed", "alarms.heard.metrics", "alarms.silenced.action", "alarms.kl.threshold", "alarms.mine.metrics"]
    said = unheard(configs, [*given, "alarms.lost.metrics"], lines)
    assert set(said) == {"kl", "mine", "lost"}, "what is never a number is not recorded either"
    assert said["mine"] == (
        "alarm mine watched nothing: no step recorded eval/scores; "
        "set alarms.mine.metrics to names of metrics.jsonl (there is eval/score)"
    )


def test_off_and_stop() -> None:
    config = default_alarms()
    config["kl"].action = AlarmAction.off
    assert raised(BAD["kl"], Alarms(config)) == []
    config["kl"].action = AlarmAction.stop
    ((_, alarm),) = raised(BAD["kl"], Alarms(config))
    assert alarm.stop and "stops" in str(alarm) and alarm.fields()["action"] == "stop"


def test_one_setting_changes_one_setting() -> None:
    composed = compose(["recipe=grpo", "scale=tiny", "alarms.kl.threshold=0.5", "alarms.kl.action=stop"])
    alarms = composed.config.alarms
    assert alarms["kl"] == AlarmConfig(
        metrics=["ref_kl", "approx_kl_k3"], threshold=0.5, action=AlarmAction.stop, hint=default_alarms()["kl"].hint
    )
    assert set(alarms) == set(default_alarms()) and alarms["logprob_gap"] == default_alarms()["logprob_gap"]


def test_an_alarm_of_ones_own_and_mistakes() -> None:
    base = ["recipe=grpo", "scale=tiny"]
    own = compose([*base, "+alarms.loss.metrics=[loss]", "+alarms.loss.threshold=3"]).config.alarms["loss"]
    assert own == AlarmConfig(metrics=["loss"], threshold=3.0)
    with pytest.raises(ConfigError, match=r"alarms\.kl\.thresholt"):
        compose([*base, "+alarms.kl.thresholt=1"])
    with pytest.raises(ConfigError, match="needs a metric"):
        compose([*base, "+alarms.loss.threshold=3"])
    bad = {"x": AlarmConfig(metrics=["a"], rule=AlarmRule.diverges, window=0, threshold=float("nan"))}
    assert [problem.key for problem in alarm_problems(bad)] == [
        "alarms.x.window",
        "alarms.x.threshold",
        "alarms.x.metrics",
    ]
