"""What the recipe's file shows is what the recipe runs, and each formula stands in the class that the file names."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from raylign.config.compose import compose, options
from raylign.objectives.advantage.base import GroupAdvantage
from raylign.objectives.loss.base import PolicyLoss
from raylign.recipes import grpo


@pytest.mark.parametrize("overrides", [[], ["variant=grpo"], ["variant=dapo"]])
def test_the_advantage_and_the_loss_of_the_card_are_those_that_run(overrides: list[str]) -> None:
    parts = compose(["recipe=grpo", "scale=tiny", *overrides]).parts
    assert parts["advantage"].cls is grpo.ADVANTAGE
    assert parts["objective"].cls is grpo.LOSS


@pytest.mark.parametrize("variant", options("variant"))
def test_a_method_is_its_formula(variant: str) -> None:
    """At most eight lines with signature and docstring, for the group advantage and policy loss of every variant."""
    parts = compose(["recipe=grpo", "scale=tiny", f"variant={variant}"]).parts
    advantage, loss = parts["advantage"].cls, parts["objective"].cls
    hooks: list[Any] = [advantage.of_group] if issubclass(advantage, GroupAdvantage) else []
    hooks += [loss.token_loss] if issubclass(loss, PolicyLoss) else []
    for hook in hooks:
        assert len(inspect.getsource(hook).splitlines()) <= 8, hook.__qualname__


def test_the_formulas_by_hand() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 1.0])
    advantage = grpo.ADVANTAGE(grpo.ADVANTAGE.Config(epsilon=0.0)).of_group(rewards)
    np.testing.assert_allclose(advantage, np.array([1, -1, -1, 1]) * 0.5 / np.sqrt(1 / 3), rtol=1e-12)
    ratio, one = torch.tensor([0.5, 1.0, 1.5]), torch.ones(3)
    loss = grpo.LOSS(grpo.LOSS.Config(clip_low=0.2, clip_high=0.28))
    assert loss.token_loss(ratio, one, one).tolist() == pytest.approx([-0.5, -1.0, -1.28])
    assert loss.token_loss(ratio, -one, one).tolist() == pytest.approx([0.8, 1.0, 1.5])
