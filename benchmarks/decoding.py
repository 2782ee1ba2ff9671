"""Tokens a second at batch 1, greedy, beside transformers and litgpt on the same weights, in one run.

    python benchmarks/decoding.py                    both shapes, all that is installed
    python benchmarks/decoding.py --shape small --new 64
    LLAMA_CPP=./llama_cpp python benchmarks/decoding.py --way llmkit --way llama.cpp

Rounds alternate between the ways, so that a machine that slows down does so for all; each way's median is told, and its ratio to the
best of the peers in bf16. Compiling happens in a first call that is not counted. Peers: `pip install transformers litgpt`; and llama.cpp,
the roof and no peer, where LLAMA_CPP says how `llama_cpp.cpp` is run: "PROGRAM [DIRECTORY OF BACKENDS]" (`pip install gguf` for its files).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import shlex
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers.pre_tokenizers import ByteLevel

from llmkit import build, load_spec
from llmkit.core.spec import Spec
from llmkit.interop.gguf import Vocabulary, architecture_of_spec, write_gguf
from llmkit.interop.pretrained import save_pretrained
from llmkit.model.decoder import Decoder
from llmkit.model.decoding import Decoding
from llmkit.model.generate import generate

SHAPES = {
    "small": {"d_model": 512, "n_layers": 8, "heads": 8, "d_ff": 1376},
    "110M": {"d_model": 768, "n_layers": 12, "heads": 12, "d_ff": 2048},
}
VOCABULARY = 32_000
PROMPT = [1, 5, 9, 2, 77, 30, 41, 8]

Way = Callable[[int], list[int]]
"""Makes so many new tokens after the prompt."""


def spec_of(shape: dict[str, int]) -> Spec:
    block = {
        "attention": {"type": "mha", "n_heads": shape["heads"]},
        "ffn": {"type": "swiglu", "d_ff": shape["d_ff"]},
        "norm": {"type": "rmsnorm", "eps": 1e-6},
    }
    model = {"d_model": shape["d_model"], "n_layers": shape["n_layers"], "max_seq_len": 512, "vocab_size": VOCABULARY, "block": block}
    return load_spec({"name": "decoding", "tokenizer": "bytes", "model": {**model, "position": "rope"}, "train": {"steps": 1}})


def our_ways(model: Decoder) -> dict[str, Way]:
    def way(decoding: Decoding) -> Way:
        return lambda new: generate(decoding, [PROMPT], max_new_tokens=new, temperature=0)[0]

    return {
        "llmkit bf16": way(Decoding(model, precision="bf16")),
        "llmkit bf16 compiled": way(Decoding(model, precision="bf16", compiled=True)),
        "llmkit int8 compiled": way(Decoding(model, precision="int8", compiled=True)),
    }


def transformers_ways(model: Decoder) -> dict[str, Way]:
    try:
        import transformers
    except ImportError:
        return {}

    def load() -> transformers.PreTrainedModel:
        with TemporaryDirectory() as directory:
            save_pretrained(model, Path(directory))
            return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()

    def way(theirs: transformers.PreTrainedModel, **options: object) -> Way:
        ids = torch.tensor([PROMPT])

        def make(new: int) -> list[int]:
            with torch.no_grad():
                made = theirs.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=new,
                    min_new_tokens=new,
                    do_sample=False,
                    pad_token_id=0,
                    **options,
                )
            return made[0, len(PROMPT) :].tolist()

        return make

    compiled = load()
    compiled.forward = torch.compile(compiled.forward)
    return {
        "transformers bf16": way(load()),
        "transformers bf16 static": way(load(), cache_implementation="static"),
        "transformers bf16 static compiled": way(compiled, cache_implementation="static"),
    }


def litgpt_ways(model: Decoder, shape: dict[str, int]) -> dict[str, Way]:
    try:
        from litgpt.generate import base
        from litgpt.model import GPT, Config
    except ImportError:
        return {}
    config = Config(
        name="decoding",
        block_size=512,
        padded_vocab_size=VOCABULARY,
        vocab_size=VOCABULARY,
        n_layer=shape["n_layers"],
        n_head=shape["heads"],
        n_query_groups=shape["heads"],
        n_embd=shape["d_model"],
        intermediate_size=shape["d_ff"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=1e-6,
        mlp_class_name="LLaMAMLP",
    )
    theirs = GPT(config).to(torch.bfloat16).eval()
    theirs.max_seq_length = 256
    theirs.set_kv_cache(batch_size=1)
    # Its weights are its own: what is timed does not depend on them.
    eager, compiled = base.next_token, torch.compile(base.next_token)

    def way(step: Callable[..., torch.Tensor]) -> Way:
        def make(new: int) -> list[int]:
            base.next_token = step
            with torch.no_grad():
                made = base.generate(theirs, torch.tensor(PROMPT), len(PROMPT) + new, temperature=0.0, include_prompt=False)
            return made.tolist()

        return make

    return {"litgpt bf16": way(eager), "litgpt bf16 compiled": way(compiled)}


def llama_cpp_ways(model: Decoder, directory: Path) -> dict[str, Way]:
    if not os.environ.get("LLAMA_CPP"):
        return {}

    def way(precision: str) -> Way:
        file = directory / f"{precision}.gguf"
        architecture = architecture_of_spec(model.spec)
        # The file's writer rounds the model that it is given.
        write_gguf(copy.deepcopy(model), file, architecture, vocabulary=some_vocabulary(), precision=precision)
        program, *backends = shlex.split(os.environ["LLAMA_CPP"])
        command = [program, str(file), str(torch.get_num_threads()), *backends]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()

        def make(new: int) -> list[int]:
            process.stdin.write(f"ids {new} {' '.join(map(str, PROMPT))}\n")
            process.stdin.flush()
            return [int(index) for index in process.stdout.readline().split()]

        return make

    return {f"llama.cpp {precision}": way(precision) for precision in ("bf16", "fp16", "q8_0")}


def some_vocabulary() -> Vocabulary:
    """What a file needs to be loaded: 256 bytes and one merge."""
    tokens = [*sorted(ByteLevel.alphabet()), "ab"]
    tokens += [f"<{index}>" for index in range(len(tokens), VOCABULARY)]
    return Vocabulary(tokens, [1] * VOCABULARY, ["a b"], cut="gpt-2", roles={"eos": 300}, begins=False, chat_template=None)


def measured(ways: dict[str, Way], new: int, rounds: int) -> dict[str, list[float]]:
    for name, way in ways.items():
        began = time.perf_counter()
        way(new)
        print(f"  {name}: first call {time.perf_counter() - began:.0f} s", flush=True)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            made = len(way(new))
            speeds[name].append(made / (time.perf_counter() - began))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--way", action="append", help="only those whose names begin so; all unless given")
    parser.add_argument("--new", type=int, default=128, help="tokens a call")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    told = {}
    with TemporaryDirectory() as directory:
        for name in arguments.shape or SHAPES:
            told[name] = compared(name, arguments, Path(directory))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told, indent=1))


def compared(name: str, arguments: argparse.Namespace, directory: Path) -> dict[str, object]:
    shape = SHAPES[name]
    model = build(spec_of(shape)).eval()
    read = sum(value.numel() for key, value in model.named_parameters() if key != "embedding.weight") * 2
    print(f"{name}: {sum(value.numel() for value in model.parameters()):,} parameters, {read / 1e6:.0f} MB read a token in bf16")
    ways = {**our_ways(model), **transformers_ways(model), **litgpt_ways(model, shape), **llama_cpp_ways(model, directory)}
    wanted = tuple(arguments.way or [""])
    speeds = measured({way: make for way, make in ways.items() if way.startswith(wanted)}, arguments.new, arguments.rounds)
    medians = {way: statistics.median(values) for way, values in speeds.items()}
    best = max((value for way, value in medians.items() if not way.startswith(("llmkit", "llama.cpp"))), default=float("nan"))
    for way, value in medians.items():
        spread = f"{min(speeds[way]):.0f} to {max(speeds[way]):.0f}"
        beside = "" if math.isnan(best) else f"  {value / best:.2f} of the best peer"
        print(f"  {way:36} {value:7.1f} tokens/s ({spread}){beside}")
    return {"tokens_per_second": speeds, "bytes_per_token_bf16": read, "threads": torch.get_num_threads(), "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
