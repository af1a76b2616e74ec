"""Families with layers that carry a state along the row, and text towers of models that also see images."""

from __future__ import annotations

from benchmarks.sides.family_parts import DELTA, DENSE, IDS, LOCAL_MOE, MOE, SLIDE, VOCAB, WIDE, WINDOW, Family, hybrid

SSM = {
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_n_groups": 1,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


STATEFUL = (
    Family("mamba", "mamba", {"hidden_size": 64, "state_size": 8, "num_hidden_layers": 3}, state=True),
    Family("falcon_mamba", "falcon_mamba", {"hidden_size": 64, "state_size": 8, "num_hidden_layers": 3}, state=True),
    Family(
        "mamba2",
        "mamba2",
        {
            "hidden_size": 64,
            "num_heads": 4,
            "head_dim": 32,
            "n_groups": 1,
            "state_size": 16,
            "num_hidden_layers": 3,
            "chunk_size": 16,
        },
        state=True,
    ),
    Family(
        "mamba2_groups",
        "mamba2",
        {
            "hidden_size": 64,
            "num_heads": 4,
            "head_dim": 32,
            "n_groups": 2,
            "state_size": 16,
            "num_hidden_layers": 3,
            "chunk_size": 16,
        },
        state=True,
    ),
    hybrid(
        "falcon_h1",
        {
            **SSM,
            "mamba_d_ssm": 128,
            "mamba_expand": 1,
            "lm_head_multiplier": 0.6,
            "embedding_multiplier": 2.0,
            "key_multiplier": 0.8,
            "attention_out_multiplier": 0.9,
            "ssm_out_multiplier": 0.7,
        },
    ),
    hybrid("bamba", {**SSM, "mamba_d_head": 64, "attn_layer_indices": [1, 3]}),
    hybrid(
        "granitemoehybrid",
        {
            **SSM,
            **LOCAL_MOE,
            "mamba_d_head": 64,
            "shared_intermediate_size": 48,
            "layer_types": ["mamba", "attention"] * 2,
            "logits_scaling": 2.0,
        },
    ),
    hybrid(
        "jamba",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 8,
            "use_mamba_kernels": False,
        },
    ),
    hybrid(
        "zamba2",
        {
            "num_key_value_heads": 4,
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
            "mamba_d_state": 16,
            "n_mamba_heads": 4,
            "chunk_size": 16,
            "num_mem_blocks": 2,
            "adapter_rank": 8,
            "use_mem_rope": True,
        },
        base={key: value for key, value in WIDE.items() if key != "head_dim"},
    ),
    hybrid(
        "nemotron_h",
        {
            "layers_block_type": ["mamba", "moe", "attention", "mlp"],
            "ssm_state_size": 16,
            "mamba_num_heads": 4,
            "mamba_head_dim": 32,
            "n_groups": 2,
            "chunk_size": 16,
            "n_routed_experts": 4,
            "moe_intermediate_size": 48,
            "moe_shared_expert_intermediate_size": 48,
            "hidden_dropout": 0.1,
        },
        base=DENSE,
    ),
    hybrid(
        "lfm2",
        {
            "layer_types": ["conv", "full_attention"] * 2,
            "conv_bias": True,
            "conv_L_cache": 3,
            "conv_dim": 128,
            "block_dim": 128,
        },
    ),
    hybrid(
        "lfm2_moe",
        {**MOE, "layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1, "conv_L_cache": 3},
    ),
    hybrid(
        "qwen3_next",
        {
            **DELTA,
            **MOE,
            "shared_expert_intermediate_size": 48,
            "layer_types": ["linear_attention", "full_attention"] * 2,
        },
        base=DENSE,
    ),
    hybrid("qwen3_5_text", {**DELTA, "layer_types": ["linear_attention", "full_attention"] * 2}, base=DENSE),
    hybrid(
        "qwen3_5_moe_text",
        {
            **DELTA,
            **MOE,
            "shared_expert_intermediate_size": 48,
            "layer_types": ["linear_attention", "full_attention"] * 2,
        },
        base=DENSE,
    ),
    hybrid(
        "olmo_hybrid",
        {**DELTA, "linear_num_key_heads": 4, "layer_types": ["linear_attention", "full_attention"] * 2},
    ),
    hybrid(
        "minimax",
        {
            **LOCAL_MOE,
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "block_size": 16,
            "router_jitter_noise": 0.1,
        },
    ),
    hybrid(
        "recurrent_gemma",
        {
            "num_hidden_layers": 3,
            "num_key_value_heads": 1,
            "lru_width": 64,
            "attention_window_size": WINDOW,
            "logits_soft_cap": 3.0,
        },
        base={k: v for k, v in DENSE.items() if k not in ("head_dim", "num_attention_heads")}
        | {"num_attention_heads": 2},
    ),
    Family(
        "rwkv",
        "rwkv",
        {"hidden_size": 64, "attention_hidden_size": 64, "num_hidden_layers": 3, "context_length": 256},
        state=True,
    ),
)

CONDITIONAL = (
    Family(
        "gemma3_conditional",
        "gemma3",
        {
            "text_config": {
                "model_type": "gemma3_text",
                **DENSE,
                **IDS,
                "vocab_size": VOCAB,
                "sliding_window": WINDOW,
                "layer_types": SLIDE,
                "query_pre_attn_scalar": 20,
            },
            "vision_config": {"model_type": "siglip_vision_model", **VISION},
            "mm_tokens_per_image": 1,
            "boi_token_index": 300,
            "eoi_token_index": 301,
            "image_token_index": 302,
        },
        conditional=True,
    ),
    Family(
        "mistral3_conditional",
        "mistral3",
        {
            "text_config": {
                "model_type": "mistral",
                **DENSE,
                **IDS,
                "vocab_size": VOCAB,
                "sliding_window": WINDOW,
                "tie_word_embeddings": False,
            },
            "vision_config": {"model_type": "pixtral", **VISION, "head_dim": 16},
            "image_token_index": 302,
            "tie_word_embeddings": False,
        },
        conditional=True,
    ),
    Family(
        "qwen3_5_conditional",
        "qwen3_5",
        {
            "text_config": {
                **DENSE,
                **IDS,
                **DELTA,
                "vocab_size": VOCAB,
                "layer_types": ["linear_attention", "full_attention"] * 2,
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 64,
                "num_position_embeddings": 16,
            },
            "image_token_id": 302,
            "video_token_id": 303,
            "vision_start_token_id": 300,
            "vision_end_token_id": 301,
        },
        state=True,
        conditional=True,
    ),
)
