"""Names that TRL, verl and OpenRLHF have for settings which are called otherwise here, and our own former names.

A key is looked up by its longest known ending (``actor_rollout_ref.rollout.n``, then ``rollout.n``, then ``n``). Listed
are keys here, the likeliest first; ``*`` stands for any one name, such as that of a stage. What needs no setting at all
has a note that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple


class Here(NamedTuple):
    """Where a setting of another framework stands here. Example: ``Here(("stages.*.group_size",), "")``"""

    keys: tuple[str, ...]
    note: str = ""


def _keys(*keys: str, note: str = "") -> Here:
    return Here(keys, note)


RATE = _keys("learner.optim.lr", "*.optim.lr", "stages.*.optim.lr")
MODEL, DATA = _keys("model.path"), _keys("data.path")
KL = _keys("stages.*.objective.beta", "objective.kl_coef", "advantage.kl_coef")
KL_COEF = _keys("objective.kl_coef", "advantage.kl_coef")
GROUP = _keys("stages.*.group_size", note="samples of one prompt")
PROMPTS = _keys(
    "stages.*.prompts_per_step",
    "stages.*.batch_size",
    "stages.*.batch_pairs",
    note="counted over all ranks; what fits a device at a time is learner.micro_batch_tokens",
)
MICRO = _keys("learner.micro_batch_tokens", note="in tokens; the batch is stages.NAME.prompts_per_step or .batch_size")
ANSWER = _keys("rollout.sampling.max_tokens")
ASKED = _keys("data.max_prompt_tokens")
STEPS = _keys("stages.*.steps", "stages.*.epochs", note="of whole batches")
WARMUP = _keys("learner.optim.warmup_steps", "stages.*.warmup_share", "*.optim.warmup_steps")
SCHEDULE = _keys("learner.optim.schedule", "stages.*.optim.schedule")
CLIP = _keys("objective.clip_low", note="and objective.clip_high")
VARIANT = _keys("variant", note="e.g. variant=rloo; raylign recipes lists them")
RANKS = _keys("learner.ranks", note="one GPU each; engines are rollout.workers")
FOLDER = _keys("run.dir")
EVALUATE, SAVE = _keys("stages.*.eval_every"), _keys("run.save_every")
REWARD = _keys(
    "rewards.*.fn", note="rewards.NAME.fn={_target_: raylign.actors.reward.python.PythonFunction, path: m.f}"
)
RESAMPLE = _keys("stages.*.dynamic_sampling")
ALWAYS = "rows are always packed, and padding never computed"

# fmt: off
TRL: Mapping[str, Here] = {
    "learning_rate": RATE, "model_name_or_path": MODEL, "model_name": MODEL, "dataset_name": DATA, "dataset": DATA,
    "dataset_path": DATA, "beta": KL, "num_generations": GROUP, "max_completion_length": ANSWER,
    "max_new_tokens": ANSWER, "max_prompt_length": ASKED,
    "max_length": _keys("stages.*.max_tokens", "model.max_context"),
    "max_seq_length": _keys("stages.*.max_tokens", "model.max_context"), "per_device_train_batch_size": PROMPTS,
    "generation_batch_size": PROMPTS, "gradient_accumulation_steps": MICRO,
    "per_device_eval_batch_size": _keys("stages.*.eval_prompts", "stages.*.prompts"), "num_train_epochs": STEPS,
    "max_steps": STEPS, "num_iterations": _keys("stages.*.epochs"),
    "steps_per_generation": _keys("stages.*.minibatches"), "warmup_ratio": WARMUP, "lr_scheduler_type": SCHEDULE,
    "adam_beta1": _keys("learner.optim.betas"), "adam_beta2": _keys("learner.optim.betas"),
    "adam_epsilon": _keys("learner.optim.eps"), "epsilon": CLIP, "epsilon_high": _keys("objective.clip_high"),
    "cliprange": CLIP, "cliprange_value": _keys("critic.objective"), "vf_coef": _keys("critic.optim.lr"),
    "delta": _keys("objective.dual_clip"), "scale_rewards": _keys("advantage.std"),
    "loss_type": _keys("objective.aggregation", "stages.*.objective.loss", note="or variant=dapo, dr_grpo, gspo"),
    "importance_sampling_level": _keys("objective.aggregation", note="sequence level: variant=gspo"),
    "mask_truncated_completions": _keys("stages.*.mask_truncated"), "reward_weights": _keys("rewards.*.weight"),
    "reward_funcs": REWARD, "vllm_gpu_memory_utilization": _keys("rollout.gpu_memory"),
    "vllm_tensor_parallel_size": _keys("rollout.tensor_parallel"),
    "vllm_importance_sampling_correction": _keys("objective.mismatch.mode"),
    "vllm_importance_sampling_cap": _keys("objective.mismatch.high"),
    "use_vllm": _keys(note="rollouts run in vLLM"), "bf16": _keys("model.dtype"), "fp16": _keys("model.dtype"),
    "torch_dtype": _keys("model.dtype"), "chat_template_kwargs": _keys("model.template_args"),
    "report_to": _keys("telemetry.wandb", "telemetry.tensorboard"), "output_dir": FOLDER, "logging_dir": FOLDER,
    "logging_steps": _keys(note="every step is recorded"), "save_steps": SAVE,
    "save_total_limit": _keys("run.keep_checkpoints"), "eval_steps": EVALUATE,
    "eval_dataset": _keys("data.eval_path"), "resume_from_checkpoint": _keys("run.resume"),
    "assistant_only_loss": _keys("stages.*.all_turns"), "completion_only_loss": _keys("stages.*.all_turns"),
    "packing": _keys(note=ALWAYS), "padding_free": _keys(note=ALWAYS), "dataset_text_field": _keys("data.prompt_key"),
    "ref_model": _keys("frozen.reference.path"), "test_size": _keys("data.holdout"),
    "vllm_mode": _keys("rollout.gpus", note="below 1 shares the learner's GPU"),
}
VERL: Mapping[str, Here] = {
    "actor_rollout_ref.model.path": MODEL, "actor.optim.lr": RATE, "critic.model.path": _keys("critic.path"),
    "ref.model.path": _keys("frozen.reference.path"), "rollout.n": GROUP,
    "rollout.name": _keys(note="rollouts run in vLLM"), "rollout.response_length": ANSWER,
    "rollout.prompt_length": ASKED, "response_length": ANSWER, "max_response_length": ANSWER, "train_files": DATA,
    "val_files": _keys("data.eval_path"), "train_batch_size": PROMPTS, "gen_batch_size": PROMPTS,
    "val_batch_size": _keys("stages.*.eval_prompts", "stages.*.prompts"), "kl_coef": KL_COEF, "kl_loss_coef": KL_COEF,
    "use_kl_loss": KL_COEF, "use_kl_in_reward": _keys("advantage.kl_coef"),
    "kl_ctrl.kl_coef": _keys("advantage.kl_coef"),
    "kl_penalty": _keys("advantage.kl_estimator", "objective.kl_estimator"),
    "kl_loss_type": _keys("objective.kl_estimator"), "clip_ratio": CLIP,
    "clip_ratio_low": _keys("objective.clip_low"), "clip_ratio_high": _keys("objective.clip_high"),
    "clip_ratio_c": _keys("objective.dual_clip"), "loss_agg_mode": _keys("objective.aggregation"),
    "loss_mode": VARIANT, "entropy_coeff": _keys("objective.entropy_coef"), "ppo_epochs": _keys("stages.*.epochs"),
    "ppo_mini_batch_size": _keys("stages.*.minibatches"), "ppo_micro_batch_size": MICRO,
    "ppo_micro_batch_size_per_gpu": MICRO, "ppo_max_token_len_per_gpu": MICRO,
    "log_prob_micro_batch_size_per_gpu": MICRO, "log_prob_max_token_len_per_gpu": MICRO, "use_dynamic_bsz": MICRO,
    "grad_clip": _keys("learner.optim.max_grad_norm"), "lr_warmup_steps": _keys("learner.optim.warmup_steps"),
    "lr_warmup_steps_ratio": WARMUP, "warmup_style": SCHEDULE, "total_epochs": STEPS, "total_training_steps": STEPS,
    "test_freq": EVALUATE, "save_freq": SAVE, "project_name": _keys("telemetry.wandb_project"),
    "experiment_name": FOLDER, "default_local_dir": FOLDER, "resume_mode": _keys("run.resume"),
    "logger": _keys("telemetry.wandb"), "n_gpus_per_node": RANKS,
    "nnodes": _keys("scale", note="scale=node is one machine, scale=cluster are several"), "adv_estimator": VARIANT,
    "norm_adv_by_std_in_grpo": _keys("advantage.std"), "lam": _keys("advantage.lam"),
    "gae_lambda": _keys("advantage.lam"), "tensor_model_parallel_size": _keys("rollout.tensor_parallel"),
    "gpu_memory_utilization": _keys("rollout.gpu_memory"), "max_num_seqs": _keys("rollout.max_sequences"),
    "max_model_len": _keys("model.max_context"), "max_num_batched_tokens": _keys("rollout.max_sequences"),
    "val_kwargs.n": _keys("stages.*.samples", "stages.*.eval_samples"), "do_sample": _keys("stages.*.greedy"),
    "filter_overlong_prompts": _keys("data.max_prompt_tokens", note="longer ones are dropped and counted"),
    "truncation": _keys("stages.*.truncation", "data.max_prompt_tokens"), "reward_fn_key": _keys("data.domain_key"),
    "custom_reward_function": REWARD, "custom_reward_function.path": REWARD, "custom_reward_function.name": REWARD,
    "param_offload": _keys("learner.offload"), "optimizer_offload": _keys("learner.offload"),
    "enable_gradient_checkpointing": _keys("learner.gradient_checkpointing"),
    "use_remove_padding": _keys(note=ALWAYS), "overlong_buffer.len": _keys("shaper.overlong_buffer"),
    "overlong_buffer.penalty_factor": _keys("shaper.overlong_penalty"), "filter_groups.enable": RESAMPLE,
    "max_num_gen_batches": _keys("stages.*.sampling_rounds"), "tis_imp_ratio_cap": _keys("objective.mismatch.high"),
    "val_before_train": _keys("stages.before", note="a stage of its own; ~stages.before leaves it out"),
    "image_key": _keys(note="pictures are refused: models read text"),
}
OPENRLHF: Mapping[str, Here] = {
    "pretrain": MODEL, "prompt_data": DATA, "eval_data": _keys("data.eval_path"),
    "input_key": _keys("data.prompt_key"), "label_key": _keys("data.answer_key"),
    "output_key": _keys("data.answer_key"), "n_samples_per_prompt": GROUP, "rollout_batch_size": PROMPTS,
    "micro_train_batch_size": MICRO, "micro_rollout_batch_size": MICRO, "generate_max_len": ANSWER,
    "prompt_max_len": ASKED, "max_len": _keys("stages.*.max_tokens", "model.max_context"),
    "actor_learning_rate": RATE, "critic_learning_rate": _keys("critic.optim.lr"), "init_kl_coef": KL_COEF,
    "eps_clip": CLIP, "eps_clip_low_high": CLIP, "advantage_estimator": VARIANT, "num_episodes": STEPS,
    "max_epochs": _keys("stages.*.epochs", "stages.*.steps"), "max_samples": _keys("data.size"),
    "vllm_num_engines": _keys("rollout.workers"), "actor_num_gpus_per_node": RANKS,
    "ref_num_gpus_per_node": _keys("frozen.*.gpus"), "critic_num_gpus_per_node": _keys("critic.ranks"),
    "critic_pretrain": _keys("critic.path"), "remote_rm_url": REWARD, "save_path": FOLDER, "ckpt_path": FOLDER,
    "adam_offload": _keys("learner.offload"), "adam_betas": _keys("learner.optim.betas"),
    "l2": _keys("learner.optim.weight_decay"), "max_norm": _keys("learner.optim.max_grad_norm"),
    "lr_warmup_ratio": WARMUP, "lr_scheduler": SCHEDULE, "use_wandb": _keys("telemetry.wandb"),
    "use_tensorboard": _keys("telemetry.tensorboard"), "packing_samples": _keys(note=ALWAYS),
    "dynamic_filtering": RESAMPLE, "async_train": _keys("stages.*.staleness"), "lambd": _keys("advantage.lam"),
    "async_queue_size": _keys("stages.*.staleness"), "kl_estimator": _keys("objective.kl_estimator"),
    "enable_vllm_is_correction": _keys("objective.mismatch.mode"), "value_clip": _keys("critic.objective"),
    "apply_chat_template": _keys("model.template_args", note="the model's own chat template is always used"),
    "colocate_all_models": _keys("rollout.gpus", note="below 1 shares the GPU with learner and reference"),
}
OWN: Mapping[str, Here] = {  # what raylign itself said before
    "credit": _keys("advantage"), "scorers": _keys("frozen"), "scorer": _keys("frozen"),
    "world": _keys("environment"), "frozen.scorer_gpus": _keys("default_gpus.frozen"),
    "frozen.judge_gpus": _keys("default_gpus.judge"),
    "draws": _keys("stages.*.eval_samples", "stages.*.samples", "stages.*.group_size"),
    "eval_draws": _keys("stages.*.eval_samples"), "slots": _keys("rollout.workers"),
}
# fmt: on
BY_NAME = ("frozen", "environment")  # sections whose settings kept their names
TABLE: Mapping[str, Here] = {**TRL, **VERL, **OPENRLHF, **OWN}
RECIPES: Mapping[str, str] = {  # what others call a recipe
    "dpo": "recipe=hypo stages.preference.objective.reference_margin=dpo", "preference": "recipe=hypo",
    "simpo": "recipe=hypo stages.preference.objective.reference_margin=none stages.preference.objective.classify=false "
    "stages.preference.objective.logprob=mean",
    "rl": "recipe=grpo", "rlvr": "recipe=grpo", "rlhf": "recipe=grpo variant=ppo",
    "distill": "recipe=g_opd", "gkd": "recipe=g_opd", "opd": "recipe=g_opd",
}  # fmt: skip


def hint(key: str, known: Sequence[str]) -> str:
    """What a key of another framework is called here, as a fix; empty when none is known by that name.

    known: the keys that exist. A key that is like the unknown one's own section comes first.
    """
    names = key.split(".")
    for end in range(1, len(names)):  # a section that had another name
        former = OWN.get(".".join(names[:end]))
        if former and len(former.keys) == 1:
            section = former.keys[0]
            moved = ".".join([section, *names[end:]])
            return f"did you mean {moved if moved in known or section in BY_NAME else section}?"
    for start in range(len(names)):
        if here := TABLE.get(".".join(names[start:])):
            return _said(key, here, known)
    return ""


def _said(key: str, here: Here, known: Sequence[str]) -> str:
    note = f" ({here.note})" if here.note else ""
    if not here.keys:
        return f"leave it out: {here.note}"
    by_pattern = [[name for name in known if _is(name, pattern)] for pattern in here.keys]
    section = key.rpartition(".")[0]
    beside = [name for names in by_pattern for name in names if section and name.startswith(f"{section}.")]
    likeliest = beside or next((names for names in by_pattern if names), [])
    if likeliest:
        return f"did you mean {' or '.join(dict.fromkeys(likeliest[:3]))}?{note}"
    shown = next((pattern for pattern in here.keys if "*" not in pattern), here.keys[0]).replace("*", "NAME")
    return f"did you mean {shown}?{note}"


def _is(name: str, pattern: str) -> bool:
    """Whether a key is what a pattern means: as many names, each fitting."""
    return name.count(".") == pattern.count(".") and fnmatchcase(name, pattern)
