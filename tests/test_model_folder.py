"""Model folders whose files do not belong together are refused by their headers, before anything loads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.sides.families import BY_NAME, build
from safetensors.numpy import load_file, save_file

from raylign.config.compose import compose
from raylign.config.schema import ModelConfig, TinyModel
from raylign.errors import ConfigError
from raylign.models.facts import model_facts
from raylign.models.folder_check import folder_fault, folder_lacks
from raylign.models.headers import INDEX
from raylign.models.tensor_rules import FAMILIES
from raylign.models.tiny import build_tiny_model

Spoil = Callable[[Path], object]
DOWN = "model.layers.1.mlp.down_proj.weight"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyModel(hidden_size=32, layers=2, heads=2, kv_heads=1, tie_embeddings=False)
    return build_tiny_model(shape, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def merge(name: str, **fields: Any) -> Spoil:
    """Set fields of a JSON file."""

    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | fields))

    return change


def write(name: str, content: str | bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def tensors(change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Spoil:
    """Store other tensors."""

    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(dict(change(load_file(file))), file, metadata={"format": "pt"})

    return spoil


def header(change: Callable[[dict[str, Any]], None]) -> Spoil:
    """Change the header of the safetensors alone."""

    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8 : 8 + length])
        change(entries)
        text = json.dumps(entries).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    return spoil


def both(*spoils: Spoil) -> Spoil:
    return lambda folder: [spoil(folder) for spoil in spoils]


def shard(folder: Path, leave: str = "") -> None:
    """Two shards and an index in place of one file. leave: a tensor that the index does not name."""
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(held)
    parts = {"model-1.safetensors": names[:4], "model-2.safetensors": names[4:]}
    for file, part in parts.items():
        save_file({name: held[name] for name in part}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part if name != leave}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def lost_tensor(folder: Path) -> None:
    shard(folder)
    file = folder / "model-2.safetensors"
    held = load_file(file)
    held.pop(sorted(held)[0])
    save_file(held, file)


def cut(name: str) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-5000])


def grown(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"x" * 10)


def remove(pattern: str) -> Spoil:
    return lambda folder: [file.unlink() for file in folder.glob(pattern)]


def small_embedding(held: dict[str, Any]) -> dict[str, Any]:
    """Rows cut off: with the config told, only the tokenizer knows better."""
    names = ("model.embed_tokens.weight", "lm_head.weight")
    return held | {name: np.ascontiguousarray(held[name][:100]) for name in names}


def without(*ends: str) -> Spoil:
    return tensors(lambda held: {name: tensor for name, tensor in held.items() if not name.endswith(ends)})


def renamed(prefix: str, suffix: str = "") -> Spoil:
    return tensors(lambda held: {f"{prefix}{name}{suffix}": tensor for name, tensor in held.items()})


def packed(held: dict[str, Any]) -> dict[str, Any]:
    return {**held, DOWN: held[DOWN].astype(np.int8)}


def longer(entries: dict[str, Any]) -> None:
    entries[DOWN]["shape"][0] += 1


def stretched_vocabulary(folder: Path) -> None:
    file = folder / "tokenizer.json"
    core = json.loads(file.read_text())
    core["model"]["vocab"] |= {f"new{index}": 300 + index for index in range(3)}
    file.write_text(json.dumps(core))


def bad_merges(folder: Path) -> None:
    file = folder / "tokenizer.json"
    core = json.loads(file.read_text())
    core["model"]["merges"] = [["never", "heard"]]
    file.write_text(json.dumps(core))


FAULTS: dict[str, tuple[Spoil, str]] = {
    # ------------------------------------------------------------------------------------------------ files of weights
    "a shard that the index names": (both(shard, remove("model-2*")), "lacks 1 of the 2 files"),
    "a cut shard": (both(shard, cut("model-2.safetensors")), "model-2.safetensors is cut off"),
    "a tensor that the index promises": (lost_tensor, "does not hold it"),
    "a tensor that the index leaves out": (lambda folder: shard(folder, DOWN), "lack mlp.down_proj.weight of layer 1"),
    "a broken index": (both(shard, write(INDEX, "{")), f"{INDEX} cannot be read"),
    "shards without an index": (both(shard, remove(INDEX)), "neither model.safetensors nor"),
    "a cut file": (cut("model.safetensors"), "cut off"),
    "bytes too many": (grown, "damaged"),
    "an empty file": (write("model.safetensors", ""), "damaged"),
    "a pointer of Git LFS": (write("model.safetensors", LFS), "git lfs pull"),
    "no tensor": (tensors(lambda held: {}), "no tensor"),
    "a shape that its bytes do not fill": (header(longer), "bytes of"),
    "a wrapped model": (renamed("_orig_mod."), "wrapped model"),
    "an adapter": (renamed("base_model.model.", ".lora_A.weight"), "LoRA adapter"),
    # ------------------------------------------------------------------------------------ config against the weights
    "vocab_size": (merge("config.json", vocab_size=300), "vocab_size=300"),
    "hidden_size": (merge("config.json", hidden_size=64), "hidden_size=64"),
    "layers too many": (merge("config.json", num_hidden_layers=3, layer_types=None), "lack layer 2"),
    "layers too few": (merge("config.json", num_hidden_layers=1, layer_types=None), "have 2"),
    "intermediate_size": (merge("config.json", intermediate_size=512), "intermediate_size=512"),
    "num_key_value_heads": (merge("config.json", num_key_value_heads=2), "num_key_value_heads=2"),
    "num_attention_heads": (merge("config.json", num_attention_heads=4), "num_attention_heads=4"),
    "head_dim": (merge("config.json", head_dim=16), "head_dim=16"),
    "no lm_head": (without("lm_head.weight"), "no lm_head"),
    "a head of other rows": (tensors(lambda held: held | {"lm_head.weight": np.zeros((9, 32))}), "has 9 rows"),
    "no last norm": (without("model.norm.weight"), "norm after the last layer"),
    "a tensor of one layer": (without(DOWN), "down_proj.weight of layer 1"),
    "a tensor of every layer": (without("q_norm.weight"), "lack self_attn.q_norm.weight of layer 0"),
    "a tensor that nothing reads": (
        tensors(lambda held: held | {DOWN.replace("weight", "bias"): np.zeros(32, np.float32)}), "has not",
    ),
    "weights of another family": (
        merge("config.json", model_type="qwen2", architectures=["Qwen2ForCausalLM"]), "self_attn.k_proj.bias",
    ),
    # ------------------------------------------------------------------------------------------------- config by itself
    "no object": (write("config.json", "[]"), "no object"),
    "two names for two models": (merge("config.json", model_type="llama"), "different models"),
    "heads that divide nothing": (merge("config.json", num_key_value_heads=3), "does not divide"),
    "a size that is none": (merge("config.json", num_attention_heads=-2), "num_attention_heads=-2"),
    "types of other layers": (merge("config.json", layer_types=["full_attention"] * 3), "3 layer_types"),
    "gptq": (merge("config.json", quantization_config={"quant_method": "gptq"}), "quant_method=gptq"),
    "awq": (merge("config.json", quantization_config={"quant_method": "awq"}), "quant_method=awq"),
    "fp8": (merge("config.json", quantization_config={"quant_method": "fp8"}), "quant_method=fp8"),
    "bitsandbytes": (merge("config.json", quantization_config={"load_in_4bit": True}), "quantised"),
    "packed weights": (tensors(packed), "I8: quantised"),
    "gptq of old": (write("quantize_config.json", "{}"), "quantize_config.json"),
    # -------------------------------------------------------------------------------------------------- ids and tokens
    "eos outside": (merge("config.json", eos_token_id=262), "eos_token_id=262"),
    "one of many eos outside": (merge("config.json", eos_token_id=[1, 9999]), "eos_token_id=9999"),
    "bos outside": (merge("config.json", bos_token_id=151643), "bos_token_id=151643"),
    "pad below": (merge("config.json", pad_token_id=-1), "pad_token_id=-1"),
    "eos of generation outside": (merge("generation_config.json", eos_token_id=262), "generation_config.json says eos"),
    "eos that is a word": (merge("generation_config.json", eos_token_id="<|end|>"), "is no id"),
    "a temperature that is a word": (merge("generation_config.json", temperature="hot"), "temperature='hot'"),
    "a broken generation config": (write("generation_config.json", '{"eos_token_id": 1,'), "config.json cannot"),
    "a broken tokenizer": (write("tokenizer.json", "{"), "tokenizer.json cannot be read"),
    "an empty tokenizer": (write("tokenizer.json", "{}"), "is no tokenizer"),
    "a tokenizer of Git LFS": (write("tokenizer.json", LFS), "git lfs pull"),
    "merges of unknown tokens": (bad_merges, "is no tokenizer"),
    "a broken tokenizer config": (write("tokenizer_config.json", "{"), "tokenizer_config.json cannot be read"),
    "broken special tokens": (write("special_tokens_map.json", "nothing"), "special_tokens_map.json cannot"),
    "broken added tokens": (write("added_tokens.json", "{"), "added_tokens.json cannot"),
    "a broken tokenizer.model": (write("tokenizer.model", b"\x0a\xffgarbage"), "tokenizer.model is damaged"),
    "broken ranks": (write("tokenizer.model", "YQ== 0\n%%% 1\n"), "damaged (line 2)"),
    "ids beyond the rows": (stretched_vocabulary, "its embedding 262 rows"),
    "an embedding too small": (
        both(tensors(small_embedding), merge("config.json", vocab_size=100)), "its embedding 100 rows",
    ),
    "an added id beyond the rows": (
        merge("tokenizer_config.json", added_tokens_decoder={"262": {"content": "<new>"}}), "ids up to 262",
    ),
    "an unknown eos token": (merge("tokenizer_config.json", eos_token="<|eot|>"), "eos_token='<|eot|>'"),
    # ------------------------------------------------------------------------------------------------------- templates
    "a broken template": (write("chat_template.jinja", "{% for m in messages %}{{ m.content }}"), "jinja is broken"),
    "an unknown filter": (write("chat_template.jinja", "{{ messages | shout }}"), "shout"),
    "a template that asks for more": (write("chat_template.jinja", "{{ messages[1].content }}"), "cannot render"),
    "a template that drops the question": (write("chat_template.jinja", "{{ bos_token }}hello"), "leaves out"),
    "a template of no text": (write("chat_template.jinja", b"\xff\xfe"), "jinja cannot be read"),
    "a broken template in settings": (
        both(remove("*.jinja"), merge("tokenizer_config.json", chat_template="{% if %}")), "config.json is broken",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_folder_that_does_not_fit_together(folder: Path, name: str) -> None:
    spoil, word = FAULTS[name]
    assert folder_fault(folder) is None
    spoil(folder)
    fault = folder_fault(folder)
    assert fault is not None and word in fault.why and fault.fix, fault
    assert "\n" not in fault.why + fault.fix, "one line"


def test_every_model_of_a_run_is_checked(folder: Path) -> None:
    merge("config.json", eos_token_id=262)(folder)
    keys = ("model.path", "frozen.reference.path", "critic.path", "judges.judge.path")
    with pytest.raises(ConfigError) as caught:
        compose(["recipe=grpo", "scale=tiny", "+judges.judge.workers=1", *(f"{key}={folder}" for key in keys)])
    problems = {problem.key: problem for problem in caught.value.problems}
    assert problems.keys() >= set(keys)
    problem = problems["model.path"]
    assert problem.value == str(folder) and "config.json" in problem.why and "eos_token_id" in problem.fix


def test_an_engine_serves_what_the_learner_cannot_train(folder: Path) -> None:
    merge("config.json", quantization_config={"quant_method": "awq"})(folder)
    base = ["recipe=grpo", "scale=tiny", "+judges.judge.workers=1"]
    compose([*base, f"judges.judge.path={folder}"])
    with pytest.raises(ConfigError, match="quant_method=awq"):
        compose([*base, f"model.path={folder}"])


@pytest.mark.parametrize(
    ("spoil", "lack"),
    [
        (remove("model.safetensors"), "no weights"),
        (both(remove("model.safetensors"), write("pytorch_model.bin", "x")), "pytorch_model.bin is not read"),
        (remove("token*"), "no tokenizer"),
    ],
)
def test_what_only_a_run_needs(folder: Path, spoil: Spoil, lack: str) -> None:
    spoil(folder)
    assert folder_fault(folder) is None
    lacks = folder_lacks(folder)
    assert lacks is not None and lack in lacks.why
    overrides = ["recipe=grpo", "scale=tiny", f"model.path={folder}"]
    compose(overrides, to_run=False)
    with pytest.raises(ConfigError, match=lack):
        compose(overrides)


def test_numbers_of_a_folder_without_weights_are_those_of_its_weights(folder: Path) -> None:
    path = ModelConfig(path=str(folder))
    stored = model_facts(path)
    remove("model.safetensors")(folder)
    assert model_facts(path) == stored


def test_whole_folders_are_taken(folder: Path) -> None:
    assert folder_fault(folder) is None and folder_lacks(folder) is None
    shard(folder)
    assert folder_fault(folder) is None and folder_lacks(folder) is None
    save_file({"mtp.layers.9.x": np.zeros(2, np.float32)}, folder / "consolidated.safetensors")
    assert folder_fault(folder) is None, "what the index does not name is not read"
    write(
        "chat_template.jinja",
        "{% for m in messages %}{% generation %}{{ m.content | tojson }}{% endgeneration %}{% endfor %}",
    )(folder)
    assert folder_fault(folder) is None


# Of each: layers of their own kind, and what a careless rule would refuse.
WHOLE = [
    "llama",
    "qwen2",
    "phi3",
    "olmo2",
    "gemma3_text",
    "gpt2",
    "mixtral",
    "qwen3_moe",
    "jamba",
    "modernbert_decoder",
]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_folders_of_other_families_are_taken(name: str, tmp_path: Path) -> None:
    assert folder_fault(build(BY_NAME[name], tmp_path / name)) is None


def test_the_families_are_those_of_transformers() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for kind, family in FAMILIES.items():
        assert MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind] == family.architecture
        assert CONFIG_MAPPING[kind]().tie_word_embeddings == family.tied, kind


@pytest.mark.parametrize("sharded", [False, True])
def test_weights_that_are_there_twice_count_once(folder: Path, sharded: bool) -> None:
    """Of a folder with an index what it names, of another ``model.safetensors``: some publish both forms."""
    known = model_facts(ModelConfig(path=str(folder))).parameters
    copy = (folder / "model.safetensors").read_bytes()
    if sharded:
        shard(folder)
    (folder / "consolidated.safetensors").write_bytes(copy)
    assert model_facts(ModelConfig(path=str(folder))).parameters == known
