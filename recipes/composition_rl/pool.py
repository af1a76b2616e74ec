"""The seeds of a run and the chains made of them, with counts of what was composed and what was dropped and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylign.data.files import read_rows
from raylign.errors import DataError
from raylign.recipes.composition_rl.drive import Composer, compose_now
from raylign.recipes.composition_rl.operation import side_by_side, spc
from raylign.recipes.composition_rl.problem import Outcome, Problem, Rejected
from raylign.recipes.composition_rl.render import problem_of, prompt_of
from raylign.records import Prompt


class Pool:
    """Seeds by id, and prompts made of chains of them.

    linked: False puts the texts side by side without a link (the paper's control). limit: tokens of a prompt, 0: any.
    """

    def __init__(
        self, prompts: Sequence[Prompt], composer: Composer, tokenizer: Any, limit: int, linked: bool = True
    ) -> None:
        if not prompts:
            raise DataError("a prompt source needs at least one prompt")
        self.prompts: Mapping[str, Prompt] = {prompt.id: prompt for prompt in prompts}
        self.problems: Mapping[str, Problem] = {prompt.id: problem_of(prompt) for prompt in prompts}
        self._composer = composer
        self._tokenizer = tokenizer
        self._limit = limit
        self._linked = linked
        self.counts: Counter[str] = Counter()  # asked, composed, rejected/<reason>
        self.uses: Counter[str] = Counter()  # seed -> prompts that were handed out with it

    def of_domain(self, domain: str) -> list[Problem]:
        """The seeds of a domain, all for "". Raises DataError when there are none."""
        found = [problem for problem in self.problems.values() if domain in ("", problem.domain)]
        if not found:
            known = sorted({problem.domain for problem in self.problems.values()})
            raise DataError(f"no seed has the domain {domain!r}; there are {', '.join(map(repr, known))}")
        return found

    def make(self, seeds: Sequence[Problem], visit: int) -> Prompt | None:
        """The prompt of a chain of seeds, or None when it was dropped; counted either way."""
        if len(seeds) == 1:
            return self._handed_out(prompt_of(seeds[0], self.prompts[seeds[0].id], self._tokenizer, 0, visit), seeds[0])
        self.counts["asked"] += 1
        outcome: Outcome = side_by_side(seeds) if not self._linked else spc(seeds, self._compose)
        return self.render(outcome, visit)

    def render(self, outcome: Outcome, visit: int) -> Prompt | None:
        """The prompt of a composed chain, or None when it was dropped; counted either way."""
        if isinstance(outcome, Rejected):
            self.counts[f"rejected/{outcome.reason}"] += 1
            return None
        return self._handed_out(
            prompt_of(outcome, self.prompts[outcome.seeds[-1]], self._tokenizer, self._limit, visit), outcome
        )

    def read(self, path: str) -> dict[int, list[Problem]]:
        """Composed rows of a file by depth, those that end with a seed of this run. Raises DataError on a bad row."""
        found: dict[int, list[Problem]] = {}
        for place, row in read_rows(Path(path).expanduser()):
            try:
                problem = Problem.from_record(row)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise DataError(
                    f"{place}: no composed problem ({error!r}); the stage ComposeSet writes them"
                ) from error
            if problem.seeds[-1] in self.prompts:
                found.setdefault(problem.depth, []).append(problem)
            else:
                self.counts["unknown_seed"] += 1
        if not found:
            raise DataError(f"{path}: none of {self.counts['unknown_seed']} rows ends with a seed of this run")
        return found

    def metrics(self) -> dict[str, float]:
        """Cumulative counts of the composer: asked, yield, and one share per reason."""
        asked = self.counts["asked"]
        if not asked:
            return {}
        rejected = {name: count for name, count in sorted(self.counts.items()) if name.startswith("rejected/")}
        metrics = {f"composer/{name}": count / asked for name, count in rejected.items()}
        return metrics | {"composer/asked": float(asked), "composer/yield": 1 - sum(rejected.values()) / asked}

    def state_dict(self) -> dict[str, Any]:
        """Counts and uses."""
        return {"counts": dict(self.counts), "uses": dict(self.uses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo a restart."""
        self.counts, self.uses = Counter(state["counts"]), Counter(state["uses"])

    def _compose(self, first: Problem, second: Problem) -> Outcome:
        return compose_now(self._composer, first, second)

    def _handed_out(self, prompt: Prompt | Rejected, chain: Problem) -> Prompt | None:
        if isinstance(prompt, Rejected):
            self.counts[f"rejected/{prompt.reason}"] += 1
            return None
        self.uses.update(chain.seeds)
        return prompt


def write_rows(path: Path, problems: Sequence[Problem]) -> None:
    """Composed problems as JSONL, one record a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(problem.record(), ensure_ascii=False) + "\n" for problem in problems))
