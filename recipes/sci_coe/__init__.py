"""Sci-CoE."""

from __future__ import annotations

from raylign.recipes.sci_coe.anchored import Anchored
from raylign.recipes.sci_coe.answers import ScienceAnswer, Solved
from raylign.recipes.sci_coe.geometric import Geometric
from raylign.recipes.sci_coe.measures import BestOfN
from raylign.recipes.sci_coe.roles import SolveAndVerify
from raylign.recipes.sci_coe.shaper import CoEvolution

__all__ = ["Anchored", "BestOfN", "CoEvolution", "Geometric", "ScienceAnswer", "SolveAndVerify", "Solved"]
