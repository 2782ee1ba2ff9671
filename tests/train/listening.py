"""A reporter that keeps what it is told."""

from llmkit.train.progress import Silent


class Listening(Silent):
    """`said`: every line for a person, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
