"""Whether the chat templates of a model's folder are templates, and say what a user says."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raylign.models.tokenizer_check import SPECIAL, read_json, text_of

FILE = "chat_template.jinja"
SAID = "what is said"
Faults = Iterator[tuple[str, str]]  # what is wrong, what to do


def template_faults(folder: Path) -> Faults:
    """Broken templates, and a default one that a plain question ends or that drops it. Raises ValueError."""
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    tokens = {f"{kind}_token": text_of(settings.get(f"{kind}_token") or "") for kind in SPECIAL}
    for place, text, default in _templates(folder, settings):
        fault = template_fault(text, tokens, default)
        if fault:
            yield f"its {place} {fault}", f"correct {place}, or copy it again from the model's origin"


def template_fault(text: str, tokens: dict[str, str], default: bool) -> str:
    """Why a template cannot be used; empty when it can. default: whether it must read a plain question."""
    from jinja2 import TemplateError

    try:
        template = _environment().from_string(text)
    except (TemplateError, RecursionError) as cause:
        line = getattr(cause, "lineno", None)
        return f"is broken{f' in line {line}' if line else ''} ({cause})"
    if not default:
        return ""
    try:
        read = template.render(messages=[{"role": "user", "content": SAID}], add_generation_prompt=True, **tokens)
    except Exception as cause:  # noqa: BLE001 (templates are programs and raise whatever they like)
        return f"cannot render a user's message ({type(cause).__name__}: {cause})"
    return "" if SAID in read else "leaves out what a user says"


def _templates(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(file, text, whether it is the one that is used) of each template. A file of its own goes before a setting."""
    main = folder / FILE
    for file in (main, *sorted(folder.glob("additional_chat_templates/*.jinja"))):
        if file.exists():
            try:
                yield file.name, file.read_text(), file == main
            except (OSError, UnicodeDecodeError) as cause:
                raise ValueError(f"its {file.name} cannot be read ({cause})") from None
    file = folder / "chat_template.json"
    for name, held in ((file.name, read_json(file) if file.exists() else {}), ("tokenizer_config.json", settings)):
        template = held.get("chat_template")
        named = template if isinstance(template, list) else [{"name": "default", "template": template}]
        for entry in named:
            text = entry.get("template") if isinstance(entry, dict) else None
            if isinstance(text, str):
                yield name, text, not main.exists() and entry.get("name") == "default"
            elif template is not None:
                raise ValueError(f"its {name} holds a chat_template that is no text")


def _environment() -> Any:
    """As transformers renders."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what an assistant says, and prints what is inside."""

        tags = {"generation"}  # noqa: RUF012 (the library's own form)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def as_json(value: Any, **settings: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **settings})

    extensions: list[Any] = [Generation, "jinja2.ext.loopcontrols"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = as_json
    environment.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.datetime.now().strftime(form),
    }
    return environment
