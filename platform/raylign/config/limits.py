"""Sizes that make a run impossible, or empty, though each section could hold them."""

from __future__ import annotations

from raylign.config.findings import Findings
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import OptimConfig
from raylign.config.token_scores import unweighed
from raylign.objectives.shaping import WeightedSum

LONGEST_WARMUP = 100  # times a stage's updates: the rate then stays below a hundredth of what is asked for
OF_UPDATES = ("advantage", "objective", "selector", "rows")  # what only stages read that train on their own samples
# of `rollout`, read without engines too: room for answers, how conversations are laid out, episodes of a teacher
READ_BY_ALL = ("sampling", "past", "strategy", "max_missing")
COLUMNS = ("prompt_key", "answer_key", "domain_key")  # settings of data that name one
OWN_LOGPROBS = frozenset({"old_logprob", "sampler_logprob"})  # the learner's and the engine's


def limits(run: Run, problems: Findings) -> None:
    """All limits that hold between a run's sections and stages."""
    _rows(run, problems)
    for stage in run.stages:
        _warmup(stage, run, problems)
    if any(stage.batch for stage in run.stages):
        _weights(run, problems)
    problems.extend(unweighed(run))
    _streams(run, problems)
    _unread(run, problems)
    _unread_weights(run, problems)
    _unread_columns(run, problems)


def _unread(run: Run, problems: Findings) -> None:
    """Settings of the command line that no stage of the run reads, though they are right in others."""
    if len(run.stages) < len(run.config.stages):  # one is at fault, which is told elsewhere
        return
    trains, samples = any(stage.batch for stage in run.stages), any("rollout" in stage.roles for stage in run.stages)
    own = [stage.key for stage in run.stages if isinstance(vars(stage.config).get("optim"), OptimConfig)]
    for key in sorted(run.given):
        section, _, rest = key.partition(".")
        fix = "leave it out, or add such a stage"
        if not trains and (section in OF_UPDATES or key.startswith("learner.optim.")):
            if own and section == "learner":
                fix = f"set {' or '.join(f'{stage}.{rest}' for stage in own)}"
            why = "is read by no stage of this run: none of them trains on samples of its own"
            problems.expect(False, key, "given", why, fix)
        elif not samples and section == "rollout" and not rest.startswith(READ_BY_ALL):
            problems.expect(False, key, "given", "is read by no stage of this run: none of them samples", fix)


def _unread_weights(run: Run, problems: Findings) -> None:
    """Weights of rewards on the command line, where every stage that asks rewards weighs them itself."""
    asking = [stage for stage in run.stages if "rewards" in stage.roles]
    if len(run.stages) < len(run.config.stages) or not all(run.weighs_itself(stage) for stage in asking):
        return
    for name, reward in run.config.rewards.items():
        if f"rewards.{name}.weight" not in run.given:
            continue
        stages = [stage for stage in asking if name in run.asked(stage)] or [stage for stage in asking if stage.batch]
        keys = [f"{stage.key}.weights.{name}={reward.weight:g}" for stage in stages]
        fix = f"set {' or '.join(keys)}" if keys else "leave it out"
        why = f"is read by no stage of this run: {'each names its own weights' if asking else 'none asks rewards'}"
        problems.expect(False, f"rewards.{name}.weight", f"{reward.weight:g}", why, fix)


def _unread_columns(run: Run, problems: Findings) -> None:
    """Columns that the command line names, where rows are made and no file is read."""
    data, made = run.config.data, run.config.data.task or run.config.data.generator
    files = [stage.config.data for stage in run.stages if stage.config.data and not stage.config.data.startswith("@")]
    if not made or data.path or data.eval_path or files or len(run.stages) < len(run.config.stages):
        return
    maker = "data.generator" if data.generator else "data.task"
    for name in COLUMNS:
        value, key = getattr(data, name), f"data.{name}"
        why = f"is a column of a file, and none is read: {maker} makes the rows"
        unread = value and key in run.given
        problems.expect(not unread, key, value, why, f"set data.path=FILE, or leave {key} out")


def _rows(run: Run, problems: Findings) -> None:
    data = run.config.data
    if (data.task or data.generator) and not data.path:
        why = "is no number of rows, and a task or a generator makes as many as it is told"
        problems.expect(data.size > 0, "data.size", data.size, why, "set data.size=4096")


def _warmup(stage: ResolvedStage, run: Run, problems: Findings) -> None:
    """A warm-up that is never over: the run would end well, and have learned nothing."""
    stage_optim, batch = vars(stage.config).get("optim"), stage.batch
    steps = batch.steps if batch else vars(stage.config).get("steps", 0)
    if not steps or not (batch or isinstance(stage_optim, OptimConfig)):
        return
    optim, key = run.config.learner.optim, "learner.optim"
    if isinstance(stage_optim, OptimConfig):
        optim, key = stage_optim, f"{stage.key}.optim"
    updates = steps * (batch.minibatches * batch.epochs if batch else 1)
    why = f"is over long after the {updates} updates of {stage.key}, whose rate would stay below 1% of {key}.lr"
    problems.at_most(f"{key}.warmup_steps", optim.warmup_steps, LONGEST_WARMUP * max(1, updates), why)
    if batch:
        waits = run.config.critic.warmup_steps
        why = f"leaves the policy none of the {steps} steps of {stage.key} to learn in"
        problems.expect(waits == 0 or waits < steps, "critic.warmup_steps", waits, why, f"set it below {steps}")


def _weights(run: Run, problems: Findings) -> None:
    """Rewards that all count nothing: every score is 0, and nothing is learned."""
    weights, shaper = [reward.weight for reward in run.config.rewards.values()], run.parts.get("shaper")
    if weights and not any(weights) and shaper and shaper.cls is WeightedSum:
        name = next(iter(run.config.rewards))
        why = "is 0, as that of every reward: all scores would be 0 and nothing would be learned"
        problems.expect(False, f"rewards.{name}.weight", 0, why, f"set rewards.{name}.weight=1")


def _streams(run: Run, problems: Findings) -> None:
    """Log-probs that an advantage or an objective reads and no frozen model gives, unless a stage said so itself."""
    if any(problem.key == "frozen" for problem in problems):
        return
    needed = {name for name in run.streams() if name.endswith("_logprob")} - OWN_LOGPROBS
    filled = {frozen.stream for frozen in run.config.frozen.values()}
    for stream in sorted(needed - filled):
        why = f"{stream} is read by the advantage or the objective, and no frozen model fills it"
        problems.expect(False, "frozen", ", ".join(sorted(filled)) or "none", why, f"set frozen.NAME.stream={stream}")
