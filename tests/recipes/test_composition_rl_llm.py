"""The composer that asks a language model: its steps and its programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from composition_rl_script import FIRST, REPLIES, SECOND, Scripted, composing, tiny_tokenizer

from raylign.config.compose import compose
from raylign.contracts import RolloutTask, Sampling
from raylign.errors import ConfigError
from raylign.recipes.composition_rl.compose.chain import Chain, CompositionError, Reason, Rejected
from raylign.recipes.composition_rl.compose.drive import Request, RunProgram, compose_now, compose_with
from raylign.recipes.composition_rl.compose.llm import LlmComposer
from raylign.recipes.composition_rl.compose.programs import FAILED, REFUSED
from raylign.recipes.composition_rl.rollout import ComposeRollout
from raylign.records import Prompt


@pytest.fixture(scope="module")
def strategy() -> Iterator[ComposeRollout]:
    made = composing()
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_tokenizer(tmp_path_factory.mktemp("models"))


def scripted(strategy: ComposeRollout, **changed: str) -> tuple[Callable[[Request], str], list[int]]:
    asked: list[int] = []

    def reply(request: Request) -> str:
        if isinstance(request, RunProgram):
            return asyncio.run(strategy.programs.printed(request))
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
    with pytest.raises(ConfigError, match=r"is not a composer that asks no model .* make a set in advance"):
        compose(["recipe=composition_rl", "scale=tiny", composer])


async def test_composing_is_an_episode_of_a_policy(strategy: ComposeRollout, tokenizer: Any) -> None:
    asked = Prompt(
        id="p", messages=(), token_ids=np.array([1], np.int32), meta={"chain": [FIRST.record(), SECOND.record()]}
    )
    task = RolloutTask(prompt=asked, n=1, sampling=Sampling(max_tokens=9), run_seed=1)
    (trajectory,) = [one async for one in strategy.run(task, Scripted(tokenizer))]  # type: ignore[arg-type]
    assert len(trajectory.calls) == 8
    assert Chain.from_record(trajectory.payload["chain"]).answer == "60"
    assert {name for name, value in trajectory.metrics.items() if value} == {"composer/yield"}
    assert len(trajectory.metrics) == 1 + len(Reason)
    (lost,) = [one async for one in strategy.run(task, Scripted(tokenizer, too_long=FIRST.text))]  # type: ignore[arg-type]
    assert lost.payload == {"rejected": "too_long"}
    assert {name for name, value in lost.metrics.items() if value} == {"composer/rejected/too_long"}


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
    printed = asyncio.run(strategy.programs.printed(RunProgram(step=0, code=code)))
    assert printed.startswith(start), printed
