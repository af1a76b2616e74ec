"""A set of chains made by a language model: read by the source, refused in time, and gone on with after a kill."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from composition_rl_script import FIRST, SECOND, Scripted, composing, prompt, tiny_tokenizer

from raylign.config.compose import compose
from raylign.config.schema import Config, ModelConfig, RolloutConfig, RunConfig, SamplingConfig
from raylign.contracts import RolloutTask, Sampling, Scored
from raylign.errors import CheckpointError, ConfigError, DataError
from raylign.recipes.composition_rl import CompositionSource, compose_set
from raylign.recipes.composition_rl.compose_set import ComposeSet
from raylign.recipes.composition_rl.rollout import ComposeRollout
from raylign.recipes.stages.context import StopRequested
from raylign.records import StopReason, Trajectory


@pytest.fixture(scope="module")
def strategy() -> Iterator[ComposeRollout]:
    made = composing()
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_tokenizer(tmp_path_factory.mktemp("models"))


class Killed(Exception):
    """The process ends here."""


class Run:
    """What of a run the stage asks for; the strategy is the real one, its policy is scripted."""

    def __init__(
        self, folder: Path, strategy: ComposeRollout, policy: Scripted, context: int = 8192, lasts: int = 99
    ) -> None:
        """lasts: tasks until the process is killed."""
        self.template = policy.template
        self.prompts = SimpleNamespace(train=[prompt(seed, policy.template) for seed in (FIRST, SECOND)])
        self.folder = SimpleNamespace(stage=lambda name: folder / name)
        self.sampling = Sampling(max_tokens=9)
        rollout = RolloutConfig(max_missing=0.4, sampling=SamplingConfig(max_tokens=9))
        run = RunConfig(save_every=1, keep_checkpoints=1)
        self.cfg = Config(seed=1, rollout=rollout, run=run, model=ModelConfig(max_context=context))
        self.recorder = SimpleNamespace(event=lambda *_, **__: None, flushed=self.flushed)
        self.stop_requested = False
        self.recorded: list[dict[str, float]] = []
        self.asked: list[str] = []
        self._strategy, self._policy, self._lasts = strategy, policy, lasts

    def begin(self, *_: Any) -> None: ...

    def phase(self, *_: Any) -> None: ...

    async def flushed(self) -> None: ...

    def record(self, name: str, step: int, metrics: dict[str, float]) -> None:
        self.recorded.append(metrics)

    async def rollouts(self) -> Run:
        return self

    async def strategy(self) -> None: ...

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """As a worker does it: what the strategy raises costs the sample."""
        for index, task in enumerate(tasks):
            if len(self.asked) == self._lasts:
                raise Killed
            self.asked.append(task.prompt.id)
            try:
                async for made in self._strategy.run(task, self._policy):  # type: ignore[arg-type]
                    yield [Scored(task=index, trajectory=made)]
            except ValueError as error:
                lost = Trajectory(prompt_key=task.prompt.key, sample_index=0, calls=(), seed=0, stop=StopReason.ABORT)
                yield [Scored(task=index, trajectory=lost, error=f"ValueError: {error}")]


def stage() -> Any:
    return ComposeSet(ComposeSet.Config(), "compose")


async def test_a_set_is_made_by_the_stage_and_read_by_the_source(
    strategy: ComposeRollout, tokenizer: Any, tmp_path: Path
) -> None:
    run = Run(tmp_path, strategy, Scripted(tokenizer, too_long=SECOND.text))  # as the first of two it does not fit
    result = await stage().run(run)
    shares = {"composer/asked": 2.0, "composer/yield": 0.5, "composer/rejected/too_long": 0.5}
    assert result.steps == 1 and result.metrics == shares and run.recorded == [shares]
    config = CompositionSource.Config(path=result.artifacts["rows"])
    source = CompositionSource(config, prompts=run.prompts.train, seed=3, tokenizer=tokenizer)
    (asked,) = source.next(1)
    assert asked.meta["composition"]["seeds"] == ["cube", "eggs"] and asked.answer == "60"
    assert asked.messages[0]["content"].startswith("How many faces has a cube? Define $F$ as")


async def test_a_set_whose_samples_fail_is_no_success(strategy: ComposeRollout, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 2 chains, 1 failed: ValueError: the engine broke"):
        await stage().run(Run(tmp_path / "a", strategy, Scripted(tokenizer, broken=SECOND.text)))
    again = Run(tmp_path / "a", strategy, Scripted(tokenizer))
    assert (await stage().run(again)).metrics["composer/yield"] == 1, "what failed is asked for again"
    with pytest.raises(DataError, match=r"0 of 2 chains, 0 failed: too_long 2"):
        await stage().run(Run(tmp_path / "b", strategy, Scripted(tokenizer, too_long="answer")))
    assert not list((tmp_path / "b").rglob("composed.jsonl"))


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_killed_stage_goes_on_and_makes_the_same_set(
    strategy: ComposeRollout, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(compose_set, "BATCH", 1)
    policy = Scripted(tokenizer)
    whole = await stage().run(Run(tmp_path / "whole", strategy, policy))
    first = Run(tmp_path / "again", strategy, policy, lasts=99 if stopped else 1)
    first.stop_requested = stopped
    with pytest.raises(StopRequested if stopped else Killed):
        await stage().run(first)
    second = Run(tmp_path / "again", strategy, policy)
    again = await stage().run(second)
    assert len(first.asked) == len(second.asked) == 1 and {*first.asked, *second.asked} == {"cube+eggs", "eggs+cube"}
    assert Path(again.artifacts["rows"]).read_bytes() == Path(whole.artifacts["rows"]).read_bytes()
    assert (
        (again.steps, again.metrics) == (whole.steps, whole.metrics) == (2, {"composer/asked": 2, "composer/yield": 1})
    )
    other = Run(tmp_path / "again", strategy, policy)
    other.prompts.train.reverse()
    with pytest.raises(CheckpointError, match="other data"):
        await stage().run(other)


async def test_a_context_that_holds_no_question_is_refused_before_the_first_chain(
    strategy: ComposeRollout, tokenizer: Any, tmp_path: Path
) -> None:
    run = Run(tmp_path, strategy, Scripted(tokenizer), context=256)
    with pytest.raises(
        DataError, match=r"model\.max_context = 256.* fix: model\.max_context=(\d+) and model\."
    ) as refused:
        await stage().run(run)
    least, most, enough, own = map(int, re.findall(r"(?:take|to|context=)\s?(\d+)(?!\s\()", str(refused.value)))
    assert least < most and enough == own == most + 9, refused.value
    assert not run.asked and not list(tmp_path.iterdir())
    assert (await stage().run(Run(tmp_path, strategy, Scripted(tokenizer), context=enough))).steps == 1
    with pytest.raises(ValueError, match="depth=1"):
        ComposeSet.Config(depth=1)


def test_a_set_brings_its_strategy_and_a_later_stage_its_own() -> None:
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
    own = "+stages.compose={_target_: raylign.recipes.composition_rl.ComposeSet}"
    learn = "+stages.learn={_target_: raylign.recipes.stages.rl.Rl, steps: 1, prompts_per_step: 2, group_size: 2"
    learn += ", source: {_target_: raylign.recipes.composition_rl.CompositionSource, path: '@compose'}}"
    tiny = ["recipe=composition_rl", "scale=tiny", *others]
    run = compose([*tiny, own, learn])
    assert run.parts["stages.compose.strategy"].cls is ComposeRollout
    assert run.parts["rollout.strategy"].cls is not ComposeRollout, "the policy answers chains as it answers seeds"
    with pytest.raises(ConfigError, match=r"is not a rollout strategy that composes"):
        compose([*tiny, own, "stages.compose.strategy._target_=raylign.actors.rollout.strategies.SingleTurn"])
    with pytest.raises(ConfigError, match=r"stages\.learn\.source\.path = @compose"):
        compose([*tiny, learn, own])
