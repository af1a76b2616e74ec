"""Rules that no single section can check. They start nothing and load no weights.

A section of the configuration knows its own fields (`raylign.config.schema`), a part what else it asks of a run
(`raylign.contracts.Part.problems`); here stands what holds between sections.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from raylign.config.adapters import adapter_problems
from raylign.config.alarms import alarm_problems
from raylign.config.devices import device_problems
from raylign.config.findings import Findings
from raylign.config.headline import metric_problems
from raylign.config.limits import limits
from raylign.config.machine import machine_problems
from raylign.config.model_rules import frozen_model_rules, lacking_rules, lineage_rules, model_rules
from raylign.config.nearest import nearest
from raylign.config.part_rules import part_rules
from raylign.config.references import reference_rules
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config, PoolConfig, SampledSettings, Section
from raylign.config.secret_rules import secret_problems
from raylign.data.procedural import task_names
from raylign.data.readers import Format
from raylign.errors import Problem

DATA_SUFFIXES = (".jsonl", ".json", ".parquet")
OWN_NAMES = ("rollout", "neighbour", "share")  # missing/NAME of the metrics
MOST_SAMPLES = 1_000_000


def validate(run: Run, to_run: bool = True) -> list[Problem]:
    """Every problem of a resolved run between its sections; an empty list means that it can be planned, and with
    `to_run` also that its models' folders hold what a run loads.
    """
    config, problems = run.config, Findings()
    for part in run.parts.values():
        problems += part_rules(part, config)
        problems += part.cls.problems(part.key, part.config, run)
    problems.expect(bool(config.stages), "stages", "{}", "there is nothing to run", "name at least one stage")
    problems.not_negative(seed=config.seed)
    for key, section in _sections(config, ""):
        problems += section.problems(key)
    model_rules(run, problems)
    _data(run, problems)
    _stage_data(run, problems)
    _sampling(run, problems)
    _rewards(run, problems)
    _learner(run, problems)
    _frozen(config, problems)
    _scale(config, problems)
    if to_run:
        lacking_rules(config, problems)
    limits(run, problems)
    problems += adapter_problems(run)
    problems += machine_problems(config)
    lineage_rules(run, problems)
    reference_rules(run, problems)
    problems += device_problems(config)
    problems += alarm_problems(config.alarms)
    problems += secret_problems(run.tree)
    problems += metric_problems(run)
    for stage in run.stages:
        if stage.batch and not any(problem.key.startswith(f"{stage.key}.") for problem in problems):
            _batch(stage, run, problems)
    return list({(problem.key, problem.why): problem for problem in problems}.values())


def _sections(section: Config, prefix: str) -> Iterator[tuple[str, Section]]:
    """(key, section) of the outermost sections: each checks the sections within it."""
    for item in fields(section):
        value = getattr(section, item.name)
        entries = value if isinstance(value, Mapping) else {"": value}
        for name, entry in entries.items():
            if isinstance(entry, Section):
                yield f"{prefix}{item.name}{f'.{name}' if name else ''}", entry


def _data(run: Run, problems: Findings) -> None:
    data = run.config.data
    problems.one_of("data.format", data.format, tuple(item.value for item in Format))
    for key, path in (("data.path", data.path), ("data.eval_path", data.eval_path)):
        if path:
            _data_file(problems, key, Path(path).expanduser())
    own_source = not str(run.config.source.get("_target_", "")).startswith("raylign.data.")
    problems.expect(
        bool(data.path or data.task or data.generator or own_source),
        "data.path",
        "empty",
        "neither a file nor a task gives the prompts",
        "set data.path=FILE.jsonl or data.task=basic_arithmetic"
        if not run.config.environment.fn
        else "set 'data.generator={_target_: raylign.actors.environments.rows.EnvironmentRows, environment: "
        "${environment.fn}}' and data.size",
    )
    if data.generator and not data.path:
        why = f"stands beside data.generator={data.generator.get('_target_')}, and only one of them makes the rows"
        problems.expect(not data.task, "data.task", data.task, why, "set data.task=, or leave data.generator out")
    if data.task and not data.path and not data.generator:
        known = task_names()
        fix = f"{nearest(data.task, known)}" if known else "name a reasoning-gym data set"
        problems.expect(not known or data.task in known, "data.task", data.task, "is no reasoning-gym data set", fix)


def _stage_data(run: Run, problems: Findings) -> None:
    """Rows that a stage reads in place of the run's."""
    for stage in run.stages:
        if (path := stage.config.data) and not path.startswith("@"):
            _data_file(problems, f"{stage.key}.data", Path(path).expanduser())


def _data_file(problems: Findings, key: str, path: Path) -> None:
    fix = "name a .jsonl or .parquet file"
    if not path.exists():
        problems.expect(False, key, path, f"does not exist (looked in {path.parent.absolute()})", fix)
    elif (path.with_suffix("") if path.suffix == ".gz" else path).suffix not in DATA_SUFFIXES:
        problems.expect(False, key, path, f"has the suffix {path.suffix or 'none'!r}, which no reader knows", fix)
    else:
        problems.expect(path.is_file() and path.stat().st_size > 0, key, path, "is empty or no file", fix)


def _sampling(run: Run, problems: Findings) -> None:
    """Training samples must come from the distribution that the learner computes."""
    if not any(stage.batch for stage in run.stages):
        return
    sampling, key = run.config.rollout.sampling, "rollout.sampling"
    why, temperature = "reinforcement learning needs to sample", sampling.temperature
    problems.expect(temperature > 0, f"{key}.temperature", temperature, why, f"set {key}.temperature=1")
    why = "cuts the distribution that is sampled from, and the learner does not: its ratios would be wrong"
    problems.expect(sampling.top_p == 1, f"{key}.top_p", sampling.top_p, why, f"set {key}.top_p=1")
    problems.expect(sampling.top_k == 0, f"{key}.top_k", sampling.top_k, why, f"set {key}.top_k=0")


def _rewards(run: Run, problems: Findings) -> None:
    needing = [stage for stage in run.stages if stage.batch and "rewards" in stage.roles and run.reads_scores(stage)]
    problems.expect(
        bool(run.config.rewards or not needing),
        "rewards",
        "{}",
        f"{', '.join(stage.key for stage in needing)} learns from rewards and there are none",
        "set rewards.NAME.fn._target_=..., or choose a recipe that brings one",
    )
    for stage in run.stages:
        _weights(stage, run, problems, stage in needing)
    for name in run.config.rewards:
        fix = "give the reward another name"
        problems.expect(name not in OWN_NAMES, f"rewards.{name}", name, "is what failed samples are counted by", fix)
    _devices(run, problems)


def _devices(run: Run, problems: Findings) -> None:
    """What rewards and graders compute with: a GPU that a part of one names is its actors' own, which see no other."""
    pools: dict[str, PoolConfig] = {f"rewards.{name}": reward for name, reward in run.config.rewards.items()}
    pools |= {f"audit.graders.{name}": grader for name, grader in run.config.audit.graders.items()}
    for part in run.parts.values():
        key = next((key for key in pools if part.key.startswith(f"{key}.")), "")
        device = str(vars(part.config).get("device", ""))
        if key and device.startswith("cuda") and not pools[key].gpus:
            fix = f"set {key}.gpus=0.2 or more, or {part.key}.device=cpu"
            why = f"is a GPU, and the workers of the reward have none ({key}.gpus=0)"
            problems.expect(False, f"{part.key}.device", device, why, fix)


def _weights(stage: ResolvedStage, run: Run, problems: Findings, needed: bool) -> None:
    """The rewards that a stage asks in place of all."""
    weights = stage.config.weights if isinstance(stage.config, SampledSettings) else None
    key = f"{stage.key}.weights"
    for name, weight in (weights or {}).items():
        fix = f"name one of {', '.join(run.config.rewards) or 'those that you add under rewards'}"
        problems.expect(name in run.config.rewards, f"{key}.{name}", weight, "is the weight of no reward", fix)
        problems.expect(math.isfinite(weight), f"{key}.{name}", weight, "is no weight", f"set {key}.{name}=1")
    if weights is not None and needed and run.config.rewards:
        fix = f"name one of {', '.join(run.config.rewards)}, or set {key}=null for all"
        problems.expect(bool(weights), key, "{}", "leaves no reward to learn from", fix)


def _learner(run: Run, problems: Findings) -> None:
    config = run.config
    if not any("learner" in stage.roles for stage in run.stages):
        return
    size, tokens = config.learner.micro_batch_tokens, config.data.max_prompt_tokens + config.rollout.sampling.max_tokens
    problems.expect(
        size >= tokens,
        "learner.micro_batch_tokens",
        size,
        f"cannot hold one sample of data.max_prompt_tokens + rollout.sampling.max_tokens = {tokens} (none is split)",
        f"set learner.micro_batch_tokens={tokens} or more",
    )


def _frozen(config: Config, problems: Findings) -> None:
    for name, frozen in config.frozen.items():
        otherwise = "leave it empty for the stage's own start"
        frozen_model_rules(config, f"frozen.{name}.path", frozen.path, otherwise, problems)
    for name, judge in config.judges.items():
        if not judge.endpoint:
            otherwise = "leave it empty for the model that the run starts from"
            frozen_model_rules(config, f"judges.{name}.path", judge.path, otherwise, problems, trained=False)


def _scale(config: Config, problems: Findings) -> None:
    if config.scale != "tiny":
        return
    asked = {"rollout.gpus": config.rollout.gpus, "learner.gpus": config.learner.gpus}
    asked |= {f"rewards.{name}.gpus": reward.gpus for name, reward in config.rewards.items()}
    asked |= {f"audit.graders.{name}.gpus": grader.gpus for name, grader in config.audit.graders.items()}
    asked |= {f"frozen.{name}.gpus": frozen.gpus for name, frozen in config.frozen.items()}
    asked |= {f"judges.{name}.gpus": judge.gpus for name, judge in config.judges.items()}
    for key, gpus in asked.items():
        problems.expect(gpus == 0, key, gpus, "scale=tiny runs on the CPU only", f"set {key}=0 or scale=gpu")


def _batch(stage: ResolvedStage, run: Run, problems: Findings) -> None:
    """The arithmetic of a step, whose numbers are each at least 1 (the stage's own rule)."""
    batch, key = stage.batch, stage.key
    assert batch is not None
    prompts, group = batch.prompts_per_step, batch.group_size
    advantage = run.advantage(stage)
    problems.expect(
        group >= 2 or advantage is None or not advantage.compares_samples,
        f"{key}.group_size",
        group,
        "the advantage compares the samples of a group, and one sample has nothing to be compared with",
        f"set {key}.group_size=8, or an advantage without a group, as variant=reinforce_pp has",
    )
    problems.expect(
        prompts * group <= MOST_SAMPLES,
        f"{key}.prompts_per_step",
        prompts,
        f"times group_size={group} is more than the {MOST_SAMPLES:,} samples that one step can hold",
        f"set {key}.prompts_per_step={max(1, MOST_SAMPLES // group)} or less",
    )
    samples, ranks = prompts * group // batch.minibatches, run.config.learner.ranks
    problems.expect(
        samples >= ranks,
        f"{key}.prompts_per_step",
        prompts,
        f"gives {samples} samples an update to {ranks} learner ranks",
        "raise prompts_per_step or group_size, or lower minibatches or learner.ranks",
    )
