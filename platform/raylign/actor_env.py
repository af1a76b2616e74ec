"""Environment variables that third-party engines read at import; set per actor, never settings of ours."""

from __future__ import annotations


def actor_env(threads: int, gpu: bool) -> dict[str, str]:
    """For `runtime_env={"env_vars": ...}` of an actor. threads: OpenMP and BLAS threads of its process."""
    env = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CONFIGURE_LOGGING": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if not gpu:
        env |= {
            "CUDA_VISIBLE_DEVICES": "",  # Ray shows every GPU to an actor that asked for none
            "TORCHDYNAMO_DISABLE": "1",
            "DS_ACCELERATOR": "cpu",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",
        }
    return env
