"""What a command does not pay for: modules that the driver has no use for are not imported by it."""

from __future__ import annotations

import subprocess
import sys

COMPOSE = """
import sys
import raylign.recipes.run
from raylign.config.compose import compose
from raylign.plan import make_plan
for recipe in sys.argv[1:]:
    make_plan(compose([f"recipe={recipe}", "scale=tiny"]))
print(*sorted({"torch", "vllm", "deepspeed", "transformers", "sympy", "pyarrow", "pandas"} & set(sys.modules)))
"""


def test_a_driver_composes_and_plans_without_torch() -> None:
    """Objectives are resolved in the driver and computed in the learner; a GPU's worth of imports is two seconds."""
    command = [sys.executable, "-c", COMPOSE, "grpo", "hypo", "g_opd", "arlcp"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
