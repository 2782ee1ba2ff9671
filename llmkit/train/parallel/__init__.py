"""Scale-out: one model on many ranks, by the spec's `parallel`.

mesh      which rank does what
tensor    matrices cut over ranks, as components say (`parallel = {"query": "heads", "output": "row"}`)
context   sequences cut over ranks
pipeline  layers cut over ranks
pieces    what a rank holds of each parameter; from a whole one and back
engine    one optimizer step over all of it
account   what each rank would hold and send, without any rank
"""
