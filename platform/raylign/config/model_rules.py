"""Rules of the models that a run names: their folders and their shapes."""

from __future__ import annotations

import math
from pathlib import Path

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.room import room_rules
from raylign.config.schema import Config, ModelConfig
from raylign.models.facts import CAUSAL, model_facts, model_folder
from raylign.models.folder_check import folder_fault, folder_lacks
from raylign.models.scoring import SCORING


def model_rules(run: Run, problems: Findings) -> None:
    """The policy's start: its folder or tiny shape, and the room that prompts and responses take."""
    config, model = run.config, run.config.model
    try:
        facts = model_facts(model)
    except ValueError as cause:
        fix = "name a folder with config.json and safetensors, or leave it empty for the tiny model"
        problems.expect(False, "model.path", model.path, str(cause), fix)
        return
    folder_rules(problems, "model.path", model.path)
    if config.critic.path:
        otherwise = "leave it empty for the policy's weights"
        frozen_model_rules(config, "critic.path", config.critic.path, otherwise, problems)
    ranks = config.rollout.tensor_parallel
    problems.expect(
        ranks < 1 or facts.heads % ranks == 0,
        "rollout.tensor_parallel",
        ranks,
        f"does not divide the {facts.heads} attention heads of {facts.name}",
        f"set rollout.tensor_parallel={math.gcd(facts.heads, max(1, ranks))}",
    )
    room_rules(run, facts, problems)


def folder_rules(problems: Findings, key: str, path: str, trained: bool = True) -> None:
    """The files of a model's folder belong together. trained: the learner loads it, not an engine alone."""
    fault = folder_fault(model_folder(path), trained) if path else None
    if fault:
        problems.expect(False, key, path, *fault)


def lacking_rules(config: Config, problems: Findings) -> None:
    """The folders of a run's models hold what a plan can do without and a run cannot."""
    paths = {"model.path": config.model.path, "critic.path": config.critic.path}
    paths |= {f"frozen.{name}.path": frozen.path for name, frozen in config.frozen.items()}
    paths |= {f"judges.{name}.path": judge.path for name, judge in config.judges.items() if not judge.endpoint}
    faulty = {problem.key for problem in problems}
    for key, path in paths.items():
        folder = Path(path).expanduser()
        if path and key not in faulty and folder.is_dir() and (lack := folder_lacks(folder)):
            problems.expect(False, key, path, *lack)


def frozen_model_rules(
    config: Config,
    key: str,
    path: str,
    otherwise: str,
    problems: Findings,
    *,
    trained: bool = True,
    ends: tuple[str, ...] = CAUSAL,
) -> None:
    """A path that is empty, a reference or a model's. trained: the learner's code loads it, not an engine alone; ends:
    of the class names that will do.
    """
    if not path or path.startswith("@"):
        return
    try:
        model_facts(ModelConfig(path=path), ends)
    except ValueError as cause:
        problems.expect(False, key, path, str(cause), f"name a model's folder, or {otherwise}")
    else:
        folder_rules(problems, key, path, trained)


def lineage_rules(run: Run, problems: Findings) -> None:
    """The ``start`` of a stage is a reference, or a model's folder."""
    otherwise = "leave it empty for the model of the stage before"
    for stage in run.stages:
        key, path = f"{stage.key}.start", stage.config.start
        ends = CAUSAL if stage.cls.of_policy else (*CAUSAL, SCORING)
        frozen_model_rules(run.config, key, path, otherwise, problems, ends=ends)
