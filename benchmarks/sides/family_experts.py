"""Families with several experts a layer."""

from __future__ import annotations

from benchmarks.sides.family_parts import DENSE, LOCAL_MOE, MOE, SLIDE, WIDE, WINDOW, dense

MLA = DENSE | {
    "num_key_value_heads": 4,
    "head_dim": 64,
    "q_lora_rank": 24,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 64,  # 512 + 64 is the one size of vLLM's CPU kernel
    "v_head_dim": 32,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}

EXPERTS = (
    dense("mixtral", {**LOCAL_MOE, "sliding_window": WINDOW, "router_jitter_noise": 0.1}),
    dense(
        "phimoe",
        {
            **LOCAL_MOE,
            "sliding_window": WINDOW,
            "attention_bias": True,
            "lm_head_bias": True,
            "input_jitter_noise": 0.1,
            "router_jitter_noise": 0.1,
        },
        base=WIDE,
    ),
    dense("qwen2_moe", {**MOE, "shared_expert_intermediate_size": 48}, base=WIDE),
    dense("qwen3_moe", {**MOE, "mlp_only_layers": [0], "norm_topk_prob": True}),
    dense("olmoe", {"num_experts": 4, "num_experts_per_tok": 2}, base=WIDE),
    dense("deepseek_v2", {"topk_method": "group_limited_greedy"}, base=MLA),
    dense("deepseek_v3", {"topk_method": "noaux_tc"}, base=MLA),
    dense("gpt_oss", {**LOCAL_MOE, "sliding_window": WINDOW, "layer_types": SLIDE}),
    dense("granitemoe", {**LOCAL_MOE, "logits_scaling": 2.0, "embedding_multiplier": 3.0}, base=WIDE),
    dense(
        "glm4_moe",
        {k: v for k, v in MLA.items() if "lora" not in k and not k.startswith(("qk_", "v_"))}
        | {"num_key_value_heads": 2, "head_dim": 32, "use_qk_norm": True},
    ),
    dense(
        "ernie4_5_moe",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 48, "moe_num_shared_experts": 1},
        base=WIDE,
    ),
    dense("hunyuan_v1_moe", {"num_experts": 4, "moe_topk": 2}),
    dense(
        "dbrx",
        {
            "d_model": 128,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 256,
            "resid_pdrop": 0.1,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "moe_jitter_eps": 0.1},
        },
        base={},
    ),
    dense(
        "llama4_text",
        {
            **LOCAL_MOE,
            "intermediate_size_mlp": 96,
            "interleave_moe_layer_step": 2,
            "no_rope_layer_interval": 2,
            "attention_chunk_size": 16,
            "floor_scale": 4,
        },
    ),
)
