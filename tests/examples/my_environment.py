import random
from dataclasses import dataclass

from raylign.environment import Environment, Observation


class Guess(Environment):
    """A hidden digit; every guess is answered by larger or smaller."""

    @dataclass
    class Config:
        turns: int = 4

    def reset(self, prompt, seed):
        game = prompt.meta["env_seed"]  # not seed: a group's samples play one game, seed is each one's own noise
        self.hidden, self.turn = random.Random(game).randint(1, 9), 0
        return self.say(f"Guess a digit. Game {game}.")

    def step(self, action):
        self.turn += 1
        hit = action.strip() == str(self.hidden)
        if hit or self.turn == self.config.turns:
            return Observation(reward=float(hit), done=True, flags={"success": hit})
        return self.say("larger" if action.strip() < str(self.hidden) else "smaller", reward=0.0)

    def say(self, text, **outcome):
        return Observation(messages=({"role": "user", "content": text},), **outcome)
