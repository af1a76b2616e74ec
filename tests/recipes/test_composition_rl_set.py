"""A set of chains made by a language model: read by the source and as rows, refused in time, resumed after a kill."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
import stage_run
from composition_rl_script import FIRST, SECOND, Scripted, composing
from stage_run import FakeRun, lines

from raylign.config.compose import compose
from raylign.config.schema import DataConfig
from raylign.contracts import RolloutTask, Scored, StageResult
from raylign.data.prompts import load_prompts
from raylign.errors import CheckpointError, ConfigError, DataError, RewardError
from raylign.recipes import stage_order
from raylign.recipes.checks import check
from raylign.recipes.composition_rl import ChainsToCompose, CompositionSource
from raylign.recipes.composition_rl.compose.chain import Chain, seed_problem
from raylign.recipes.composition_rl.compose.surrogate import Slots, SurrogateSet
from raylign.recipes.composition_rl.rollout import ComposeRollout
from raylign.recipes.stage_order import run_stages
from raylign.recipes.stages.context import StopRequested
from raylign.records import StopReason, Trajectory
from raylign.testing import prompt, tiny_run

HERE = "raylign.recipes.composition_rl"
PARTS = {"view": "ChainsToCompose", "strategy": "ComposeRollout", "keep": "ComposedChains"}
OTHERS = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
TINY = ["recipe=composition_rl", "scale=tiny"]


def stage(**parts: str) -> list[str]:
    """The overrides of the stage; parts: settings of one, or - to leave it out."""
    generate = "stages.compose={_target_: raylign.recipes.stages.generate.Generate, weights: {}}"
    brought = {name: cls for name, cls in PARTS.items() if parts.get(name) != "-"}
    nodes = {name: f"_target_: {HERE}.{cls}{parts.get(name, '')}" for name, cls in brought.items()}
    return [generate, *(f"stages.compose.{name}={{{node}}}" for name, node in nodes.items())]


@pytest.fixture(scope="module")
def strategy() -> Iterator[ComposeRollout]:
    made = composing()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_run.MODEL, "path", str(tiny_model))
    monkeypatch.setattr(stage_order, "dump_stacks", lambda: [])  # a signal to Ray's processes, and there are none


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """The file of the two seeds."""
    return written(tmp_path / "seeds.jsonl", FIRST, SECOND)


def written(path: Path, *seeds: Any) -> Path:
    rows = [{"prompt": seed.text, "answer": seed.answer, "domain": seed.domain, "target": "no"} for seed in seeds]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


class Killed(Exception):
    """The process ends here."""


class Engines:
    """A rollout pool whose strategy is the real one, over a scripted policy. lasts: tasks until the process is killed.

    too_long, broken: a problem about which no question fits, or is answered.
    """

    def __init__(self, strategy: ComposeRollout, lasts: int = 99, **scripted: str) -> None:
        self.asked: list[str] = []
        self._strategy, self._lasts, self._scripted = strategy, lasts, scripted
        self.template: Any = None

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """As a worker does it: what the strategy raises costs the sample."""
        policy: Any = Scripted(self.template.tokenizer, **self._scripted)
        for index, task in enumerate(tasks):
            if len(self.asked) == self._lasts:
                raise Killed
            assert task.strategy and task.strategy.node["_target_"] == f"{HERE}.ComposeRollout"
            self.asked.append(task.prompt.meta["chain"][0]["question"])
            try:
                async for made in self._strategy.run(task, policy):
                    yield [Scored(task=index, trajectory=made)]
            except ValueError as error:
                lost = Trajectory(prompt_key=task.prompt.key, sample_index=0, calls=(), seed=0, stop=StopReason.ABORT)
                yield [Scored(task=index, trajectory=lost, error=f"ValueError: {error}")]


def run_of(
    folder: Path, seeds: Path, engines: Engines, *overrides: str, context: int = 8192, stop_after: int = 0
) -> Any:
    settings = [
        f"data.path={seeds}",
        "data.domain_key=domain",
        "data.holdout=0",
        "rollout.max_missing=0.4",
        "rollout.sampling.max_tokens=9",
    ]
    room = [f"model.max_context={context}", f"model.tiny.context={context}", "data.max_prompt_tokens=200"]
    given = [*TINY, *settings, *room, *stage(), *overrides]
    run = FakeRun(folder, *given, rewards={}, rollouts=engines, stop_after=stop_after)
    engines.template = run.template
    run.roles.environment = no_environment
    return run


async def no_environment(*_: Any) -> None:
    """Composing acts in none."""


async def made_in(
    folder: Path, seeds: Path, engines: Engines, *overrides: str, **given: Any
) -> tuple[Any, StageResult]:
    run = run_of(folder, seeds, engines, *overrides, **given)
    await run_stages(run)
    result = run.folder.stage_result("compose")
    assert result is not None
    return run, result


async def test_a_set_is_made_by_the_stage_and_read_by_the_source_and_as_rows(
    strategy: ComposeRollout, seeds: Path, tmp_path: Path
) -> None:
    engines = Engines(strategy, too_long=SECOND.text)  # as the first of two it does not fit
    run, result = await made_in(tmp_path / "run", seeds, engines)
    (step,) = lines(tmp_path / "run/metrics.jsonl")
    for metrics in (result.metrics, step):
        shares = {name: value for name, value in metrics.items() if name.startswith("composer/")}
        assert {name: share for name, share in shares.items() if share} == {
            "composer/yield": 0.5,
            "composer/rejected/too_long": 0.5,
        }
        assert metrics["generate/prompts"] == 2 and metrics["generate/kept"] == 0.5 and result.steps == 1
    source = CompositionSource(
        CompositionSource.Config(path=result.artifacts["rows"]),
        prompts=run.unviewed.train,
        seed=3,
        tokenizer=run.template,
    )
    (asked,) = source.next(1)
    names = {asked.answer: asked.id for asked in run.unviewed.train}
    assert asked.meta["composition"]["seeds"] == [names["6"], names["60"]] and asked.answer == "60"
    assert asked.messages[0]["content"].startswith("How many faces has a cube? Define $F$ as")
    (row,) = lines(result.artifacts["rows"])
    assert row["meta"]["generated"]["from"] == "sample" and "target" not in row, "the seed's target is not the chain's"
    (read,) = load_prompts(DataConfig(path=result.artifacts["rows"], holdout=0), run.template, 1).train
    assert read.messages == asked.messages and (read.answer, read.domain) == ("60", "math"), "as rows of any recipe"
    assert read.meta["verifier"] == asked.meta["verifier"] and Chain.from_record(read.meta["chain"]).depth == 2


async def test_a_set_whose_samples_fail_is_no_success(strategy: ComposeRollout, seeds: Path, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"the sample failed for 1 of 2 .*limit 40%.*ValueError: the engine broke"):
        await made_in(tmp_path / "a", seeds, Engines(strategy, broken=SECOND.text))
    _, again = await made_in(tmp_path / "a", seeds, Engines(strategy))
    assert again.metrics["composer/yield"] == 1, "what failed is asked for again"
    with pytest.raises(DataError, match=r"keeps nothing of 2 prompts \(2 samples, .*composer/rejected/too_long 1\)"):
        await made_in(tmp_path / "b", seeds, Engines(strategy, too_long="answer"))


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_killed_stage_goes_on_and_makes_the_same_set(
    strategy: ComposeRollout, seeds: Path, tmp_path: Path, stopped: bool
) -> None:
    one = "stages.compose.batch_prompts=1"
    _, whole = await made_in(tmp_path / "whole", seeds, Engines(strategy), one)
    first, second = Engines(strategy, lasts=99 if stopped else 1), Engines(strategy)
    with pytest.raises(StopRequested if stopped else Killed):
        await made_in(tmp_path / "again", seeds, first, one, stop_after=int(stopped))
    if stopped:
        written(seeds, SECOND, FIRST)
        with pytest.raises(CheckpointError, match="other data"):
            await made_in(tmp_path / "again", seeds, second, one)
        written(seeds, FIRST, SECOND)
    _, again = await made_in(tmp_path / "again", seeds, second, one)
    assert len(first.asked) == len(second.asked) == 1 and {*first.asked, *second.asked} == {FIRST.text, SECOND.text}
    assert Path(again.artifacts["rows"]).read_bytes() == Path(whole.artifacts["rows"]).read_bytes()
    assert (again.steps, again.metrics) == (whole.steps, whole.metrics)
    assert again.steps == again.metrics["generate/rows"] == 2 and again.metrics["composer/yield"] == 1


async def test_a_context_that_holds_no_question_is_refused_before_the_first_chain(
    strategy: ComposeRollout, seeds: Path, tmp_path: Path
) -> None:
    engines = Engines(strategy)
    words = r"model\.max_context = 256: the questions of stages\.compose .* fix: model\.max_context=(\d+) and model\."
    with pytest.raises(DataError, match=words) as refused:
        await made_in(tmp_path / "a", seeds, engines, context=256)
    least, most, enough, own = map(int, re.findall(r"(?:take|to|context=)\s?(\d+)(?!\s\()", str(refused.value)))
    assert least < most and enough == own == most + 9, refused.value
    assert not engines.asked
    _, result = await made_in(tmp_path / "b", seeds, engines, context=enough)
    assert result.steps == 1
    with pytest.raises(DataError, match=rf"reply up to 20 \(stages\.compose\.sampling\.max_tokens\).*={most + 20} and"):
        await made_in(tmp_path / "c", seeds, engines, "stages.compose.sampling={max_tokens: 20}", context=256)
    with pytest.raises(ValueError, match="depth=1"):
        ChainsToCompose.Config(depth=1)


def test_it_is_refused_where_the_run_is_opened_or_planned(seeds: Path, tiny_model: Path, tmp_path: Path) -> None:
    room = [f"model.path={tiny_model}", "model.max_context=256", "data.max_prompt_tokens=200"]
    run = tiny_run(
        *TINY, *OTHERS, *room, f"data.path={seeds}", "data.holdout=0", f"run.dir={tmp_path / 'run'}", *stage()
    )
    with pytest.raises(DataError, match=r"and a model\.path that has them \(this one: 256\)"):
        check(run)


def test_a_plan_reads_all_rows_of_which_a_view_chooses(tiny_model: Path, tmp_path: Path) -> None:
    room = [f"model.path={tiny_model}", "model.max_context=256"]
    run = tiny_run(*TINY, *OTHERS, *room, f"run.dir={tmp_path / 'run'}", *stage(view=", first_size: 70"))
    with pytest.raises(DataError, match=r"questions of stages\.compose"):  # and not for want of 70 seeds among 64 rows
        check(run, made=64)


def view(**config: Any) -> ChainsToCompose:
    def ids(messages: Any) -> list[int]:
        return [0] * len(messages[-1]["content"])

    template: Any = SimpleNamespace(prompt_ids=ids)
    return ChainsToCompose(ChainsToCompose.Config(**config), tokenizer=template, seed=1)


def test_prompts_are_the_chains_of_the_surrogate_set() -> None:
    named: dict[str, Any] = {"meta": {"verifier": "v"}, "token_ids": np.arange(9)}
    asked = [prompt(number, f"{number} + 1?", domain="ab"[number % 2], **named) for number in range(12)]
    seeds = [seed_problem(one.messages[0]["content"], one.answer, one.id, one.domain) for one in asked]
    settings: dict[str, Any] = {"candidates": 2, "slots": Slots.product, "seed": 1}
    chains = SurrogateSet(seeds[0::2], seeds[1::2], 3, **settings)
    made = view(depth=3, candidates=2, first_domain="a", last_domain="b").prompts(asked)
    assert len(made) == len(chains) == 6 * 2**2
    for number, composed in enumerate(made):
        records = [seed.record() for seed in chains.chain(number)]
        assert composed.meta == {"verifier": "v", "chain": records} and composed.domain == "b"
        assert composed.id == "+".join(record["seeds"][0] for record in records)
        assert composed.messages[0]["content"] == records[-1]["question"] and composed.answer == records[-1]["answer"]
    with pytest.raises(DataError, match="ChainsToCompose: 13 first seeds are asked for and there are 12"):
        view(first_size=13).prompts(asked)
    least, most = view().questions([*asked, prompt(99, "9" * 500, token_ids=np.arange(500))])
    assert view().questions(asked) == (least, least) and most > least + 400, "by the longest, too"


def test_a_set_brings_its_strategy_and_a_later_stage_its_own() -> None:
    learn = "+stages.learn={_target_: raylign.recipes.stages.rl.Rl, steps: 1, prompts_per_step: 2, group_size: 2"
    learn += f", source: {{_target_: {HERE}.CompositionSource, path: '@compose'}}}}"
    run = compose([*TINY, *OTHERS, *stage(), learn])
    assert run.parts["stages.compose.strategy"].cls is ComposeRollout
    assert run.parts["rollout.strategy"].cls is not ComposeRollout, "the policy answers chains as it answers seeds"
    with pytest.raises(ConfigError, match=r"stages\.learn\.source\.path = @compose"):
        compose([*TINY, *OTHERS, learn, *stage()])


@pytest.mark.parametrize("absent", PARTS)
def test_a_part_of_composing_without_the_others_is_refused(absent: str) -> None:
    with pytest.raises(ConfigError, match=rf"stages\.compose\.{absent} = \w+: .*together\s+fix: set .*{PARTS[absent]}"):
        compose([*TINY, *OTHERS, *stage(**{absent: "-"})])
    single = "stages.compose.strategy._target_=raylign.actors.rollout.strategies.SingleTurn"
    with pytest.raises(ConfigError, match=r"stages\.compose\.strategy = SingleTurn: composing takes"):
        compose([*TINY, *OTHERS, *stage(), single])
