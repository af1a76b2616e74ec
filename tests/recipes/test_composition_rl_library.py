"""The composing library stands by itself: it names nothing of raylign, and works where there is none."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "recipes" / "composition_rl" / "compose"
PROGRAM = """
import sys
from functools import partial
from chains.chain import Chain, seed_problem
from chains.drive import compose_now
from chains.operation import spc
from chains.symbolic import RuleComposer
from chains.llm import LlmComposer
from chains import counts, mastery, programs, recovery, rows, supply, surrogate

compose = partial(compose_now, RuleComposer(RuleComposer.Config()))
chain = spc([seed_problem("What is 10 + 3?", "13"), seed_problem("Compute $7 + 3$.", "10")], compose)
assert isinstance(chain, Chain) and chain.links[0].delta == "-10" and chain.answer == "10", chain
assert not [name for name in sys.modules if name.split(".")[0] in ("raylign", "ray", "torch", "vllm", "omegaconf")]
"""


def test_the_library_names_nothing_outside_itself() -> None:
    for path in LIBRARY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            known = {"numpy", "sympy", *sys.stdlib_module_names}
            assert {name.split(".")[0] for name in names} <= known, f"{path.name}: {names}"


def test_the_library_works_under_another_name_without_raylign(tmp_path: Path) -> None:
    shutil.copytree(LIBRARY, tmp_path / "chains", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
