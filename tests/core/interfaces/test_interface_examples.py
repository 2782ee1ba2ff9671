"""The components written out in the interfaces' docstrings work as they stand: a stranger copies them."""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import llmkit
from llmkit.core.component import Chosen, Component
from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation, Evaluator, LanguageModel, LogLikelihood, Score
from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.init import Init, Weight
from llmkit.core.interfaces.objective import IGNORED, Batch, LanguageModule, Objective, auxiliary, counted
from llmkit.core.interfaces.optimizer import NamedParameter, Optimizer
from llmkit.core.interfaces.schedule import Schedule
from llmkit.core.interfaces.source import Source
from llmkit.core.interfaces.tokenizer import END_OF_TEXT, PADDING, Tokenizer
from llmkit.core.kinds import Kind
from llmkit.core.site import Site

PUBLIC = (
    "Component",
    "Kind",
    "Params",
    "Source",
    "Tokenizer",
    "Schedule",
    "Optimizer",
    "Objective",
    "Evaluator",
    "Loss",
    "Document",
    "Site",
    "Batch",
    "Init",
)
IN_SCOPE: dict[str, Any] = {name: getattr(llmkit, name) for name in PUBLIC}
IN_SCOPE |= {
    "Field": Field,
    "torch": torch,
    "F": F,
    "Sequence": Sequence,
    "Iterable": Iterable,
    "NamedParameter": NamedParameter,
    "Weight": Weight,
    "LanguageModule": LanguageModule,
    "LanguageModel": LanguageModel,
    "counted": counted,
    "auxiliary": auxiliary,
    "Evaluation": Evaluation,
    "Score": Score,
    "UserError": UserError,
    "END_OF_TEXT": END_OF_TEXT,
    "PADDING": PADDING,
    "Iterator": Iterator,
    "islice": islice,
    "os": os,
    "re": re,
}


def example(interface: type, **params: object) -> Chosen:
    """The component that the docstring's indented code declares, its code in place of its import target."""
    _, _, code = (inspect.getdoc(interface) or "").partition("hook returns:\n\n")
    tree = ast.parse(inspect.cleandoc(code))
    *definitions, declaration = tree.body
    scope: dict[str, Any] = dict(IN_SCOPE)
    exec(compile(ast.Module(definitions, []), "docstring", "exec", dont_inherit=True), scope)
    assert isinstance(declaration, ast.Expr)
    component = eval(compile(ast.Expression(declaration.value), "docstring", "eval"), scope)
    assert isinstance(component, Component)
    scope[component.params.__name__].model_rebuild(_types_namespace=scope)
    found = scope[component.target.partition(":")[2]]
    assert issubclass(found, interface)
    component = type("InDocstring", (Component,), {"resolve": lambda self: found})(**vars(component))
    return Chosen(component, component.params.model_validate(params))


def test_the_schedule_rises_to_its_peak_and_falls_with_the_root() -> None:
    chosen = example(Schedule, warmup=4)
    schedule = chosen.make()
    assert chosen.component.kind is Kind.schedule
    assert [schedule(step, 100) for step in (0, 3, 15)] == [0.25, 1.0, 0.5]


def test_the_initialisation_is_lecuns() -> None:
    init = example(Init, gain=2.0).make()
    weight = Weight("blocks.0.ffn.up.weight", torch.Size((256, 64)), "matrix", False, 0, 2, 64)
    value = init.draw(weight, torch.Generator().manual_seed(0))
    assert float(value.std()) == pytest.approx(2 / 8, rel=0.02)
    assert (init.learning_rate(weight), init.logit_scale(64)) == (1.0, 1.0)


def test_the_optimizer_takes_the_sign_and_its_state_round_trips() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = example(Optimizer, lr=0.5).make().build([NamedParameter("w", weight, "matrix")])
    weight.grad = torch.tensor([[3.0, -2.0], [0.1, 0.0]])
    optimizer.step()
    assert weight.tolist() == [[-0.5, 0.5], [-0.5, 0.0]]
    other = example(Optimizer, lr=0.5).make().build([NamedParameter("w", weight, "matrix")])
    other.load_state_dict(optimizer.state_dict())
    assert torch.equal(other.state[weight]["mean"], optimizer.state[weight]["mean"])
    assert other.param_groups[0]["initial_lr"] == 0.5


class Unigram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(9, 5, generator=torch.Generator().manual_seed(0)))

    def features(self, batch: Batch) -> tuple[Tensor, Aux]:
        return self.table[batch.ids], Aux({"blocks.0.ffn.balance": torch.tensor([0.2, 0.2])}, {})

    def head(self, h: Tensor) -> Tensor:
        return h @ self.table.T


def test_the_objective_is_torchs_label_smoothing() -> None:
    site = Site(d_model=5, width=5, n_layers=1, layer=0, max_seq_len=6, vocab_size=9)
    objective, model = example(Objective, smoothing=0.2).make(site), Unigram()
    ids = torch.randint(9, (2, 7), generator=torch.Generator().manual_seed(1))
    targets = ids[:, 1:].clone()
    targets[0, :2] = IGNORED
    batch = Batch(ids[:, :-1], targets)
    loss = objective(model, batch)
    logits = model.head(model.features(batch)[0]).flatten(0, 1)
    torch.testing.assert_close(loss.total, 2 + F.cross_entropy(logits, targets.flatten(), label_smoothing=0.2, reduction="sum"))
    torch.testing.assert_close(loss.metrics["loss"], F.cross_entropy(logits, targets.flatten(), reduction="sum").detach())
    assert objective.count(batch) == 10


class Echo:
    """Repeats a text that has an even number of characters."""

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        assert all(context == f"{continuation}\n" for context, continuation in pairs)
        return [LogLikelihood(-1.0, len(continuation) % 2 == 0, 1) for _, continuation in pairs]


def test_the_evaluator_counts_what_was_copied() -> None:
    evaluator = example(Evaluator, words=2).make()
    documents = [llmkit.Document(str(index), text) for index, text in enumerate(("a bc d", "ab cd e", "x yz", "pq rs"))]
    evaluation = evaluator(Echo(), documents)
    assert evaluation.items[1] == {"id": "1", "copied": False}
    assert evaluation.scores == [Score("copied", 0.5, pytest.approx((0.25 / 3) ** 0.5), 4)]
    with pytest.raises(UserError, match=r"acme\.copying needs documents"):
        evaluator(Echo())


@pytest.mark.parametrize("text", ["", "plain", "naïve 世界 🦙", "<|endoftext|> in <|pad|> text"])
def test_the_tokenizer_keeps_the_three_laws(text: str) -> None:
    chosen = example(Tokenizer)
    tokenizer = chosen.component.resolve().train(chosen.params, ())
    ids, spans = tokenizer.encode_offsets(text)
    assert tokenizer.decode(ids) == text and ids == tokenizer.encode(text) and all(index < 16 for index in ids)
    assert len(ids) == 2 * len(text.encode()) and [text[start:end] for start, end in spans[::2]] == [c for c in text for _ in c.encode()]
    assert tokenizer.decode(tokenizer.encode(text, specials=True), skip_specials=False) == text
    assert tokenizer.encode("a<|endoftext|>", specials=True) == [6, 1, tokenizer.eos_id]
    assert tokenizer.vocab_size == chosen.params.vocab_size == 18 and tokenizer.bos_id == 16 and tokenizer.pad_id == 17


def test_the_source_gives_each_line_to_one_shard(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("one\ntwo\nthree\n", encoding="utf-8")
    source = example(Source, path=str(file)).make()
    assert [[document.text for document in source.documents(shard, 2)] for shard in range(2)] == [["one", "three"], ["two"]]
    before = source.fingerprint()
    file.write_text("four\n", encoding="utf-8")
    assert source.fingerprint() != before
    with pytest.raises(UserError, match="cannot read"):
        list(example(Source, path=str(tmp_path / "none")).make().documents(0, 1))
