"""Rules that no single field can check. `validate` finds every problem; it starts nothing and loads no weights.

A part may bring its own rules: ``Config.__post_init__`` raising ValueError for its own fields, and a class method
``problems(key, config, run_config) -> list[Problem]`` for what depends on the rest of the run; `key` is where the part
stands in the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylign.config.alarms import alarm_problems
from raylign.config.build import nearest, part_config
from raylign.config.devices import device_problems
from raylign.config.findings import Findings, not_negative, one_of, positive, share, whole_gpus
from raylign.config.limits import limits
from raylign.config.machine import machine_problems
from raylign.config.model_rules import frozen_model_rules, lineage_rules, model_rules
from raylign.config.parts import Part, is_rl, part_nodes, reads_scores, roles_of
from raylign.config.roles import inner_problems, misfits
from raylign.config.schema import Config, Offload
from raylign.config.typed_rules import optim_rules, sampling_rules, typed_rules
from raylign.data.procedural import task_names
from raylign.data.readers import Format
from raylign.errors import ConfigError, Problem

DATA_SUFFIXES = (".jsonl", ".json", ".parquet")
OWN_NAMES = ("rollout", "neighbour", "share")  # missing/NAME of the metrics
MOST_SAMPLES = 1_000_000
PLACEMENTS = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def validate(config: Config) -> list[Problem]:
    """Every problem of a configuration, in the order of its sections; an empty list means that it can be planned."""
    found = Findings()
    parts = _parts(config, found)
    stages = [part for part in parts if part.key.startswith("stages.") and part.key.count(".") == 1]
    found.expect(bool(config.stages), "stages", "{}", "there is nothing to run", "name at least one stage")
    _run(config, found)
    model_rules(config, found)
    _data(config, found)
    _sampling(config, stages, found)
    _rollout(config, found)
    _environment(config, found)
    _rewards(config, stages, found)
    _learner(config, found)
    _scorers(config, found)
    _judges(config, found)
    _scale(config, found)
    _cluster(config, found)
    limits(config, stages, found)
    found.extend(machine_problems(config))
    lineage_rules(config, stages, found)
    one_of(found, "sweep.direction", config.sweep.direction, ("maximize", "minimize"))
    found.extend(device_problems(config))
    found.extend(alarm_problems(config.alarms))
    for stage in stages:
        if is_rl(stage):
            _batch(stage, config, {part.key: part for part in parts}, found)
    return found


def _parts(config: Config, found: Findings) -> list[Part]:
    parts: list[Part] = []
    for key, node in part_nodes(config):
        if not isinstance(node, Mapping):
            found.expect(False, key, node, "is no part", f"write {key}: {{_target_: package.module.Class}}")
            continue
        try:
            part = Part(key, *part_config(node, key, config.run.allow_targets))
        except ConfigError as error:
            found.extend(error.problems)
            continue
        found.extend(misfits(key, part.cls))
        typed_rules(key, part.config, config, found)
        parts.append(part)
        hook = getattr(part.cls, "problems", None)
        found.extend(hook(key, part.config, config) if hook else ())
        found.extend(inner_problems(key, vars(part.config)))
    found[:] = {(problem.key, problem.why): problem for problem in found}.values()  # an inner part may stand for itself
    return parts


def _run(config: Config, found: Findings) -> None:
    run, telemetry = config.run, config.telemetry
    positive(found, "run.keep_checkpoints", run.keep_checkpoints)
    not_negative(found, "run.save_every", run.save_every)
    not_negative(found, "seed", config.seed)
    one_of(found, "telemetry.progress", telemetry.progress, ("auto", "rich", "plain", "none"))
    one_of(found, "telemetry.wandb_mode", telemetry.wandb_mode, ("offline", "online"))
    not_negative(found, "telemetry.rollouts_per_step", telemetry.rollouts_per_step)


def _data(config: Config, found: Findings) -> None:
    data = config.data
    one_of(found, "data.format", data.format, tuple(item.value for item in Format))
    for key, path in (("data.path", data.path), ("data.eval_path", data.eval_path)):
        if path:
            _data_file(found, key, Path(path).expanduser())
    own_source = not str(config.source.get("_target_", "")).startswith("raylign.data.")
    found.expect(
        bool(data.path or data.task or data.generator or own_source),
        "data.path",
        "empty",
        "neither a file nor a task gives the prompts",
        "set data.path=FILE.jsonl or data.task=basic_arithmetic",
    )
    found.expect(
        data.format != "columns" or bool(data.prompt_key),
        "data.prompt_key",
        "empty",
        "data.format=columns needs to know the prompt's column",
        "set data.prompt_key=COLUMN (and data.answer_key=COLUMN)",
    )
    found.expect(
        not data.template or "{" in data.template,
        "data.template",
        data.template,
        "has no place for the prompt, so that all prompts would be the same",
        "put {prompt} into it",
    )
    if data.task and not data.path and not data.generator:
        known = task_names()
        fix = f"{nearest(data.task, known)}" if known else "name a reasoning-gym data set"
        found.expect(not known or data.task in known, "data.task", data.task, "is no reasoning-gym data set", fix)
    not_negative(found, "data.size", data.size)
    not_negative(found, "data.holdout", data.holdout)
    found.expect(
        not data.size or bool(data.eval_path) or data.holdout < data.size,
        "data.holdout",
        data.holdout,
        f"leaves nothing to train on of data.size={data.size} rows",
        f"set data.holdout below {data.size}",
    )


def _data_file(found: Findings, key: str, path: Path) -> None:
    fix = "name a .jsonl or .parquet file"
    if not path.exists():
        found.expect(False, key, path, f"does not exist (looked in {path.parent.absolute()})", fix)
    elif (path.with_suffix("") if path.suffix == ".gz" else path).suffix not in DATA_SUFFIXES:
        found.expect(False, key, path, f"has the suffix {path.suffix or 'none'!r}, which no reader knows", fix)
    else:
        found.expect(path.is_file() and path.stat().st_size > 0, key, path, "is empty or no file", fix)


def _sampling(config: Config, stages: list[Part], found: Findings) -> None:
    sampling, key = config.rollout.sampling, "rollout.sampling"
    sampling_rules(found, key, sampling)
    if not any(is_rl(stage) for stage in stages):
        return
    why = "reinforcement learning needs to sample"
    found.expect(sampling.temperature > 0, f"{key}.temperature", sampling.temperature, why, f"set {key}.temperature=1")
    why = "cuts the distribution that is sampled from, and the learner does not: its ratios would be wrong"
    found.expect(sampling.top_p == 1, f"{key}.top_p", sampling.top_p, why, f"set {key}.top_p=1")
    found.expect(sampling.top_k == 0, f"{key}.top_k", sampling.top_k, why, f"set {key}.top_k=0")


def _rollout(config: Config, found: Findings) -> None:
    rollout = config.rollout
    for name in ("workers", "tensor_parallel", "threads", "max_sequences", "cpus", "kv_cache_gb", "max_publish_gap"):
        positive(found, f"rollout.{name}", getattr(rollout, name))
    not_negative(found, "rollout.gpus", rollout.gpus)
    not_negative(found, "rollout.max_restarts", rollout.max_restarts)
    share(found, "rollout.gpu_memory", rollout.gpu_memory)
    share(found, "rollout.max_missing", rollout.max_missing)
    whole_gpus(found, "rollout.gpus", rollout.gpus)


def _environment(config: Config, found: Findings) -> None:
    not_negative(found, "environment.workers", config.environment.workers)
    positive(found, "environment.timeout_s", config.environment.timeout_s)
    positive(found, "environment.cpus", config.environment.cpus)


def _rewards(config: Config, stages: list[Part], found: Findings) -> None:
    needing = [
        stage.key for stage in stages if is_rl(stage) and "rewards" in roles_of(stage) and _scored(stage, config)
    ]
    found.expect(
        bool(config.rewards or not needing or any(problem.key == "rewards" for problem in found)),
        "rewards",
        "{}",
        f"{', '.join(needing)} learns from rewards and there are none",
        "set rewards.NAME.fn._target_=..., or choose a recipe that brings one",
    )
    for name, reward in config.rewards.items():
        key = f"rewards.{name}"
        fix = "give the reward another name"
        found.expect(name not in OWN_NAMES, key, name, "is what failed draws are counted by", fix)
        found.expect(math.isfinite(reward.weight), f"{key}.weight", reward.weight, "is no number", "set it to 1")
        positive(found, f"{key}.workers", reward.workers)
        positive(found, f"{key}.cpus", reward.cpus)
        not_negative(found, f"{key}.gpus", reward.gpus)
        positive(found, f"{key}.timeout_s", reward.timeout_s)
        not_negative(found, f"{key}.retries", reward.retries)
        share(found, f"{key}.max_missing", reward.max_missing)


def _scored(stage: Part, config: Config) -> bool:
    try:
        return reads_scores(getattr(stage.config, "credit", None) or config.credit, config.run.allow_targets)
    except ConfigError:
        return True  # the credit is at fault, and is reported as such


def _learner(config: Config, found: Findings) -> None:
    learner = config.learner
    for name in ("ranks", "threads", "micro_batch_tokens", "logprob_chunk", "cpus"):
        positive(found, f"learner.{name}", getattr(learner, name))
    positive(found, "critic.ranks", config.critic.ranks)
    not_negative(found, "critic.warmup_steps", config.critic.warmup_steps)
    one_of(found, "learner.zero_stage", learner.zero_stage, (0, 1, 2, 3))
    found.expect(
        0 <= learner.gpus <= 1, "learner.gpus", learner.gpus, "one rank drives one GPU", "set it between 0 and 1"
    )
    found.expect(
        learner.offload is Offload.none or learner.zero_stage > 0,
        "learner.offload",
        learner.offload.name,
        "ZeRO stage 0 keeps the optimizer in one piece on the device",
        "set learner.zero_stage=2 or learner.offload=none",
    )
    tokens = config.data.max_prompt_tokens + config.rollout.sampling.max_tokens
    found.expect(
        learner.micro_batch_tokens >= tokens,
        "learner.micro_batch_tokens",
        learner.micro_batch_tokens,
        f"cannot hold one sample of data.max_prompt_tokens + rollout.sampling.max_tokens = {tokens} (none is split)",
        f"set learner.micro_batch_tokens={tokens} or more",
    )
    optim_rules(found, "learner.optim", learner.optim)
    optim_rules(found, "critic.optim", config.critic.optim)


def _scorers(config: Config, found: Findings) -> None:
    for name, scorer in config.scorers.items():
        key = f"scorers.{name}"
        positive(found, f"{key}.cpus", scorer.cpus)
        not_negative(found, f"{key}.gpus", scorer.gpus)
        whole_gpus(found, f"{key}.gpus", scorer.gpus)
        frozen_model_rules(config, f"{key}.path", scorer.path, "leave it empty for the stage's own start", found)


def _judges(config: Config, found: Findings) -> None:
    for name, judge in config.judges.items():
        key = f"judges.{name}"
        for setting in ("workers", "max_context", "max_sequences", "cpus", "threads", "tensor_parallel", "kv_cache_gb"):
            positive(found, f"{key}.{setting}", getattr(judge, setting))
        not_negative(found, f"{key}.gpus", judge.gpus)
        not_negative(found, f"{key}.max_restarts", judge.max_restarts)
        whole_gpus(found, f"{key}.gpus", judge.gpus)
        share(found, f"{key}.gpu_memory", judge.gpu_memory)
        one_of(found, f"{key}.dtype", judge.dtype, ("", "float32", "bfloat16"))
        if judge.endpoint:
            fix = f"set {key}.path to the name of the endpoint's model"
            found.expect(bool(judge.path), f"{key}.path", "empty", "an endpoint serves models by name", fix)
        else:
            frozen_model_rules(
                config, f"{key}.path", judge.path, "leave it empty for the model that the run starts from", found
            )


def _scale(config: Config, found: Findings) -> None:
    if config.scale != "tiny":
        return
    asked = {"rollout.gpus": config.rollout.gpus, "learner.gpus": config.learner.gpus}
    asked |= {f"rewards.{name}.gpus": reward.gpus for name, reward in config.rewards.items()}
    asked |= {f"scorers.{name}.gpus": scorer.gpus for name, scorer in config.scorers.items()}
    asked |= {f"judges.{name}.gpus": judge.gpus for name, judge in config.judges.items()}
    for key, gpus in asked.items():
        found.expect(gpus == 0, key, gpus, "scale=tiny runs on the CPU only", f"set {key}=0 or scale=gpu")


def _cluster(config: Config, found: Findings) -> None:
    cluster = config.cluster
    one_of(found, "cluster.strategy", cluster.strategy, PLACEMENTS)
    positive(found, "cluster.ready_timeout_s", cluster.ready_timeout_s)
    not_negative(found, "cluster.num_cpus", cluster.num_cpus)
    why = "Ray's object store needs at least 80 MB"
    found.expect(cluster.object_store_mb >= 80, "cluster.object_store_mb", cluster.object_store_mb, why, "set 256")


def _batch(stage: Part, config: Config, parts: Mapping[str, Part], found: Findings) -> None:
    batch, key = stage.config, stage.key
    prompts, group = int(batch.prompts_per_step), int(batch.group_size)
    minibatches = int(getattr(batch, "minibatches", 1))
    before = len(found)
    positive(found, f"{key}.prompts_per_step", prompts)
    positive(found, f"{key}.group_size", group)
    positive(found, f"{key}.minibatches", minibatches)
    if len(found) > before:
        return
    found.expect(
        prompts % minibatches == 0,
        f"{key}.minibatches",
        minibatches,
        f"does not divide prompts_per_step={prompts}; a group is never split",
        f"choose one of {', '.join(str(n) for n in range(1, min(prompts, 64) + 1) if prompts % n == 0)}",
    )
    credit = parts.get(f"{key}.credit") or parts.get("credit")
    grouped = credit is not None and any(
        _name(getattr(credit.config, field, None)) not in ("None", "none") for field in ("baseline", "std")
    )
    found.expect(
        group >= 2 or not grouped,
        f"{key}.group_size",
        group,
        "the credit compares the samples of a group, and one sample has nothing to be compared with",
        f"set {key}.group_size=8, or credit.baseline=none credit.std=none",
    )
    found.expect(
        prompts * group <= MOST_SAMPLES,
        f"{key}.prompts_per_step",
        prompts,
        f"times group_size={group} is more than the {MOST_SAMPLES:,} samples that one step can hold",
        f"set {key}.prompts_per_step={max(1, MOST_SAMPLES // group)} or less",
    )
    samples, ranks = prompts * group // minibatches, config.learner.ranks
    found.expect(
        samples >= ranks,
        f"{key}.prompts_per_step",
        prompts,
        f"gives {samples} samples an update to {ranks} learner ranks",
        "raise prompts_per_step or group_size, or lower minibatches or learner.ranks",
    )


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))
