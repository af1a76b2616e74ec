"""Tokenizers in the forms of six model families: a small byte-level or SentencePiece-like BPE and their own tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "templates"
CORPUS = (
    "the answer is 4 and the question was what is the sum of 2 and 2\n\nuser assistant system model tool",
    '{"name": "get", "arguments": {"city": "Paris"}} think about the weather\nin Paris, then say what you know.',
)


@dataclass(frozen=True)
class Family:
    """What tells a family apart. `special` tokens are special, `added` ones are added and not special."""

    name: str
    special: tuple[str, ...]
    eos: str
    ends: tuple[str, ...]  # what a turn may end in
    end: str  # of a plain answer
    bos: str = ""
    added: tuple[str, ...] = ()
    generation: tuple[str, ...] = ()  # eos_token_id of the generation config
    pieces: bool = False  # like SentencePiece: a space before what begins
    rstrip: bool = False


FAMILIES = (
    Family(
        name="qwen3",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        added=("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
        eos="<|im_end|>",
        end="<|im_end|>",
        ends=("<|im_end|>", "<|endoftext|>"),
        generation=("<|im_end|>", "<|endoftext|>"),
    ),
    Family(
        name="llama3",
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        end="<|eot_id|>",
        ends=("<|eot_id|>", "<|end_of_text|>"),
    ),
    Family(
        name="gemma",
        special=("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
        end="<end_of_turn>",
        ends=("<eos>", "<end_of_turn>"),
    ),
    Family(
        name="phi3",
        special=("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        end="<|end|>",
        ends=("<|end|>", "<|endoftext|>"),
        pieces=True,
        rstrip=True,
    ),
    Family(
        name="glm4",
        special=("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        eos="<|endoftext|>",
        end="<|user|>",
        ends=("<|endoftext|>", "<|user|>", "<|observation|>"),
    ),
    Family(
        name="mistral",
        special=(
            *("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
            *("[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        ),
        bos="<s>",
        eos="</s>",
        end="</s>",
        ends=("</s>",),
        pieces=True,
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}


def build_tokenizer(family: Family, folder: Path) -> Any:
    """A tokenizer of this form, saved to the folder and loaded from there."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(unk_token=None, byte_fallback=family.pieces))
    if family.pieces:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        core.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        show_progress=False,
        special_tokens=alphabet if family.pieces else [],
        initial_alphabet=[] if family.pieces else alphabet,
    )
    core.train_from_iterator(CORPUS, trainer)
    if family.pieces:  # the bytes are ordinary pieces of the vocabulary
        fields = json.loads(core.to_str())
        fields["added_tokens"] = []
        core = Tokenizer.from_str(json.dumps(fields))
    tokens = [
        AddedToken(token, special=token in family.special, normalized=False, rstrip=family.rstrip and token != "<s>")
        for token in (*family.special, *family.added)
    ]
    core.add_tokens(tokens)
    names = {"bos_token": family.bos} if family.bos else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=family.eos, pad_token=family.special[0], **names
    )
    tokenizer.add_tokens(tokens)
    tokenizer.chat_template = (HERE / f"{family.name}.jinja").read_text()
    tokenizer.save_pretrained(folder)
    if family.generation:
        ends = [tokenizer.convert_tokens_to_ids(token) for token in family.generation]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return AutoTokenizer.from_pretrained(folder)
