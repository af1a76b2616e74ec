"""The code that the pages show: the same texts as in tests/examples, and run by their own commands to right values."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import EXAMPLES, PAGES, ROOT, blocks, commands
from test_my_advantage import test_rare_successes_weigh_more
from transformers import AutoTokenizer

from raylign.batch import Batch
from raylign.cli import main
from raylign.config.build import build
from raylign.config.compose import compose, compose_with_problems
from raylign.config.references import references
from raylign.config.resolve import Run
from raylign.contracts import Advantage, Objective, Part, RewardFunction, TokenView
from raylign.data.prompts import load_prompts
from raylign.data.readers import Format, load_rows
from raylign.environment import Environment
from raylign.records import Call, Prompt, StopReason, Trajectory, Value

BASE = ["recipe=grpo", "scale=tiny"]
SHOWN = [block for page in PAGES for block in blocks(page) if block.name]
NOTHING = np.zeros(0, np.int32)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def documented(text: str) -> Run:
    """The run that the first documented ``raylign train`` with `text` in it composes."""
    command = next(c for c in commands() if c.verb == "train" and text in c.rest)
    return compose([word for word in shlex.split(command.rest) if "=" in word or word[0] == "~"])


def prompt(**fields: Any) -> Prompt:
    return Prompt(id="p", messages=({"role": "user", "content": "?"},), token_ids=NOTHING, **fields)


def said(text: str) -> Trajectory:
    none = np.zeros(0, np.float32)
    call = Call(context_ids=NOTHING, token_ids=NOTHING, logprobs=none, versions=NOTHING, stop=StopReason.EOS, text=text)
    return Trajectory(prompt_key="p#0", sample_index=0, calls=(call,), seed=0, stop=StopReason.EOS)


def rows(count: int) -> Batch:
    """One group of rows of one prompt token and two sampled ones."""
    return Batch(
        offsets=np.arange(0, 3 * count + 1, 3),
        prompt_lengths=np.ones(count, np.int32),
        groups=np.zeros(count, np.int32),
        streams={"loss_mask": np.tile([False, True, True], count), "weight": np.ones(3 * count, np.float32)},
    )


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.name)
def test_a_page_shows_the_file(block: Any) -> None:
    assert block.text == (EXAMPLES / block.name).read_text(), f"{block.page} shows another {block.name}"
    assert len(block.text.splitlines()) < 80


def test_every_example_is_shown_once() -> None:
    files = [str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.*") if path.suffix != ".pyc"]
    assert sorted(block.name for block in SHOWN) == sorted(files)


def test_what_the_readme_brings_is_about_a_dozen_lines() -> None:
    lines = {block.name: len(block.text.strip().splitlines()) for block in SHOWN if block.page == ROOT / "README.md"}
    assert set(lines) == {"rows.jsonl", "my_reward.py", "my_environment.py", "my_advantage.py"}
    assert max(lines.values()) <= 30


def test_the_rows(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the README, with a tiny model: prompts as the model reads them, judged by what they ask for."""
    path = EXAMPLES / "rows.jsonl"
    kind, read = load_rows(path)
    assert kind is Format.trl and {row.verifier for row in read} == {"boxed_math"}
    command = next(c for c in commands() if c.verb == "plan" and "rows.jsonl" in c.rest and "--show-prompt" in c.rest)
    words = command.rest.replace("data.path=rows.jsonl", f"data.path={path}").split()
    words = [f"model.path={tiny_model}" if word.startswith("model.path") else word for word in words]
    room = ["model.max_context=256", "data.max_prompt_tokens=128", "rollout.sampling.max_tokens=64"]
    assert main(["plan", "--no-fit", *words, *room]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert any(json.loads(line)["prompt"] in shown for line in path.read_text().splitlines())


def test_the_reward() -> None:
    made = build(RewardFunction, documented("my_reward.close").config.rewards["correct"].fn, "rewards.correct.fn")
    asked = prompt(answer="47")
    scores = [made.score(asked, [said(text)])[0] for text in ("47", "45", "99", "who knows")]
    assert [value.score for value in scores if isinstance(value, Value)] == pytest.approx([1, 0.8, 0, 0])
    assert made.score(prompt(), [said("47")]) == [None], "a prompt without an answer"


@pytest.mark.parametrize("text", ["my_environment.Guess", "guess.GuessNumber"])
def test_the_command_of_an_environment_finds_its_instances(text: str, tiny_model: Path) -> None:
    config = documented(text).config
    prompts = load_prompts(config.data, AutoTokenizer.from_pretrained(tiny_model), 1)
    assert len(prompts.train) + len(prompts.holdout) == config.data.size == 2000
    assert str(prompts.train[0].messages[0]["content"]).startswith("Guess ")


def test_the_environment_is_won_by_halving() -> None:
    node = documented("my_environment.Guess").config.environment.fn
    for game in range(30):
        environment = build(Part, node, "environment.fn")
        assert isinstance(environment, Environment)
        first: Any = environment.reset(prompt(meta={"env_seed": game}), 0)
        assert f"Game {game}" in first.messages[0]["content"] and first.reward is None
        low, high = 1, 9
        while True:
            answer: Any = environment.step(f" {(low + high) // 2}\n")
            if answer.done:
                break
            larger = answer.messages[0]["content"] == "larger"
            low, high = ((low + high) // 2 + 1, high) if larger else (low, (low + high) // 2 - 1)
        assert answer.reward == 1 and answer.flags["success"]
    environment = build(Part, {**node, "turns": 1}, "environment.fn")
    assert isinstance(environment, Environment)
    environment.reset(prompt(meta={"env_seed": 0}), 0)
    lost: Any = environment.step("nonsense")
    assert lost.done and lost.reward == 0


def test_the_formula_of_the_recipe_from_nothing() -> None:
    test_rare_successes_weigh_more()
    run = compose(["recipe=over_mean", "scale=tiny"], str(EXAMPLES / "my_conf"))
    assert [stage.name for stage in run.stages] == ["rl", "after"]
    assert run.parts["advantage"].cls.__name__ == "OverMean" and run.config.advantage["power"] == 0.5
    assert run.stages[0].config.steps == 4, "what it says below at.tiny"


def test_the_recipe_whose_stages_hand_over_artifacts(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1?", "answer": "2", "completion": "2"}\n' * 3)
    base = ["recipe=screened", "scale=tiny", f"data.path={tmp_path}/rows.jsonl"]
    run = compose(base, str(EXAMPLES / "my_conf"))
    found = {(reference.key, reference.value) for reference in references(run)}
    assert found == {("stages.rl.start", "@sft"), ("stages.rl.data", "@kept")}
    problems = compose_with_problems([*base, "~stages.kept"], str(EXAMPLES / "my_conf"))[1]
    assert [problem.key for problem in problems] == ["stages.rl.data"]


@pytest.mark.parametrize(("power", "expected"), [(1.0, [3, -1, -1, -1]), (0.0, [0.75, -0.25, -0.25, -0.25])])
def test_the_advantage(power: float, expected: list[float]) -> None:
    made = build(Advantage, {**documented("my_advantage.OverMean").config.advantage, "power": power}, "advantage")
    batch, _ = made.assign(rows(4), np.array([1, 0, 0, 0], np.float32))
    np.testing.assert_allclose(batch["advantage"].reshape(4, 3), np.outer(expected, [0, 1, 1]))


def test_a_reward_of_a_class_proves_itself() -> None:
    made = build(RewardFunction, documented("my_rewards.Near").config.rewards["near"].fn, "rewards.near.fn")
    asked = prompt(answer="47")
    texts = [made.gold(asked), made.wrong(asked), "45"]
    values = [made.score(asked, [said(str(text))])[0] for text in texts]
    assert [value.score for value in values if value] == pytest.approx([made.maximum, 0, 0.6])


def test_the_objective_pulls_the_ratio_to_its_wall() -> None:
    """l = -r A + |A| (r - 1)^2 / (2 w) is least at r = 1 + w for A > 0, and at 1 - w for A < 0."""
    made = build(Objective, {"_target_": "my_objective.SPO", "width": 0.2}, "objective")
    logprob = torch.log(torch.tensor([1.2, 0.8], dtype=torch.float64)).requires_grad_()
    streams = {
        "sampler_logprob": torch.zeros(2),
        "advantage": torch.tensor([2.0, -3.0]),
        "policy_weight": torch.full((2,), 0.5),
    }
    view = TokenView(streams=streams, segment=torch.zeros(2, dtype=torch.int64), rows=1, logprob=logprob)
    loss = made.terms(view).components["policy"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.5 * (-2.4 + 2 * 0.1 + 2.4 + 3 * 0.1))
    torch.testing.assert_close(logprob.grad, torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("setting", ["stages.rl.minibatches=2", "stages.rl.staleness=1"])
def test_its_attributes_let_it_reuse_batches_and_run_ahead(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = [*BASE, "run.allow_targets=[my_objective.]", "objective={_target_: my_objective.SPO}", setting]
    assert not compose_with_problems(run)[1]
    import my_objective

    monkeypatch.setattr(my_objective.SPO, "reuses_batches", False)
    monkeypatch.setattr(my_objective.SPO, "corrects_staleness", False)
    assert compose_with_problems(run)[1], "an objective that does not say so is refused"
