"""What a run would refuse only at work, refused before it: `raylign train` and `raylign plan` both ask this.

Composing has checked settings and parts. Here the rows are read and rendered, what is to be imitated is laid out, and
the parts that read them are made, in the order of the stages. Rows that a stage will write are not there to be read.
"""

from __future__ import annotations

from pathlib import Path

from raylign.actors.routed import same_vocabulary
from raylign.config.references import references
from raylign.config.resolve import ResolvedStage, Run
from raylign.data.prompts import refuse_doubts
from raylign.errors import ConfigError, DataError, Problem
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.stages.evaluate import Evaluate
from raylign.recipes.stages.on_pairs import OnPairs
from raylign.recipes.stages.prompt_sets import data_of, judged
from raylign.recipes.stages.reading import Reading, ReadStage
from raylign.recipes.stages.rl import Rl
from raylign.recipes.stages.sft import Sft
from raylign.recipes.words import single_tokens

OURS = "raylign."  # generators of the recipes


def check(run: Run, made: int = 0) -> Reading:
    """Read what the stages will read; what was read serves the run itself.

    made: read only so many rows of a task or a generator, and of those that a view makes of them lay out only so many
    to be imitated. 0: those of the platform's own tasks and generators are left to the stages, which make them while
    the engines start; own files and generators are always read.
    Raises DataError and ConfigError, each in the words in which the stages would.
    """
    reading = Reading(run, made)
    _frozen(run, reading)
    _starts(reading)
    single_tokens(run, reading)
    for stage in reading.run.stages:
        if not stage.config.data.startswith("@") and (made or brings_rows(run, stage)):
            _shaper(stage, reading)
            _rows(stage, reading, 0 if brings_rows(run, stage) else made)
    return reading


def brings_rows(run: Run, stage: ResolvedStage) -> bool:
    """Whether the rows of a stage are a user's own: from a file, or made by a generator of their own, or of a file."""
    data = run.config.data
    made_by_us = str(data.generator.get("_target_", OURS)).startswith(OURS) and not data.generator.get("path")
    return bool(stage.config.data or data.path or (data.generator and not made_by_us))


def _rows(stage: ResolvedStage, reading: Reading, made: int) -> None:
    config = stage.config
    if issubclass(stage.cls, OnPairs):
        data = reading.run.config.data
        own = data_of(data, config.data, Path()) if config.data else data
        stage.cls.pairs(config, reading, own, reading.start_of(stage))
    elif "rollout" in stage.roles or issubclass(stage.cls, Sft):
        _prompts(stage, reading, made)


def _prompts(stage: ResolvedStage, reading: Reading, made: int) -> None:
    read = reading.of(stage)
    if "rewards" in stage.roles and judged(reading.run, stage.name):
        refuse_doubts(read.prompts)
    if issubclass(stage.cls, Sft) and stage.cls.rows is Sft.rows:  # others make rows of their own, at length
        reading.demonstrated[stage.name] = stage.cls(stage.config, stage.name).rows(read.first(made))
    elif issubclass(stage.cls, Rl):
        stage.cls(stage.config, stage.name).training_prompts(read)
    _evaluated(stage, reading, read)


def _evaluated(stage: ResolvedStage, reading: Reading, read: ReadStage) -> None:
    """A stage that evaluates has prompts for it; of a task or a generator, composing has counted them."""
    settings, path = stage.config, reading.run.config.data.path
    if issubclass(stage.cls, Evaluate) and not settings.data:
        split = settings.split
    elif issubclass(stage.cls, Rl) and settings.eval_every:
        split = settings.eval_split
    else:
        return
    if path and not read.prompts.first(split, 0):
        raise DataError(
            f"{stage.key}: {path} leaves no prompt to evaluate on ({split.name}); fix: set data.eval_path=FILE, add "
            f"rows, or leave the stage out (~{stage.key})"
        )


def _shaper(stage: ResolvedStage, reading: Reading) -> None:
    """The shaper of a stage that learns from rewards can be made, unless it needs what an earlier stage will leave."""
    if not stage.batch:
        return
    run, part = reading.run, reading.run.part("shaper", stage.name)
    if any(reference.key.startswith(f"{part.key}.") for reference in references(run)):
        return
    settings = {"max_tokens": run.config.rollout.sampling.max_tokens, "seed": run.config.seed}
    try:
        part.build(weights=run.weights(stage.name), tokenizer=reading.template, **settings)
    except ValueError as cause:
        why = " ".join(str(cause).split())
        raise ConfigError([Problem(key=part.key, value=part.cls.__name__, why=why, fix="correct the value")]) from cause


def _frozen(run: Run, reading: Reading) -> None:
    """A frozen model whose stream anybody reads has the policy's vocabulary."""
    for name, frozen in run.config.frozen.items():
        if frozen.path and not frozen.path.startswith("@") and frozen.stream in run.streams():
            tokenizer = load_tokenizer(frozen.path, run.config.model.trust_remote_code)
            same_vocabulary(reading.template.tokenizer, tokenizer, f"frozen.{name}.path", frozen.path)


def _starts(reading: Reading) -> None:
    """A model from elsewhere that a stage starts from reads prompts as the run's tokenizer and template write them.

    Pairs are not meant: these are rendered by the template of the model that is trained on them.
    """
    for stage in reading.run.stages:
        start = reading.start_of(stage)
        if start == reading.start or not stage.cls.of_policy or issubclass(stage.cls, OnPairs):
            continue
        key = f"{stage.key}.start"
        try:
            theirs = reading.template_of(start)
        except (OSError, KeyError) as cause:
            why = f"its tokenizer cannot be loaded ({' '.join(str(cause).split())[:200]})"
            fix = "name a folder with tokenizer.json"
            raise ConfigError([Problem(key=key, value=start, why=why, fix=fix)]) from cause
        ours = reading.template
        same_vocabulary(ours.tokenizer, theirs.tokenizer, key, start)
        if ours.tokenizer.chat_template != theirs.tokenizer.chat_template or ours.ends != theirs.ends:
            why = f"has another chat template, or other ends of a turn, than {reading.start}, which renders all prompts"
            fix = f"set model.path={start}, or copy tokenizer and chat template of one model to the other's folder"
            raise ConfigError([Problem(key=key, value=start, why=why, fix=fix)])
