"""Alarms of a run: what is watched, when it is alarming, what happens then. The run's section `alarms`, by name.

`alarms.kl.threshold=0.5` changes one, `alarms.kl.action=stop` lets it end the run, `alarms.kl.action=off` silences it;
a name of one's own adds one. The defaults are set so that a healthy run raises none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from raylign.errors import Problem


class AlarmRule(Enum):
    """What is compared with the threshold. Values are those of the current stage, oldest first.

    `above`: the mean of the last `window` values is more than it.
    `below`: the mean of the last `window` values is less than it.
    `grows`: that mean is more than it times the mean of the stage's first `window` values.
    `falls`: that mean is less than it times the mean of the stage's first `window` values.
    `total`: the sum over the last `window` steps is more than it.
    `diverges`: two metrics. The second (held-out) has fallen by more than it below its best, both averaged over
    `window` evaluations, while the first (training) is higher than it was around that best.
    """

    above = "above"
    below = "below"
    grows = "grows"
    falls = "falls"
    total = "total"
    diverges = "diverges"


class AlarmAction(Enum):
    """off: not watched. warn: an event, a line and a mark in the report. stop: the run also saves itself and ends."""

    off = "off"
    warn = "warn"
    stop = "stop"


@dataclass
class AlarmConfig:
    """One alarm. It is raised when its rule comes true, and again only after the rule was untrue in between.

    Of several metrics the largest that a step recorded counts (for `total`: their sum); ``name/*`` means all below
    ``name/``. An alarm whose metrics are not recorded is never raised; of those that the command line sets the end of
    the run says so.
    """

    metrics: list[str] = field(default_factory=list)
    rule: AlarmRule = AlarmRule.above
    threshold: float = 0.0
    window: int = 5  # recorded values; evaluations for `diverges`
    action: AlarmAction = AlarmAction.warn
    hint: str = ""  # what to do about it


def default_alarms() -> dict[str, AlarmConfig]:
    """The alarms that every run has."""
    return {**_of_the_policy(), **_of_the_audit(), **_of_the_machinery()}


def _of_the_policy() -> dict[str, AlarmConfig]:
    return {
        "reward_hacking": AlarmConfig(
            metrics=["reward/mean", "eval/score"],
            rule=AlarmRule.diverges,
            threshold=0.1,
            window=2,
            hint="the policy games its reward: read the best-rewarded rollouts, raise the KL penalty, or stop earlier",
        ),
        "kl": AlarmConfig(
            metrics=["ref_kl", "approx_kl_k3"],
            threshold=2.0,  # nat a token
            hint="the policy runs away: lower learner.optim.lr, or raise objective.kl_coef",
        ),
        "entropy_collapse": AlarmConfig(
            metrics=["entropy"],
            rule=AlarmRule.falls,
            threshold=0.02,
            window=10,
            hint="samples become alike: raise objective.clip_high or objective.entropy_coef, or lower the rate",
        ),
        "zero_variance": AlarmConfig(
            metrics=["groups/equal"],
            threshold=0.95,  # share of groups
            window=10,
            hint="nearly all groups teach nothing: use harder or easier prompts, larger groups, or dynamic_sampling",
        ),
        "length_explosion": AlarmConfig(
            metrics=["length/mean"],
            rule=AlarmRule.grows,
            threshold=4.0,
            window=10,
            hint="answers grow without end: check the stop tokens, punish length, or lower rollout.sampling.max_tokens",
        ),
        "empty_answers": AlarmConfig(
            metrics=["length/empty"],
            threshold=0.5,  # share of trajectories; their end token is judged and learned from like any other
            hint="most answers end before they begin: look for a reward that pays for silence, or a prompt that closes "
            "the turn by itself",
        ),
        "unused_term": AlarmConfig(
            metrics=["unused/*"],
            threshold=0.9,  # share of groups in which a term of the shaper has nothing to tell answers apart by
            window=3,
            hint="a part of the reward does nothing on these prompts: set the shaper's words to those that this model "
            "says (shaper.keywords), or leave the term out (shaper.split=length)",
        ),
        "clip_share": AlarmConfig(
            metrics=["clip_low", "clip_high"],
            threshold=0.4,  # share of tokens
            hint="the steps are too large for the clip range: lower the learning rate or the number of minibatches",
        ),
    }


def _of_the_audit() -> dict[str, AlarmConfig]:
    """Of `raylign.config.schema.AuditConfig`; without graders nothing of it is recorded."""
    hint = "the reward is earned otherwise than graders want: read the report's audit, mend the reward, or stop here"
    return {
        "exploit": AlarmConfig(
            metrics=["audit/unbacked/*"],
            threshold=0.15,  # share of audited samples, where grades do not back the reward's gain
            hint=hint,
        ),
        "exploit_held_out": AlarmConfig(metrics=["eval/audit/unbacked/*"], threshold=0.15, window=2, hint=hint),
        "audit_blind": AlarmConfig(
            metrics=["audit/missing/*", "eval/audit/missing/*"],
            threshold=0.1,  # share of the grades
            hint="a grader often fails, so that the audit sees little: read logs/grader-NAME-*.log, or raise its "
            "timeout_s, retries or workers under audit.graders",
        ),
    }


def _of_the_machinery() -> dict[str, AlarmConfig]:
    return {
        "staleness": AlarmConfig(
            metrics=["async/staleness"],
            threshold=8.0,  # policy versions
            hint="samples are too old: lower the stage's staleness, or give rollout more workers",
        ),
        "logprob_gap": AlarmConfig(
            metrics=["sampler_gap"],
            threshold=0.05,  # nat a token
            hint="engine and learner disagree: compare dtypes and sampling settings, or set objective.mismatch.mode",
        ),
        "missing_rewards": AlarmConfig(
            metrics=["missing/*"],
            threshold=0.1,  # share of trajectories
            hint="a reward often fails: read its log in the run folder, raise its timeout_s, retries or workers",
        ),
        "engine_restarts": AlarmConfig(
            metrics=["restarts/*"],
            rule=AlarmRule.total,
            threshold=2.0,
            window=20,
            hint="engines or reward workers keep dying: read the role's logs/rollout-*.log or logs/reward-NAME-*.log; "
            "out of memory is the usual cause",
        ),
    }


def alarm_problems(alarms: Mapping[str, AlarmConfig]) -> list[Problem]:
    """What is wrong with a run's alarms."""
    problems = []
    for name, alarm in alarms.items():
        key, pair = f"alarms.{name}", alarm.rule is AlarmRule.diverges
        if alarm.window < 1:
            fix = f"set {key}.window=5"
            problems.append(Problem(key=f"{key}.window", value=str(alarm.window), why="must be at least 1", fix=fix))
        if not math.isfinite(alarm.threshold):
            fix = "set it to a number"
            problems.append(Problem(key=f"{key}.threshold", value=str(alarm.threshold), why="is no number", fix=fix))
        if len(alarm.metrics) != 2 if pair else not alarm.metrics:
            why = f"the rule {alarm.rule.name} needs {'exactly two metrics' if pair else 'a metric'}"
            fix = f"set {key}.metrics=[{'reward/mean,eval/score' if pair else 'entropy'}]"
            problems.append(Problem(key=f"{key}.metrics", value=str(alarm.metrics), why=why, fix=fix))
    return problems
