"""`python -m llmkit` is the same program as `llmkit`."""

from llmkit.cli import main

main()
