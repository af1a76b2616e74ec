"""Grid games played by text: Sokoban and FrozenLake, with the agent format that they share."""
