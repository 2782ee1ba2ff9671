"""Proof that a run which is killed and resumed is the run that was left alone: `llmkit verify-resume`.

`runs` makes the runs, each in `children`, processes of its own, which a `witness` watches; `comparison` says in what two of them
differ; `certificate` is what is written about it.
"""
