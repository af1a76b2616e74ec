"""What a run would refuse only at work, refused before it: `raylign train` and `raylign plan` both ask this.

Composing has checked settings and parts. Here the rows are read and rendered, what is to be imitated is laid out, and
the parts that read them are made, in the order of the stages.
"""

from __future__ import annotations

from raylign.actors.routed import same_vocabulary
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config
from raylign.data.prompts import refuse_doubts
from raylign.errors import ConfigError, DataError, Problem
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.stages.evaluate import Evaluate
from raylign.recipes.stages.preference import Preference
from raylign.recipes.stages.reading import Reading
from raylign.recipes.stages.rl import Rl
from raylign.recipes.stages.sft import Sft

OURS = "raylign."  # generators of the recipes


def check(run: Run, made: int = 0) -> Reading:
    """Read what the stages will read; what was read serves the run itself.

    made: read only so many rows of a task or a generator. 0: those of the platform's own tasks and generators are left
    to the stages, which make them while the engines start; own files and generators are always read.
    Raises DataError and ConfigError, each in the words in which the stages would.
    """
    reading = Reading(run, made)
    _frozen(run, reading)
    for stage in run.stages:
        if made or brings_rows(run.config):
            _parts(stage, run, reading)
            _rows(stage, reading)
    return reading


def brings_rows(config: Config) -> bool:
    """Whether the rows are a user's own: from a file, or made by a generator of their own, or of a file."""
    generator = config.data.generator
    made_by_us = str(generator.get("_target_", OURS)).startswith(OURS) and not generator.get("path")
    return bool(config.data.path or (generator and not made_by_us))


def _rows(stage: ResolvedStage, reading: Reading) -> None:
    if issubclass(stage.cls, Preference):
        reading.pairs(stage.config.max_tokens, stage.config.truncation)
        return
    if "rollout" in stage.roles or issubclass(stage.cls, Sft):
        prompts = reading.prompts
        if "rewards" in stage.roles and reading.judged:
            refuse_doubts(prompts)
        _asked(stage, reading)
    if issubclass(stage.cls, Sft) and stage.cls.rows is Sft.rows:  # others make rows of their own, at length
        reading.demonstrated[stage.name] = stage.cls(stage.config, stage.name).rows(reading)
    elif issubclass(stage.cls, Rl):
        stage.cls(stage.config, stage.name).training_prompts(reading)


def _asked(stage: ResolvedStage, reading: Reading) -> None:
    """A stage that evaluates has prompts for it; of a task or a generator, composing has counted them."""
    settings, config = stage.config, reading.run.config
    if issubclass(stage.cls, Evaluate):
        split = settings.split
    elif issubclass(stage.cls, Rl) and settings.eval_every:
        split = settings.eval_split
    else:
        return
    if config.data.path and not reading.prompts.first(split, 0):
        raise DataError(
            f"{stage.key}: {config.data.path} leaves no prompt to evaluate on ({split.name}); fix: set "
            f"data.eval_path=FILE, add rows, or leave the stage out (~{stage.key})"
        )


def _parts(stage: ResolvedStage, run: Run, reading: Reading) -> None:
    """The shaper of a stage that has one can be made."""
    if not stage.batch:
        return
    part, config = run.part("shaper", stage.name), run.config
    weights = {name: reward.weight for name, reward in config.rewards.items()}
    try:
        part.build(
            weights=weights,
            max_tokens=config.rollout.sampling.max_tokens,
            tokenizer=reading.template,
            seed=config.seed,
        )
    except ValueError as cause:
        why = " ".join(str(cause).split())
        raise ConfigError([Problem(key=part.key, value=part.cls.__name__, why=why, fix="correct the value")]) from cause


def _frozen(run: Run, reading: Reading) -> None:
    """A frozen model whose stream anybody reads has the policy's vocabulary."""
    for name, frozen in run.config.frozen.items():
        if frozen.path and not frozen.path.startswith("@") and frozen.stream in run.streams():
            tokenizer = load_tokenizer(frozen.path, run.config.model.trust_remote_code)
            same_vocabulary(reading.tokenizer, tokenizer, f"frozen.{name}.path", frozen.path)
