"""The composer that asks a language model: its steps, its programs, and a set that the source reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raylign.chat.template import ChatTemplate
from raylign.config.build import build
from raylign.config.compose import compose
from raylign.contracts import Completion, RolloutStrategy, RolloutTask, Sampling, Scored
from raylign.errors import ConfigError, DataError, RequestError
from raylign.models.tiny import build_tiny_model
from raylign.recipes.composition_rl import CompositionSource
from raylign.recipes.composition_rl.compose.chain import Chain, CompositionError, Reason, Rejected, seed_problem
from raylign.recipes.composition_rl.compose.drive import Request, RunProgram, compose_now, compose_with
from raylign.recipes.composition_rl.compose.llm import LlmComposer
from raylign.recipes.composition_rl.compose.programs import FAILED, REFUSED
from raylign.recipes.composition_rl.compose_set import ComposeSet
from raylign.recipes.composition_rl.rollout import ComposeRollout
from raylign.records import Prompt, StopReason, Trajectory

FIRST = seed_problem("How many faces has a cube?", "6", "cube", "math")
SECOND = seed_problem("A box holds $12$ eggs. How many do $5$ boxes hold?", "60", "eggs", "math")
REPLIES = {
    0: "<analysis>a</analysis><value>6</value><definition>Define VALUE_ONE as the number of faces.</definition>",
    1: "It is \\boxed{6}.",
    3: "<analysis>a</analysis><value>5</value><definition>Define VALUE_TWO as the boxes.</definition>"
    "<modified>A box holds $12$ eggs. How many do $VALUE_TWO$ boxes hold?</modified>",
    4: "\\boxed{ 5 }",
    6: "```python\nimport sympy\nprint(sympy.latex(sympy.Integer(5) - sympy.Integer(6)))\n```",
    7: "```python\nfrom sympy import Integer, latex\nprint(latex(Integer(6) + Integer(-1)))\n```",
    9: "<symbol1>F</symbol1><symbol2>$B$</symbol2>",
    10: "<analysis>none</analysis><verdict>no</verdict>",
}


@pytest.fixture(scope="module")
def strategy() -> Iterator[ComposeRollout]:
    node = {"_target_": "raylign.recipes.composition_rl.ComposeRollout", "timeout_s": 3.0}
    made = build(
        RolloutStrategy, node, "rollout.strategy", environments=None
    )  # as `RolloutWorker` makes every strategy
    assert isinstance(made, ComposeRollout)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    from raylign.config.schema import TinyModel

    shape = TinyModel(hidden_size=16, layers=1, heads=1, kv_heads=1, head_dim=16, intermediate_size=16, context=256)
    return AutoTokenizer.from_pretrained(build_tiny_model(shape, tmp_path_factory.mktemp("models")))


def scripted(strategy: ComposeRollout, **changed: str) -> tuple[Callable[[Request], str], list[int]]:
    asked: list[int] = []

    def reply(request: Request) -> str:
        if isinstance(request, RunProgram):
            return asyncio.run(strategy.printed(request))
        asked.append(request.step)
        text = changed.get(f"s{request.step}_{request.attempt}", changed.get(f"s{request.step}"))
        return REPLIES[request.step] if text is None else text

    return reply, asked


def llm() -> LlmComposer:
    return LlmComposer(LlmComposer.Config())


def test_eleven_steps_make_a_chain(strategy: ComposeRollout) -> None:
    reply, asked = scripted(strategy)
    chain = compose_with(llm(), FIRST, SECOND, reply)
    assert isinstance(chain, Chain) and asked == [0, 1, 3, 4, 6, 7, 9, 10], "equal strings need no program"
    assert chain.text == (
        "How many faces has a cube? Define $F$ as the number of faces.\n$B$ is $-1$ more than $F$.\n"
        "A box holds $12$ eggs. How many do $B$ boxes hold?"
    )
    assert chain.answer == "60" and chain.seeds == ("cube", "eggs") and Chain.from_record(chain.record()) == chain


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"s0": "nothing tagged"}, Reason.TAGS_MISSING),
        ({"s0": REPLIES[0].replace("<value>6<", "<value>None<")}, Reason.VALUE_NONE),
        ({"s0": REPLIES[0].replace("faces.", "faces, 6.")}, Reason.LEAK),
        ({"s1": "\\boxed{7}", "s2": "```python\nprint(6 == 7)\n```"}, Reason.V1_NOT_RECOVERED),
        ({"s3": REPLIES[3].replace("A box holds $12$ eggs. ", "")}, Reason.SHORTENED),
        ({"s4": "\\boxed{12}", "s5": "```python\nprint(5 == 12)\n```"}, Reason.V2_NOT_RECOVERED),
        ({"s6": "```python\nimport os\nprint(os.getcwd())\n```"}, Reason.PROGRAM_REFUSED),
        ({"s6": "```python\nprint(1 / 0)\n```"}, Reason.PROGRAM_FAILED),
        ({"s7": "```python\nprint(11)\n```", "s8": "```python\nprint(5 == 11)\n```"}, Reason.LINK_WRONG),
        ({"s9": "<symbol1>F</symbol1><symbol2>F</symbol2>"}, Reason.SYMBOL_CLASH),
        ({"s10": "<verdict>yes</verdict>"}, Reason.SYMBOL_CLASH),
    ],
)
def test_each_failed_step_drops_the_pair_with_its_reason(
    strategy: ComposeRollout, changed: dict[str, str], reason: Reason
) -> None:
    composed = compose_with(llm(), FIRST, SECOND, scripted(strategy, **changed)[0])
    assert isinstance(composed, Rejected) and composed.reason is reason, composed


def test_failed_program_is_asked_for_again(strategy: ComposeRollout) -> None:
    reply, asked = scripted(strategy, s6_0="```python\nprint(1/0)\n```", s6_1="no program at all, sorry (")
    assert isinstance(compose_with(llm(), FIRST, SECOND, reply), Chain)
    assert asked.count(6) == 3


def test_composer_that_asks_cannot_run_in_the_controller() -> None:
    with pytest.raises(CompositionError, match="asks a language model"):
        compose_now(llm(), FIRST, SECOND)
    composer = "source.composer={_target_: raylign.recipes.composition_rl.compose.llm.LlmComposer}"
    with pytest.raises(ConfigError, match=r"is not a composer that asks no model .* the stage ComposeSet"):
        compose(["recipe=composition_rl", "scale=tiny", composer])


MARKS = ("Derive one", "Work out", "", "Choose one", "Compare a", "", "prints B - A", "the value of", "", "Propose")
SHARED = "use the same"  # of the last step


class Scripted:
    """A policy that recognises each question by its first words, and has no room for those about some problem."""

    def __init__(self, tokenizer: Any, too_long: str = "\0", broken: str = "\0") -> None:
        self.template = ChatTemplate(tokenizer)
        self.too_long, self.broken = too_long, broken

    async def generate(self, token_ids: Sequence[int], sampling: Sampling, seed: int) -> Completion:
        text = self.template.tokenizer.decode(token_ids)
        if "Derive one" in text and self.too_long in text:
            raise RequestError("the prompt has 900 tokens; with a context of 512 at most 511 fit")
        if "Derive one" in text and self.broken in text:
            raise ValueError("the engine broke")
        step = next(number for number, mark in enumerate((*MARKS, SHARED)) if mark and mark in text)
        ids = np.array([1], np.int32)
        return Completion(
            token_ids=ids,
            logprobs=np.zeros(1, np.float32),
            versions=ids * 0,
            stop=StopReason.EOS,
            text=REPLIES[step],
        )


async def test_composing_is_an_episode_of_a_policy(strategy: ComposeRollout, tokenizer: Any) -> None:
    asked = Prompt(
        id="p", messages=(), token_ids=np.array([1], np.int32), meta={"chain": [FIRST.record(), SECOND.record()]}
    )
    task = RolloutTask(prompt=asked, n=1, sampling=Sampling(max_tokens=9), run_seed=1)
    (trajectory,) = [one async for one in strategy.run(task, Scripted(tokenizer))]  # type: ignore[arg-type]
    assert len(trajectory.calls) == 8
    assert Chain.from_record(trajectory.payload["chain"]).answer == "60"


class Run:
    """What of a run the stage asks for; the strategy is the real one, its policy is scripted."""

    def __init__(self, folder: Path, strategy: ComposeRollout, policy: Scripted) -> None:
        self.template = policy.template
        self.prompts = SimpleNamespace(train=[prompt(seed, policy.template) for seed in (FIRST, SECOND)])
        self.folder = SimpleNamespace(stage=lambda name: folder / name)
        self.sampling = Sampling(max_tokens=9)
        self.cfg = SimpleNamespace(seed=1, rollout=SimpleNamespace(max_missing=0.4))
        self.recorded: list[dict[str, float]] = []
        self._strategy, self._policy = strategy, policy

    def begin(self, *_: Any) -> None: ...

    def record(self, name: str, step: int, metrics: dict[str, float]) -> None:
        self.recorded.append(metrics)

    async def rollouts(self) -> Run:
        return self

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """As a worker does it: what the strategy raises costs the sample."""
        for index, task in enumerate(tasks):
            try:
                async for made in self._strategy.run(task, self._policy):  # type: ignore[arg-type]
                    yield [Scored(task=index, trajectory=made)]
            except ValueError as error:
                lost = Trajectory(prompt_key=task.prompt.key, sample_index=0, calls=(), seed=0, stop=StopReason.ABORT)
                yield [Scored(task=index, trajectory=lost, error=f"ValueError: {error}")]


def prompt(seed: Chain, template: ChatTemplate) -> Prompt:
    messages = ({"role": "user", "content": seed.text},)
    ids = np.asarray(template.prompt_ids(messages), np.int32)
    return Prompt(id=seed.id, messages=messages, token_ids=ids, answer=seed.answer, domain=seed.domain)


async def test_a_set_is_made_by_the_stage_and_read_by_the_source(
    strategy: ComposeRollout, tokenizer: Any, tmp_path: Path
) -> None:
    run = Run(tmp_path, strategy, Scripted(tokenizer, too_long=SECOND.text))  # as the first of two it does not fit
    stage = ComposeSet(ComposeSet.Config(), "compose")
    result = await stage.run(run)  # type: ignore[arg-type]
    shares = {"composer/asked": 2.0, "composer/yield": 0.5, "composer/rejected/too_long": 0.5}
    assert result.steps == 1 and result.metrics == shares and run.recorded == [shares]
    config = CompositionSource.Config(path=result.artifacts["rows"])
    source = CompositionSource(config, prompts=run.prompts.train, seed=3, tokenizer=tokenizer)
    (asked,) = source.next(1)
    assert asked.meta["composition"]["seeds"] == ["cube", "eggs"] and asked.answer == "60"
    assert asked.messages[0]["content"].startswith("How many faces has a cube? Define $F$ as")


async def test_a_set_whose_samples_fail_is_no_success(strategy: ComposeRollout, tokenizer: Any, tmp_path: Path) -> None:
    stage = ComposeSet(ComposeSet.Config(), "compose")
    with pytest.raises(DataError, match=r"1 of 2 chains, 1 failed: ValueError: the engine broke"):
        await stage.run(Run(tmp_path, strategy, Scripted(tokenizer, broken=SECOND.text)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"0 of 2 chains, 0 failed: too_long 2"):
        await stage.run(Run(tmp_path, strategy, Scripted(tokenizer, too_long="answer")))  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_set_needs_the_strategy_that_composes() -> None:
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
    stage = "+stages.compose={_target_: raylign.recipes.composition_rl.ComposeSet}"
    strategy = "rollout.strategy={_target_: raylign.recipes.composition_rl.ComposeRollout}"
    tiny = ["recipe=composition_rl", "scale=tiny", *others, stage]
    assert list(compose([*tiny, strategy]).config.stages) == ["compose"]
    with pytest.raises(ConfigError, match=r"set rollout\.strategy=.*ComposeRollout"):
        compose(tiny)


@pytest.mark.parametrize(
    ("code", "start"),
    [
        ("print(sympy.Rational(1, 3))", FAILED),
        ("import sympy\nprint(sympy.Rational(1, 3))", "1/3"),
        ("while True: pass", f"{FAILED}timeout"),
        ("x = 1", f"{FAILED}it printed nothing"),
        ("import os", REFUSED),
        ("print((1).__class__)", REFUSED),
        ("open('/etc/passwd')", REFUSED),
        ("from sympy import sympify\nprint(sympify('1'))", REFUSED),
        ("x = [0] * 10**12", FAILED),
        ("def", REFUSED),
        ("-" * 100_000 + "1", REFUSED),
        ("a." * 100_000 + "b", REFUSED),
    ],
)
def test_a_program_prints_fails_or_is_refused(strategy: ComposeRollout, code: str, start: str) -> None:
    printed = asyncio.run(strategy.printed(RunProgram(step=0, code=code)))
    assert printed.startswith(start), printed
