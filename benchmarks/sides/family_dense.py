"""Families of attention and dense feed-forward layers, in shapes whose traits show on 64 tokens."""

from __future__ import annotations

from benchmarks.sides.family_parts import LAYERS, SLIDE, WIDE, WINDOW, dense

GPT = {"n_embd": 64, "n_layer": 3, "n_head": 2, "n_positions": 256}

PLAIN = (
    # ------------------------------------------------------------------------------------------ Llama and its like
    dense("llama", {"attention_bias": True, "mlp_bias": True}),
    dense("mistral", {"sliding_window": WINDOW}),
    dense("ministral", {"sliding_window": WINDOW, "layer_types": SLIDE}),
    dense("qwen2", base=WIDE),
    dense(
        "qwen2_window",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
        "qwen2",
        WIDE,
    ),
    dense("qwen3"),
    dense(
        "phi", {"qk_layernorm": False, "partial_rotary_factor": 0.5, "embd_pdrop": 0.1, "resid_pdrop": 0.1}, base=WIDE
    ),
    dense("phi3", {"sliding_window": WINDOW, "embd_pdrop": 0.1, "resid_pdrop": 0.1}, base=WIDE),
    dense("stablelm", {"use_qkv_bias": True, "hidden_dropout": 0.1, "attention_dropout": 0.1}, base=WIDE),
    dense("nemotron", {"attention_bias": True, "mlp_bias": True, "attention_dropout": 0.1}),
    dense("olmo", {"clip_qkv": 0.8}, base=WIDE),
    dense("olmo2", base=WIDE),
    dense("olmo3", {"sliding_window": WINDOW, "layer_types": SLIDE}, base=WIDE),
    dense(
        "granite",
        {
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.2,
            "attention_bias": True,
        },
        base=WIDE,
    ),
    dense("cohere", {"logit_scale": 0.5, "use_qk_norm": True}, base=WIDE),
    dense("cohere2", {"logit_scale": 0.5, "sliding_window": WINDOW, "layer_types": SLIDE}, base=WIDE),
    dense("smollm3", {"no_rope_layer_interval": 2, "attention_bias": True}, base=WIDE),
    dense("glm", {"attention_bias": True, "attention_dropout": 0.1}),
    dense("glm4"),
    dense("exaone4", {"sliding_window": WINDOW, "layer_types": SLIDE}, base=WIDE),
    dense("ernie4_5"),
    dense("seed_oss"),
    dense(
        "starcoder2",
        {"sliding_window": WINDOW, "residual_dropout": 0.1, "embedding_dropout": 0.1, "attention_dropout": 0.1},
        base=WIDE,
    ),
    dense("hunyuan_v1_dense", {"attention_bias": True}),
    dense("apertus", {"attention_bias": True}, base=WIDE),
    dense("arcee", {"attention_bias": True}),
    dense("helium", base=WIDE),
    dense(
        "persimmon",
        {"hidden_dropout": 0.1},
        base={key: value for key, value in WIDE.items() if key not in {"num_key_value_heads", "head_dim"}},
    ),
    dense("doge", {"keep_window_size": WINDOW, "hidden_dropout": 0.1}, base=WIDE),
    # ------------------------------------------------------------------------------------------------------- Gemma
    dense("gemma"),
    dense(
        "gemma2",
        {
            "sliding_window": WINDOW,
            "layer_types": SLIDE,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 20,
        },
    ),
    dense("gemma3_text", {"sliding_window": WINDOW, "layer_types": SLIDE, "query_pre_attn_scalar": 20}),
    # ---------------------------------------------------------------------------------- positions and heads of old
    dense("gpt2", GPT, base={}),
    dense("gpt_bigcode", GPT, base={}),
    dense("gptj", {**GPT, "rotary_dim": 16, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}, base={}),
    dense(
        "gpt_neo",
        {
            "hidden_size": 64,
            "num_layers": 4,
            "num_heads": 2,
            "window_size": WINDOW,
            "attention_types": [[["global", "local"], 2]],
            "max_position_embeddings": 256,
            "resid_dropout": 0.1,
        },
        base={},
    ),
    dense("gpt_neox", {"hidden_dropout": 0.1, "attention_dropout": 0.1, "rotary_pct": 0.5}, base=WIDE),
    dense("codegen", {**GPT, "n_ctx": 256, "n_head": 4, "n_embd": 128, "rotary_dim": 16, "attn_pdrop": 0.1}, base={}),
    dense("openai_gpt", GPT, "openai-gpt", base={}),
    dense(
        "opt",
        {
            "hidden_size": 64,
            "word_embed_proj_dim": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "ffn_dim": 96,
            "max_position_embeddings": 256,
            "attention_dropout": 0.1,
            "layerdrop": 0.0,
        },
        base={},
    ),
    dense("bloom", {"hidden_size": 64, "n_layer": 3, "n_head": 2, "hidden_dropout": 0.1}, base={}),
    dense("mpt", {"d_model": 64, "n_heads": 2, "n_layers": 3, "max_seq_len": 256, "no_bias": True}, base={}),
    dense(
        "falcon",
        {
            "hidden_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "new_decoder_architecture": True,
            "bias": True,
            "hidden_dropout": 0.1,
        },
        base={},
    ),
    dense(
        "falcon_alibi",
        {
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "alibi": True,
            "parallel_attn": False,
            "multi_query": False,
        },
        "falcon",
        base={},
    ),
    dense(
        "xglm",
        {"d_model": 64, "ffn_dim": 96, "num_layers": 3, "attention_heads": 2, "max_position_embeddings": 256},
        base={},
    ),
    dense(
        "biogpt",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": 256,
        },
        base={},
    ),
    dense(
        "modernbert_decoder",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "local_attention": WINDOW,
            "layer_types": SLIDE,
            "embedding_dropout": 0.1,
            "mlp_dropout": 0.1,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "max_position_embeddings": 256,
        },
        "modernbert-decoder",
        base={},
    ),
)
