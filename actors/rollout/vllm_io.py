"""What goes into vLLM and what comes out, for both front ends. Imported only in processes that run an engine."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig
from vllm import EngineArgs, SamplingParams
from vllm.config import StructuredOutputsConfig
from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import TokensInput, tokens_input
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from raylign.actors.rollout.engine import Bytes, EngineSpec, Layout
from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, Sampling
from raylign.errors import EngineDeadError, RequestError
from raylign.records import Float32s, StopReason

REQUEST_ERRORS = (VLLMClientError, ValueError, TypeError)  # what vLLM raises for a request that it cannot take
EXTENSION = "raylign.actors.rollout.weight_extension.WeightExtension"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, that vLLM has room for
BATCHED_TOKENS = 8192  # prompt tokens that one step may compute


def context_of(spec: EngineSpec) -> int:
    """Context of the engine: what the configuration wants, capped at what the model was made for."""
    config = AutoConfig.from_pretrained(spec.model_path, trust_remote_code=spec.trust_remote_code)
    own = getattr(config.get_text_config(), "max_position_embeddings", None)
    return spec.max_context if own is None else min(spec.max_context, own)


def engine_fields(spec: EngineSpec) -> dict[str, Any]:
    """Fields of vLLM's EngineArgs and AsyncEngineArgs alike."""
    context = context_of(spec)
    fields: dict[str, Any] = {
        "model": spec.model_path,
        "dtype": spec.dtype,
        "max_model_len": context,
        # One slot more than ever filled, so that the probe of an update runs beside a full batch.
        "max_num_seqs": spec.max_sequences + 1,
        "tensor_parallel_size": spec.tensor_parallel,
        # Inside a placement group vLLM would choose Ray for more than one rank, and then refuse our bundle of all its
        # GPUs; processes of its own find them by CUDA_VISIBLE_DEVICES.
        "distributed_executor_backend": "mp" if spec.tensor_parallel > 1 else "uni",
        "trust_remote_code": spec.trust_remote_code,
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": 1,
        "disable_log_stats": True,
        "seed": 0,
        "worker_extension_cls": EXTENSION,
        # With free whitespace a JSON grammar lets a model wander in blanks until it is cut off.
        "structured_outputs_config": StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
    }
    if spec.lora_rank:
        rank = next(rank for rank in RANKS if rank >= spec.lora_rank)
        fields |= {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": rank}
        fields["lora_target_modules"] = list(spec.lora_targets)
    # Where it is set it overrides `kv_cache_memory_bytes`, and it knows whole gigabytes only.
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
    if spec.tensor_parallel > 1 and not spec.gpu:
        # By itself vLLM gives each rank the cores of a NUMA node of its own, and refuses a machine that has one.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if spec.gpu:
        # Given the bytes, vLLM does not measure what is free, which others on the device change meanwhile.
        explicit = {"kv_cache_memory_bytes": spec.kv_cache_bytes} if spec.kv_cache_bytes else {}
        return fields | explicit | {"gpu_memory_utilization": spec.gpu_memory}
    fields |= {
        "enforce_eager": True,
        "kv_cache_memory_bytes": spec.kv_cache_bytes,
        # vLLM rewinds the generator of a seeded request whose prompt is cut into chunks, which CPU generators cannot
        # do: the engine would die. So prompts are computed whole, and a step must have room for the longest.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context, BATCHED_TOKENS),
    }
    # States of recurrent layers are cached at chunk ends only, which needs chunked prompts.
    fields["enable_prefix_caching"] = not EngineArgs(**fields).create_model_config().has_inner_state
    return fields


def engine_args(spec: EngineSpec) -> EngineArgs:
    """Arguments of the in-process engine."""
    return EngineArgs(**engine_fields(spec))


def prompt_of(token_ids: Sequence[int] | np.ndarray, context: int, what: str = "prompt") -> TokensInput:
    """vLLM's form of a prompt. Raises RequestError when it is empty or leaves no room for a single new token."""
    ids = token_ids.tolist() if isinstance(token_ids, np.ndarray) else list(token_ids)
    if not ids:
        raise RequestError(f"the {what} is empty")
    if len(ids) >= context:
        raise RequestError(f"the {what} has {len(ids)} tokens; with a context of {context} at most {context - 1} fit")
    return tokens_input(ids)


def generate_params(sampling: Sampling, seed: int, ends: Collection[int]) -> SamplingParams:
    """Parameters of one sampled completion, which stops at any of the `ends` of a turn.

    Raises RequestError on values that vLLM refuses.
    """
    try:
        structure = None
        if sampling.structure is not None:
            structure = StructuredOutputsParams(**sampling.structure, disable_any_whitespace=True)
        return SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed,
            stop=list(sampling.stop) or None,
            stop_token_ids=sorted(ends),
            skip_special_tokens=False,  # a stop string may be one
            detokenize=bool(sampling.stop),  # stop strings need text at every token, nothing else does
            structured_outputs=structure,
            logprobs=0,  # of the sampled id only
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    except REQUEST_ERRORS as cause:
        raise RequestError(f"sampling {sampling}: {cause}") from None


def score_params() -> SamplingParams:
    """Parameters of a scoring request; the one token it samples is thrown away."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion_from(output: RequestOutput, template: ChatTemplate) -> Completion:
    """The finished output of `generate_params`."""
    completion = output.outputs[0]
    ids = np.array(completion.token_ids, np.int32)
    versions = np.full(len(ids), -1, np.int32)
    for span in completion.weight_versions or ():
        versions[span.start : span.end] = int(span.version)
    return Completion(
        token_ids=ids,
        logprobs=_flat(completion.logprobs),
        versions=versions,
        stop=_stop(completion.finish_reason, completion.stop_reason),
        text=template.text_of(completion.token_ids),
    )


def score_from(output: RequestOutput) -> Float32s:
    """Log-probs of all prompt tokens but the first, [P - 1], from the finished output of `score_params`."""
    return _flat(output.prompt_logprobs)


def named_tensors(layout: Layout, buffer: Bytes) -> Iterator[tuple[str, torch.Tensor]]:
    """Views into the flat buffer, in the order of the layout. Raises EngineDeadError when a tensor lies outside it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        flat = torch.from_numpy(np.asarray(buffer, np.uint8))
    for name, dtype_name, shape, offset in layout:
        dtype: torch.dtype = getattr(torch, dtype_name.removeprefix("torch."))
        end = offset + math.prod(shape) * dtype.itemsize
        if end > len(flat):
            raise EngineDeadError(f"weight {name} ends at byte {end} of a buffer of {len(flat)} bytes")
        part = flat[offset:end]
        if (flat.data_ptr() + offset) % dtype.itemsize:
            part = part.clone()
        yield name, part.view(dtype).view(shape)


def _flat(logprobs: Any) -> Float32s:
    """One log-prob per position, from the `FlatLogprobs` that `flat_logprobs` asks for."""
    return np.array(logprobs.logprobs if logprobs else (), np.float32)


def _stop(finish_reason: str | None, stop_reason: int | str | None) -> StopReason:
    if finish_reason == "stop":
        # Integers are ends of turn: no other stop token is ever asked for.
        return StopReason.STOP if isinstance(stop_reason, str) else StopReason.EOS
    return StopReason.LENGTH if finish_reason == "length" else StopReason.ABORT
