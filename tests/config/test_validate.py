"""Cross-field rules: each impossible setting is named before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from raylign.config.compose import compose, options
from raylign.config.describe import choices, describe
from raylign.config.resolve import Run
from raylign.data.source import DatasetSource
from raylign.errors import ConfigError, Problem
from raylign.models.facts import model_facts

BASE = ["recipe=grpo", "scale=tiny"]


def problems_of(*overrides: str) -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        compose([*BASE, *overrides])
    return {problem.key: problem for problem in caught.value.problems}


def test_what_is_shipped_is_valid() -> None:
    compose(BASE)
    for variant in options("variant"):
        compose([*BASE, f"variant={variant}"])


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("learner.zero_stage=4", "learner.zero_stage"),
        ("learner.optim.lr=0", "learner.optim.lr"),
        ("learner.optim.betas=[0.9]", "learner.optim.betas"),
        ("learner.optim.min_lr_ratio=2", "learner.optim.min_lr_ratio"),
        ("learner.micro_batch_tokens=64", "learner.micro_batch_tokens"),
        ("learner.gpus=1", "learner.gpus"),
        ("rollout.workers=0", "rollout.workers"),
        ("rollout.sampling.temperature=0", "rollout.sampling.temperature"),
        ("rollout.sampling.top_p=0.9", "rollout.sampling.top_p"),
        ("rollout.sampling.top_k=20", "rollout.sampling.top_k"),
        ("rewards.correct.timeout_s=0", "rewards.correct.timeout_s"),
        ("rewards.correct.max_missing=1.5", "rewards.correct.max_missing"),
        ("rewards.correct=null", "rewards"),
        ("frozen.reference.gpus=1", "frozen.reference.gpus"),
        ("frozen.reference.path=/nowhere", "frozen.reference.path"),
        ("model.dtype=float16", "model.dtype"),
        ("model.max_context=1024", "model.max_context"),
        ("rollout.sampling.max_tokens=200", "model.max_context"),
        ("model.path=/nowhere/at/all", "model.path"),
        ("data.path=/nowhere.jsonl", "data.path"),
        ("data.task=", "data.path"),
        ("data.generator._target_=raylign.nothing.X", "data.generator._target_"),
        ("data.format=verll", "data.format"),
        ("data.format=columns", "data.prompt_key"),
        ("data.template=hello", "data.template"),
        ("data.holdout=5000", "data.holdout"),
        ("cluster.strategy=TIGHT", "cluster.strategy"),
        ("cluster.object_store_mb=10", "cluster.object_store_mb"),
        ("telemetry.progress=loud", "telemetry.progress"),
        ("stages.rl.minibatches=3", "stages.rl.minibatches"),
        ("stages.rl.group_size=1", "stages.rl.group_size"),
        ("stages.rl.stepz=3", "stages.rl.stepz"),
        ("advantage.std=median", "advantage.std"),
        ("advantage.stdd=none", "advantage.stdd"),
        ("objective.clip_low=-1", "objective.clip_low"),
        ("objective._target_=os.system", "objective._target_"),
        ("objective._target_=raylign.objectives.loss.policy.Nothing", "objective._target_"),
        ("run.keep_checkpoints=0", "run.keep_checkpoints"),
        ("learner.ranks=999", "stages.rl.prompts_per_step"),
    ],
)
def test_impossible_settings(override: str, key: str) -> None:
    problem = problems_of(override)[key]
    assert problem.why and problem.fix


def test_data_files(tmp_path: Path) -> None:
    for name, content in (("a.csv", "x"), ("empty.jsonl", ""), ("empty.parquet", "")):
        (tmp_path / name).write_text(content)
        assert "data.path" in problems_of(f"data.path={tmp_path / name}")


def test_everything_at_once_from_keys_parts_and_rules() -> None:
    problems = problems_of("sed=1", "advantage.stdd=none", "learner.zero_stage=9", "rollout.workers=0")
    assert {"sed", "advantage.stdd", "learner.zero_stage", "rollout.workers"} <= set(problems)
    assert "advantage.std" in problems["advantage.stdd"].fix or "did you mean std" in problems["advantage.stdd"].fix


def test_model_folders(tmp_path: Path, tiny_model: Path) -> None:
    def why(folder: Path) -> str:
        return problems_of(f"model.path={folder}")["model.path"].why

    assert compose([*BASE, f"model.path={tiny_model}"])
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in why(empty)
    (empty / "config.json").write_text("{")
    assert "cannot be read" in why(empty)
    (empty / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    assert "BertForMaskedLM" in why(empty)
    (empty / "config.json").write_text((tiny_model / "config.json").read_text())
    assert "no weights (model.safetensors" in why(empty)
    (empty / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:5000])
    assert "cut off" in why(empty)


def test_facts_agree_with_the_model(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    from raylign.config.schema import ModelConfig, TinyModel

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    parameters = sum(p.numel() for p in model.parameters())
    facts = model_facts(ModelConfig(path=str(tiny_model)))
    assert (facts.parameters, facts.context, facts.vocab) == (parameters, 256, model.config.vocab_size)
    shape = TinyModel(hidden_size=64, layers=2, heads=2, kv_heads=1, head_dim=32, intermediate_size=128, context=256)
    built = model_facts(ModelConfig(tiny=shape))
    assert (built.parameters, built.vocab, built.kv_bytes(4)) == (parameters, facts.vocab, 2 * 2 * 32 * 4)


@dataclass
class Wanted:
    """Config of a part with a rule of its own."""

    size: int = 3


class Picky(DatasetSource):
    """A part that checks itself against the run."""

    Config = Wanted

    @classmethod
    def problems(cls, key: str, config: Wanted, run: Run) -> list[Problem]:
        if config.size == run.config.seed:
            return []
        return [Problem(key=f"{key}.size", value=str(config.size), why="is not the seed", fix="make it so")]


def test_parts_bring_their_own_rules() -> None:
    mine = ["run.allow_targets=[tests.]", f"source._target_={__name__}.Picky", "data.task=basic_arithmetic"]
    if not __name__.startswith("tests."):
        mine[0] = f"run.allow_targets=[{__name__.split('.')[0]}]"
    assert problems_of(*mine)["source.size"].why == "is not the seed"
    compose([*BASE, *mine, "seed=3"])


def test_every_hidden_choice_is_shown() -> None:
    shown = choices(compose([*BASE, "variant=grpo"]))
    for key in (
        "advantage.std",
        "advantage.epsilon",
        "advantage.whiten",
        "objective",
        "objective.clip_low",
        "objective.clip_high",
        "objective.kl_estimator",
        "objective.kl_coef",
        "objective.aggregation",
        "objective.old_logprob",
        "objective.mismatch.mode",
        "rollout.sampling.temperature",
        "shaper.overlong_buffer",
        "learner.optim.lr",
        "stages.rl.group_size",
    ):
        assert key in shown, key
    text = describe(compose([*BASE, "variant=ppo"]))
    assert "critic.objective.clip" in text and "GAE" in text


def test_real_rows_compose(shared_data: Callable[[str], Path]) -> None:
    compose([*BASE, f"data.path={shared_data('gsm8k/train.jsonl')}"])
