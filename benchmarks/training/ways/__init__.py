"""A file a library: `train(job, conductor)` trains for ever, and ticks after each step."""
