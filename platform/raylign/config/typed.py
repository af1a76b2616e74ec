"""The merged layers as a typed `Config`; every key and value that fits no field is reported with its layer."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylign.config.layers import COMMAND_LINE, Layers
from raylign.config.schema import Config
from raylign.config.strict import check, leaf_keys, nearest_keys, part_keys
from raylign.errors import Problem


def to_config(
    tree: dict[str, object], layers: Layers, groups: set[str], problems: list[Problem]
) -> tuple[Config | None, dict[str, object]]:
    """The typed config and its plain form; appends to `problems`."""
    clean, faults = check(Config, tree)
    everywhere = [*leaf_keys(Config), *part_keys(tree)] if faults else []
    for fault in faults:
        origin = layers.origin(fault.key)
        where = "" if origin in ("", COMMAND_LINE) else f" (set in {origin})"
        siblings = fault.siblings if "." in fault.key else tuple(dict.fromkeys([*fault.siblings, *sorted(groups)]))
        fix = fault.fix or nearest_keys(fault.key, everywhere, siblings)
        problems.append(Problem(key=fault.key, value=fault.value, why=fault.why + where, fix=fix))
    try:
        config = OmegaConf.to_object(OmegaConf.merge(_structured(), _literal(clean)))
    except (OmegaConfBaseException, ValueError) as cause:
        problems.append(Problem(key="configuration", value="", why=str(cause).splitlines()[0], fix="correct the value"))
        return None, clean
    assert isinstance(config, Config)
    return config, clean


def _literal(value: object) -> object:
    """A resolved tree with every ``${`` escaped, so that it is not interpolated again."""
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return re.sub(r"(\\*)\$\{", lambda hit: hit[1] * 2 + "\\${", value) if isinstance(value, str) else value


@functools.cache
def _structured() -> object:
    """The typed node of all settings; a merge copies it."""
    return OmegaConf.structured(Config)
