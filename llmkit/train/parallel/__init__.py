"""Scale-out: one model on many ranks, by the spec's `parallel`.

mesh      which rank does what
tensor    matrices cut over ranks, as components say (`parallel = {"query": "heads", "output": "row"}`)
context   sequences cut over ranks
pipeline  layers cut over ranks
pieces    what a rank holds of each parameter; from a whole one and back
engine    one optimizer step over all of it
account   what each rank would hold and send, without any rank
"""

from __future__ import annotations

from accelerate import Accelerator

from llmkit.core.spec import Spec
from llmkit.train.engine import Engine
from llmkit.train.parallel.checks import check_ranks, plain


def make_engine(spec: Spec, accelerator: Accelerator) -> Engine:
    """The engine that a spec's `parallel` asks for. `UserError` where the ranks are not as many, or something cannot be combined."""
    check_ranks(spec, accelerator.num_processes)
    if plain(spec):
        return Engine(spec, accelerator)
    if spec.parallel.pp > 1:
        from llmkit.train.parallel.pipeline import PipelineEngine

        return PipelineEngine(spec, accelerator)
    from llmkit.train.parallel.engine import ParallelEngine

    return ParallelEngine(spec, accelerator)
