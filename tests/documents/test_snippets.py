"""The parts of one's own that README.md shows: the same texts, with right values, and refused where they must be."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from raylign.batch import Batch
from raylign.config.build import build
from raylign.config.compose import compose, compose_with_problems
from raylign.contracts import Advantage, Objective, RewardFunction, TokenView
from raylign.records import Prompt

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests" / "examples"
BASE = ["recipe=grpo", "scale=tiny"]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def rows(count: int) -> Batch:
    """One group of rows of one prompt token and two sampled ones."""
    return Batch(
        offsets=np.arange(0, 3 * count + 1, 3),
        prompt_lengths=np.ones(count, np.int32),
        groups=np.zeros(count, np.int32),
        streams={"loss_mask": np.tile([False, True, True], count), "weight": np.ones(3 * count, np.float32)},
    )


@pytest.mark.parametrize("path", [path for path in EXAMPLES.rglob("*.*") if path.suffix in (".py", ".yaml")], ids=str)
def test_the_readme_shows_these_files(path: Path) -> None:
    shown = textwrap.indent(path.read_text(), "    ", lambda line: bool(line.strip()))
    assert shown in (ROOT / "README.md").read_text(), f"README.md shows another {path.name}"


@pytest.mark.parametrize(("power", "expected"), [(1.0, [3, -1, -1, -1]), (0.0, [0.75, -0.25, -0.25, -0.25])])
def test_the_advantage(power: float, expected: list[float]) -> None:
    run = ["variant=over_mean", f"advantage.power={power}"]
    made = build(Advantage, compose([*BASE, *run], str(EXAMPLES / "conf")).config.advantage, "advantage")
    batch, _ = made.assign(rows(4), np.array([1, 0, 0, 0], np.float32))
    np.testing.assert_allclose(batch["advantage"].reshape(4, 3), np.outer(expected, [0, 1, 1]))


def test_the_reward_proves_itself() -> None:
    made = build(RewardFunction, {"_target_": "my_rewards.Near"}, "rewards.near.fn")
    prompt = Prompt(id="p", messages=(), token_ids=np.zeros(0, np.int32), answer="47")
    assert made._near(made.gold(prompt), "47") == made.maximum and made._near(made.wrong(prompt), "47") == 0  # type: ignore
    assert made._near("45", "47") == pytest.approx(0.8)  # type: ignore[attr-defined]


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
