"""Shared fixtures: one local Ray cluster, one tiny model, and the real data sets where they are present.

The environment is set before anything imports Ray, vLLM or DeepSpeed; all three read it at import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_prestart_worker_first_driver="0",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    TORCHDYNAMO_DISABLE="1",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_CONFIGURE_LOGGING="0",
    DS_ACCELERATOR="cpu",
)

ROOT = Path(__file__).resolve().parents[1]


LONG = ("test_variants.py", "test_chaos.py", "test_resume.py", "test_nodes.py", "test_hypo.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files of whole runs come first, so that no worker waits for another one's last file."""
    whole = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path in whole and item.path.name in LONG else 99)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local cluster of 4 logical CPUs, shared by the whole session. Tests must end the actors that they start."""
    import ray
    import warm

    ray.init(address=warm.cluster(cpus=4, memory=200_000_000).address, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a very small Qwen3 with its tokenizer and chat template."""
    from raylign.config.schema import TinyModel
    from raylign.models.tiny import build_tiny_model

    shape = TinyModel(hidden_size=64, layers=2, heads=2, kv_heads=1, head_dim=32, intermediate_size=128, context=256)
    return build_tiny_model(shape, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A function from a path below the shared data folder to the file; skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = ROOT.parent / "shared" / "data" / relative
        if not path.exists():
            pytest.skip(f"real data is absent: {path}")
        return path

    return find
