"""A stage that trains a model beside the policy leaves the policy as it was, and reads pairs in that model's words."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stage_run import FakeRun, lines
from transformers import PreTrainedTokenizerFast

from raylign.contracts import MODEL, REWARD_MODEL, Stage, StageResult, StageSettings
from raylign.data.pairs import Truncation
from raylign.errors import ConfigError
from raylign.recipes.checks import check
from raylign.recipes.stage_order import run_stages
from raylign.recipes.stages.reading import Reading
from raylign.testing import tiny_run

HERE = "test_beside_the_policy"


class Beside(Stage):
    """Starts from a model of its own."""

    of_policy = False
    Config = StageSettings

    @classmethod
    def roles(cls, config: Any) -> frozenset[str]:
        return frozenset()

    @classmethod
    def leaves(cls, config: Any) -> tuple[str, ...]:
        return (REWARD_MODEL,)

    async def run(self, context: Any) -> StageResult:
        return StageResult(steps=1, artifacts={REWARD_MODEL: "beside"}, metrics={"began": len(context.lineage.model)})


class Sampling(Beside):
    """Samples the policy, from the engines that are there when it begins."""

    of_policy = True

    @dataclass
    class Config(StageSettings):
        """Nothing to set."""

    @classmethod
    def roles(cls, config: Any) -> frozenset[str]:
        return frozenset({"rollout"})

    @classmethod
    def leaves(cls, config: Any) -> tuple[str, ...]:
        return ()

    publishes = True

    async def run(self, context: Any) -> StageResult:
        return StageResult(steps=1, metrics={"began": len(context.lineage.model)})


async def test_later_stages_start_from_the_policy_and_engines_hold_it(
    tmp_path: Path, data: str, tiny_model: Path
) -> None:
    started: list[str] = []
    stages = [
        f"+stages.rm={{_target_: {HERE}.Beside, start: '{tiny_model}'}}",
        f"+stages.last={{_target_: {HERE}.Sampling}}",
    ]
    for _ in range(2):  # the second run finds the first stage finished
        context = FakeRun(tmp_path / "run", data, f"run.allow_targets=[{HERE}.]", *stages, rewards={})
        context.roles.engines.start_ahead = started.append
        ended = await run_stages(context)
        begun = {name: context.folder.stage_result(name).metrics["began"] for name in ("rm", "last")}  # type: ignore[union-attr]
        assert begun == {"rm": len(str(tiny_model)), "last": len("the-start")}
        assert ended["model"] == "the-start"
        shutil.rmtree(context.folder.stage("last"))
        (tmp_path / "run" / "finished.json").unlink(missing_ok=True)
    assert set(started) == {"the-start"}
    kinds = [line["model"] for line in lines(tmp_path / "run" / "events.jsonl") if line["kind"] == "stage_started"]
    assert kinds[0] == str(tiny_model) and set(kinds[1:]) == {"the-start"}


def test_pairs_are_read_in_the_words_of_the_model_that_is_trained(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{"prompt": f"p{n}", "chosen": "c", "rejected": "r", "tie": n == 0} for n in range(6)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    run = tiny_run(f"model.path={tiny_model}", f"data.path={file}", "data.holdout=1")
    reading, same = Reading(run), shutil.copytree(tiny_model, tmp_path / "same")
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(other)
    tokenizer.chat_template = "{% for m in messages %}<|{{ m.role }}|>:{{ m.content }}<|end|>{% endfor %}" + (
        "{% if add_generation_prompt %}<|assistant|>:{% endif %}"
    )
    tokenizer.save_pretrained(other)
    assert reading.template_of(str(same)) is reading.template

    def read(model: str) -> list[int]:
        pairs = reading.pairs(run.config.data, 64, Truncation.drop, ties=True, model=model)
        assert sum(pair.tie for pair in (*pairs.train, *pairs.holdout)) == 1
        first = min(pairs.train, key=lambda pair: str(pair.prompt.messages))
        return [*first.prompt.token_ids.tolist(), *first.chosen.tolist()]

    mine, copied, theirs = read(""), read(str(same)), read(str(other))
    assert mine == copied and len(theirs) == len(mine) + 2
    assert reading.template_of(str(other)).codec.decode(theirs).endswith("<|assistant|>:c<|end|>")


class Distilled(Sampling):
    """Makes a model, and tells nobody but by its result."""

    @classmethod
    def leaves(cls, config: Any) -> tuple[str, ...]:
        return (MODEL,)

    async def run(self, context: Any) -> StageResult:
        model = str(context.folder.stage(self.name) / "model")
        return StageResult(steps=1, artifacts={MODEL: model}, metrics={"began": len(context.lineage.model)})


async def test_a_model_of_a_result_is_the_next_stages_start_whether_resumed_or_not(tmp_path: Path, data: str) -> None:
    kinds = (("made", "Distilled"), ("last", "Sampling"))
    stages = [f"+stages.{name}={{_target_: {HERE}.{kind}}}" for name, kind in kinds]
    for _ in range(2):
        context = FakeRun(tmp_path / "run", data, f"run.allow_targets=[{HERE}.]", *stages, rewards={})
        ended = await run_stages(context)
        model = str(context.folder.stage("made") / "model")
        last = context.folder.stage_result("last")
        assert ended["model"] == model and last is not None and last.metrics["began"] == len(model)
        shutil.rmtree(context.folder.stage("last"))
        (tmp_path / "run" / "finished.json").unlink(missing_ok=True)


CHANGES = {
    "chat_template.jinja": lambda text: f"{text}!",
    "generation_config.json": lambda text: '{"eos_token_id": [5]}',
    "tokenizer.json": lambda text: text.replace('"a"', '"another"'),
}


@pytest.mark.parametrize("file", CHANGES)
def test_a_start_that_reads_otherwise_is_refused(file: str, tmp_path: Path, data: str, tiny_model: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    warm = f"+stages.warm={{_target_: raylign.recipes.stages.evaluate.Evaluate, start: '{other}'}}"
    named = [f"model.path={tiny_model}", data, warm]
    check(tiny_run(*named), made=8)
    (other / file).write_text(CHANGES[file]((other / file).read_text()))
    with pytest.raises(ConfigError, match=r"stages\.warm\.start = .*other.*(template|vocabulary)"):
        check(tiny_run(*named), made=8)
