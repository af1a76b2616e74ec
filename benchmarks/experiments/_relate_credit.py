"""Parts B and C of RELATE's experiment: where credit goes, by the recipe's own parts; no policy takes part."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.experiments import _relate_grammar as grammar
from benchmarks.experiments.report import ROOT, Claim, largest
from raylign.batch import Batch
from raylign.chat.spans import on_tokens, token_ranges
from raylign.chat.template import ChatTemplate
from raylign.config.schema import TinyModel
from raylign.models.tiny import build_tiny_model
from raylign.models.tokenizer import load_tokenizer
from raylign.objectives.advantage.group import GRPO
from raylign.recipes.relate import GranularCredit
from raylign.recipes.relate.scale import Scale
from raylign.recipes.relate.toy import ATTRIBUTES, BANNED, FILLERS, HOOKS, SEPARATOR
from raylign.records import Float32s, Group, Span, Value
from raylign.testing import call, group, prompt, rows_of, trajectory

ADS = ROOT.parent / "shared" / "data" / "adparaphrase" / "main_2000.csv"
NOTE = "the recipe's parts, no policy"
LETTERS = f"_{SEPARATOR}{ATTRIBUTES}{HOOKS}{BANNED}{FILLERS}"  # those of part A by their numbers
SPANS = 1000


@cache
def template() -> ChatTemplate:
    """The tiny model's: one byte is one token."""
    folder = build_tiny_model(TinyModel(hidden_size=64, layers=2, heads=2, kv_heads=2, head_dim=32, context=64))
    return ChatTemplate(load_tokenizer(str(folder), False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An ad with what its rewards found. Example: ``Sample(text="aA;bKK!K", conversion=0.2, faults=(6,))``"""

    text: str
    conversion: float  # R_cv
    faults: tuple[int, ...] = ()  # letters that fail a check
    formatted: bool = True
    structure: float = 1.0
    ended: bool = True


def locality(_: Path) -> list[Claim]:
    """The digest's second test, on what the recipe makes of two ads; and its credit against that of part A."""
    samples = [Sample(text="aA;bKK!K", conversion=0.2, faults=(6,)), Sample(text="aA;bKKK", conversion=0.4)]
    rows = rows_of(_shaper().score([_group(samples, 0)]))
    ids = np.asarray(rows.batch["token_ids"]).astype(np.int64)
    by_tokens = _advantages(rows.batch, rows.scores, 1.0, 6.0) - _advantages(rows.batch, rows.scores, 0.0, 0.0)
    logits = torch.zeros(len(ids), int(ids.max()) + 1, dtype=torch.float64, requires_grad=True)
    said = torch.log_softmax(logits, dim=1)[torch.arange(len(ids)), torch.from_numpy(ids)]
    (-(torch.from_numpy(by_tokens) * said).sum()).backward()
    assert logits.grad is not None
    fault = int(rows.batch.prompt_lengths[0]) + samples[0].faults[0]
    others = np.delete(np.arange(len(ids)), fault)
    figures = (
        ("gradient of the token part at other tokens", float(logits.grad[others].abs().max()), 0.0, "=="),
        ("gradient of the token part at the fault's own logit", float(logits.grad[fault, ids[fault]]), 0.0, ">"),
        ("token part of a clean text", float(np.abs(by_tokens[int(rows.batch.offsets[1]) :]).max()), 0.0, "=="),
        ("advantages of part A against the recipe's, 40 updates: error", _difference(), 1e-4, "<="),
    )
    return [
        Claim(name=f"B/{name}", value=value, threshold=limit, relation=relation, note=NOTE)
        for name, value, limit, relation in figures
    ]


def _difference() -> float:
    """Largest difference between the advantages of part A's arms and those of the recipe's parts on the same texts."""
    worst, rng = 0.0, np.random.default_rng(0)
    for arm in (grammar.ARMS["RELATE"], grammar.ARMS["M4"]):
        policy, histories = grammar.start(rng), grammar.Histories()
        part = _shaper(diversity=arm.a_div, semantic=arm.a_sem)
        for _ in range(20):
            ads = policy.sample(4, rng)
            wanted = grammar.advantages(arm, ads, histories)
            histories.add(ads)
            rows = rows_of(part.score(_groups(ads)))
            given = _advantages(rows.batch, rows.scores, arm.sem, arm.div)
            here = np.abs(given[np.asarray(rows.batch["loss_mask"], bool)] - wanted[ads.there]).max()
            worst = largest([worst, float(here)])
    return worst


def _groups(ads: grammar.Ads) -> list[Group]:
    """The same ads as the loop has them."""
    formatted, structure = grammar.ended(ads), grammar.structure(ads)
    conversion, faults = grammar.ctcvr(ads), grammar.faults(ads)
    samples: list[list[Sample]] = [[] for _ in range(grammar.PRODUCTS)]
    for row, product in enumerate(ads.product.tolist()):
        ids = ads.letters[row][ads.there[row]].tolist()
        sample = Sample(
            text="".join(LETTERS[letter] for letter in ids if letter != grammar.END),
            conversion=float(conversion[row]),
            faults=tuple(np.flatnonzero(faults[row] < 0).tolist()),
            formatted=bool(formatted[row]),
            structure=float(structure[row]),
            ended=grammar.END in ids,
        )
        samples[product].append(sample)
    return [_group(of_product, product) for product, of_product in enumerate(samples)]


def _group(samples: Sequence[Sample], product: int) -> Group:
    made = []
    for sample in samples:
        spans = tuple(Span(place, place + 1, -1.0) for place in sample.faults)
        ids = [*template().codec.encode(sample.text), *([min(template().ends)] if sample.ended else [])]
        rewards = {
            "structure": Value(score=sample.structure, details={"formatted": int(sample.formatted)}),
            "semantic": Value(score=float(not spans), spans=(spans,)),
            "ctcvr": Value(score=sample.conversion),
        }
        made.append(trajectory(call(sample.text, ids), rewards=dict(rewards)))
    return group(*made, prompt=prompt(product, meta={"product": product}))


def _shaper(**sequence: float) -> GranularCredit:
    config = GranularCredit.Config(scale=Scale.none, gate_tokens=False, exempt=[SEPARATOR], sequence=sequence)
    return GranularCredit(config, {"structure": 1.0, "semantic": 0.0, "ctcvr": 3.0}, grammar.LENGTH, template())


def _advantages(batch: Batch, scores: Float32s, semantic: float, diversity: float) -> NDArray[np.float64]:
    """[N] of the recipe."""
    weights = {"semantic": semantic, "diversity": diversity}
    assigned, _ = GRPO(GRPO.Config(epsilon=1e-4, token_weights=weights)).assign(batch, scores)
    return np.asarray(assigned["advantage"], np.float64)


def alignment(_: Path) -> list[Claim]:
    """The digest's third test: tokens that are marked and wrote nothing of a span, or that did and are not marked."""
    texts = [row["ad2"] for row in japanese()]
    tokenizers = {"one byte a token": template(), "merged tokens": _merged(texts)}
    claims = []
    for name, tokenizer in tokenizers.items():
        rng, wrong, marked = np.random.default_rng(0), 0, 0
        for _ in range(SPANS):
            text = texts[int(rng.integers(len(texts)))]
            start = int(rng.integers(len(text)))
            end = int(rng.integers(start + 1, len(text) + 1))
            coded = tokenizer.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            of = on_tokens(token_ranges(tokenizer, coded["input_ids"]), [Span(start, end, 1.0)]) > 0
            wanted = np.array([first < end and last > start for first, last in coded["offset_mapping"]])
            wrong, marked = wrong + int((of != wanted).sum()), marked + int(of.sum())
        note = f"{SPANS} random spans on real Japanese ads, {marked} tokens marked; {NOTE}"
        claims.append(Claim(name=f"C/{name}: tokens wrong", value=wrong, threshold=0, relation="==", note=note))
    return claims


@cache
def japanese() -> list[dict[str, str]]:
    """The rows of AdParaphrase."""
    with ADS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _merged(texts: Sequence[str]) -> ChatTemplate:
    """A byte-level BPE of these texts, whose tokens are several letters, or parts of one."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1000, special_tokens=["<|end|>"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    return ChatTemplate(tokenizer)
