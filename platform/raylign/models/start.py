"""The model that a run starts from, and its conversation as text and ids."""

from __future__ import annotations

from raylign.chat.template import ChatTemplate
from raylign.config.schema import Config, Past
from raylign.models.tiny import build_tiny_model, model_cache
from raylign.models.tokenizer import load_tokenizer


def start_folder(config: Config) -> str:
    """The folder or id that `model.path` names; without one the tiny model, built when it is not in the cache."""
    model = config.model
    return model.path or str(build_tiny_model(model.tiny, model_cache(config.run.cache_dir)))


def start_template(config: Config, folder: str) -> ChatTemplate:
    """The chat template of the model in a folder, with the arguments that the run gives it."""
    tokenizer = load_tokenizer(folder, config.model.trust_remote_code)
    return ChatTemplate(tokenizer, config.model.template_args, fresh=config.rollout.past is Past.fresh)
