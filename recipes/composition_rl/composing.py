"""A set of chains by a language model: what the stage `Generate` asks `ComposeRollout`, and the rows that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from raylign.contracts import View
from raylign.recipes.composition_rl.compose.llm import tokens_between
from raylign.recipes.composition_rl.compose.surrogate import Selection, SurrogateSet
from raylign.recipes.composition_rl.composers import Composing
from raylign.recipes.composition_rl.seeds import CHAIN, SeedPrompts, as_data_error, composed_row
from raylign.recipes.stages.keep import Keep, Kept
from raylign.records import Group, Prompt


class ChainsToCompose(Composing, View):
    """A prompt for each chain of a surrogate set: its last seed's, with the records of all in ``meta["chain"]``."""

    @dataclass
    class Config(Selection):
        """The set to make."""

        depth: int = 2

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.depth < 2:
                raise ValueError(f"depth={self.depth}: a chain has 2 problems or more")

    def __init__(self, config: Config, *, tokenizer: Any, seed: int) -> None:
        super().__init__(config)
        self._template, self._seed = tokenizer, seed

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`. Raises DataError on too few seeds."""
        seeds, chains = self._chosen(prompts)
        records, asked = {name: seed.record() for name, seed in seeds.chains.items()}, list[Prompt]()
        for chain in map(chains.chain, range(len(chains))):
            names, last = [seed.id for seed in chain], seeds.prompts[chain[-1].id]
            meta = {**last.meta, CHAIN: [records[name] for name in names]}
            asked.append(replace(last, id="+".join(names), meta=meta))
        return asked

    def questions(self, prompts: Sequence[Prompt]) -> tuple[int, int]:
        """Of the composer, about the shortest seeds of all slots and about the longest."""
        seeds, chains = self._chosen(prompts)

        def tokens(text: str) -> int:
            return len(self._template.prompt_ids([{"role": "user", "content": text}]))

        return tokens_between(chains.slots, lambda seed: len(seeds.prompts[seed.id].token_ids), tokens)

    def _chosen(self, prompts: Sequence[Prompt]) -> tuple[SeedPrompts, SurrogateSet]:
        seeds = SeedPrompts(prompts, self._template)
        with as_data_error(type(self).__name__):
            first, last = self.config.seeds(seeds.chains.values(), self._seed)
            return seeds, self.config.chains(first, last, self.config.depth, self._seed)


class ComposedChains(Composing, Keep):
    """Each chain that was composed, as a row (`composed_row`)."""

    @dataclass
    class Config:
        """Nothing to set."""

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        records = {index: group.trajectories[index].payload.get("chain") for index in usable}
        return [Kept(index, row=composed_row(group.prompt, record)) for index, record in records.items() if record]
