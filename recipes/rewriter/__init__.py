"""x"""

from __future__ import annotations

from raylign.recipes.rewriter.forgetting import Forgetting, Tasks
from raylign.recipes.rewriter.gate import Gate, YesNo
from raylign.recipes.rewriter.prompts import Rewriting, Solutions
from raylign.recipes.rewriter.reward import RewriteReward
from raylign.recipes.rewriter.shaper import RewriteShaper

__all__ = ["Forgetting", "Gate", "RewriteReward", "RewriteShaper", "Rewriting", "Solutions", "Tasks", "YesNo"]
