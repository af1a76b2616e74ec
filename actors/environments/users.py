"""Users of dialogues: recorded messages, and a chat model in the role of the user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylign.actors.environments.dialogue import Dialogue, User
from raylign.actors.judge.client import judge_problems, shared_judge
from raylign.config.resolve import Run
from raylign.config.schema import Node
from raylign.errors import Problem
from raylign.records import Message

MESSAGES = "users"  # key of Prompt.meta: the user's messages after the first
GOAL = "goal"  # key of Prompt.meta: what a simulated user wants
SCHEMA = {
    "type": "object",
    "properties": {"thought": {"type": "string"}, "done": {"type": "boolean"}, "message": {"type": "string"}},
    "required": ["thought", "done", "message"],
    "additionalProperties": False,
}
ROLE = (
    "You play the user of an assistant. Stay with the goal below, reveal it bit by bit as a person would, and never do "
    "the assistant's work. Answer with `thought`, `done` (true once the goal is reached or cannot be), and `message`, "
    "what the user says next."
)


class FixedUser(User):
    """Sends ``prompt.meta["users"]`` in order, whatever the policy replied."""

    @dataclass
    class Config:
        """No settings."""

    def __init__(self, config: Config) -> None:
        self.config = config

    async def next(self, dialogue: Dialogue) -> str | None:
        """The record's message of the next turn."""
        messages = dialogue.prompt.meta.get(MESSAGES, ())
        return str(messages[dialogue.turn]) if dialogue.turn < len(messages) else None


class SimulatedUser(User):
    """A chat model that plays the user of ``prompt.meta["goal"]``; each episode samples its own messages."""

    @dataclass
    class Config:
        """Who plays: fields of `raylign.actors.judge.client.Judge.Config`. role: the instruction, goal not included."""

        model: Node = field(default_factory=dict)
        role: str = ROLE

        def __post_init__(self) -> None:
            if not self.model:
                raise ValueError("model is empty: name who plays the user")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What is wrong with the model."""
        return judge_problems(f"{key}.model", config.model)

    def __init__(self, config: Config) -> None:
        self.config = config

    async def next(self, dialogue: Dialogue) -> str | None:
        """The model's message. Raises JudgeError when none can be read."""
        judge = shared_judge(self.config.model)
        answer = await judge.ask(self._messages(dialogue), _read, SCHEMA, salt=str(dialogue.seed))
        dialogue.counts.add(answer.counts)
        return answer.value

    def _messages(self, dialogue: Dialogue) -> list[Message]:
        """The dialogue from the user's side: what the model wrote is its own, visible replies are the other's."""
        goal = dialogue.prompt.meta.get(GOAL, "")
        messages: list[Message] = [{"role": "system", "content": f"{self.config.role}\n\nGoal: {goal}"}]
        messages.append({"role": "user", "content": "Begin."})
        for turn in dialogue.turns:
            messages.append({"role": "assistant", "content": turn.user})
            replies = [step.said.reply for step in turn.steps if step.said.reply]
            messages.append({"role": "user", "content": "\n".join(replies) or "(no reply)"})
        return messages


def _read(value: Any) -> str | None:
    if not isinstance(value["done"], bool) or not isinstance(value["message"], str):
        raise ValueError("done or message is of the wrong type")
    return None if value["done"] else value["message"]
