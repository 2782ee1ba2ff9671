"""Training steps beside those of others: `python -m benchmarks.training --help`."""
