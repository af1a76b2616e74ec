"""Sizes that make a run impossible, or empty, though a field could hold them: too few, too many, too long."""

from __future__ import annotations

from collections.abc import Sequence

from raylign.config.findings import Findings, at_most
from raylign.config.parts import Part, is_rl, streams_needed
from raylign.config.schema import Config, JudgeConfig, LearnerConfig, OptimConfig, RolloutConfig
from raylign.errors import ConfigError

MOST_ROWS = 10_000_000  # that a task or a generator makes
MOST_SEQUENCES, MOST_THREADS, MOST_TRIES = 65_536, 1_024, 1_000
SHORTEST_PROMPT = 4  # tokens: the marks around a message, the answer's first mark, and one letter
SHORTEST_DEADLINE_S = 10.0  # no engine and no rank starts sooner
LONGEST_WARMUP = 100  # times a stage's updates: the rate then stays below a hundredth of what is asked for
WIDEST_START = 1.0  # standard deviation of a model's first weights
OWN_LOGPROBS = frozenset({"old_logprob", "sampler_logprob"})  # the learner's and the engine's
SUM = "raylign.objectives.shaping.WeightedSum"


def limits(config: Config, stages: Sequence[Part], found: Findings) -> None:
    """All limits of a run's sections and stages."""
    _data(config, found)
    for name in ("deadline_s", "stall_s"):
        seconds, why = getattr(config.run, name), "ends every run before its engines have started"
        fix = f"set run.{name}=1800"
        found.expect(seconds >= SHORTEST_DEADLINE_S, f"run.{name}", seconds, why, fix)
    why = "gives a model whose first logits are already beyond use"
    at_most(found, "model.tiny.init_std", config.model.tiny.init_std, WIDEST_START, why)
    _tries_and_tables(config, found)
    for stage in stages:
        _warmup(stage, config, found)
        rounds = int(getattr(stage.config, "sampling_rounds", 1))
        at_most(
            found, f"{stage.key}.sampling_rounds", rounds, MOST_TRIES, "would look for prompts that differ for ever"
        )
    if any(is_rl(stage) for stage in stages):
        _weights(config, found)
    _streams(config, found)


def _data(config: Config, found: Findings) -> None:
    data = config.data
    enough = data.max_prompt_tokens >= SHORTEST_PROMPT
    why = f"is less than the {SHORTEST_PROMPT} tokens of a letter within a chat template: every prompt would be dropped"
    found.expect(enough, "data.max_prompt_tokens", data.max_prompt_tokens, why, "set data.max_prompt_tokens=128")
    why = "has no place for the question, so that all prompts would be the same"
    fits = not data.task_template or "{" in data.task_template
    found.expect(fits, "data.task_template", data.task_template, why, "put {question} into it")
    if not (data.task or data.generator) or data.path:
        return
    why = "is no number of rows, and a task or a generator makes as many as it is told"
    found.expect(data.size > 0, "data.size", data.size, why, "set data.size=4096")
    at_most(found, "data.size", data.size, MOST_ROWS, "is more rows than can be made before a run")


def _tries_and_tables(config: Config, found: Findings) -> None:
    engines: dict[str, RolloutConfig | JudgeConfig] = {"rollout": config.rollout}
    engines |= {f"judges.{name}": judge for name, judge in config.judges.items()}
    for key, engine in engines.items():
        why = "is more sequences than an engine holds a table for"
        at_most(found, f"{key}.max_sequences", engine.max_sequences, MOST_SEQUENCES, why)
    groups: dict[str, RolloutConfig | JudgeConfig | LearnerConfig] = {**engines, "learner": config.learner}
    for key, group in groups.items():
        at_most(found, f"{key}.max_restarts", group.max_restarts, MOST_TRIES, "would start what is broken for ever")
        at_most(found, f"{key}.threads", group.threads, MOST_THREADS, "is more threads than a machine runs")
    for name, reward in config.rewards.items():
        at_most(found, f"rewards.{name}.retries", reward.retries, MOST_TRIES, "would try what fails for ever")


def _warmup(stage: Part, config: Config, found: Findings) -> None:
    """A warm-up that is never over: the run would end well, and have learned nothing."""
    own = getattr(stage.config, "optim", None)
    steps = getattr(stage.config, "steps", 0)
    if not steps or not (is_rl(stage) or isinstance(own, OptimConfig)):
        return
    optim, key = (
        (own, f"{stage.key}.optim") if isinstance(own, OptimConfig) else (config.learner.optim, "learner.optim")
    )
    updates = steps * int(getattr(stage.config, "minibatches", 1)) * int(getattr(stage.config, "epochs", 1))
    why = f"is over long after the {updates} updates of {stage.key}, whose rate would stay below 1% of {key}.lr"
    at_most(found, f"{key}.warmup_steps", optim.warmup_steps, LONGEST_WARMUP * max(1, updates), why)
    if is_rl(stage):
        waits, why = (
            config.critic.warmup_steps,
            f"leaves the policy none of the {steps} steps of {stage.key} to learn in",
        )
        found.expect(waits == 0 or waits < steps, "critic.warmup_steps", waits, why, f"set it below {steps}")


def _weights(config: Config, found: Findings) -> None:
    """Rewards that all count nothing: every score is 0, and nothing is learned."""
    weights = [reward.weight for reward in config.rewards.values()]
    if weights and not any(weights) and str(config.shaper.get("_target_")) == SUM:
        name = next(iter(config.rewards))
        why = "is 0, as that of every reward: all scores would be 0 and nothing would be learned"
        found.expect(False, f"rewards.{name}.weight", 0, why, f"set rewards.{name}.weight=1")


def _streams(config: Config, found: Findings) -> None:
    """Log-probs that a credit or an objective reads and no frozen model gives, unless a stage has said so itself."""
    if any(problem.key == "scorers" for problem in found):
        return
    try:
        needed = {name for name in streams_needed(config) if name.endswith("_logprob")} - OWN_LOGPROBS
    except ConfigError:
        return  # a part is at fault, and is reported as such
    filled = {scorer.stream for scorer in config.scorers.values()}
    for stream in sorted(needed - filled):
        why = "is read by the credit or the objective, and no scorer fills it"
        found.expect(
            False,
            "scorers",
            ", ".join(sorted(filled)) or "none",
            f"{stream} {why}",
            f"set scorers.NAME.stream={stream}",
        )
