"""Evaluators on a trained run, computed as training computed it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from pydantic import ValidationError

from llmkit.core.catalog import Catalog
from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import Evaluation
from llmkit.core.interfaces.source import Document
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec
from llmkit.data.prepare import prepare
from llmkit.model.device import fastest_device
from llmkit.model.language_model import ModelLM
from llmkit.train import precision
from llmkit.train.run import Run


class Evaluating:
    """A run's model as evaluators see it, on the fastest device, in the precision in which it was trained, so that an evaluator and
    training report the same number. The run's own model is moved and made ready for that.

    batch_size  rows computed at once; it changes no result beyond rounding
    """

    def __init__(self, run: Run, batch_size: int = 16) -> None:
        self.spec = run.spec
        device = fastest_device()
        self._computing = _as_trained(run, device)
        self._lm = ModelLM(
            run.model.to(device),
            run.tokenizer,
            seq_len=run.spec.seq_len,
            batch_size=batch_size,
            mask_documents=run.spec.data.mask_documents,
        )

    def evaluate(self, evaluator: Chosen, documents: Sequence[Document] = ()) -> Evaluation:
        """What an evaluator finds on these documents; on the run's held-out text where there are none."""
        texts: Iterable[Document] = documents or validation_documents(self.spec)
        with self._computing:
            found: Evaluation = evaluator.make()(self._lm, texts)
        return found


def chosen_evaluators(spec: Spec, names: Sequence[str], catalog: Catalog) -> list[Chosen]:
    """Evaluators by name: with the spec's parameters where it has them, else with their defaults."""
    known = {evaluator.type: evaluator for evaluator in spec.eval}
    return [known.get(name) or _with_defaults(name, catalog) for name in names]


def validation_documents(spec: Spec) -> Iterator[Document]:
    """The run's held-out text; it is prepared when the first document is asked for, so not at all by evaluators with data of their own."""
    yield from prepare(spec).validation_documents()


def _with_defaults(name: str, catalog: Catalog) -> Chosen:
    component = catalog.find(Kind.evaluator, name)
    try:
        return Chosen(component, component.params.model_validate({}, context={"catalog": catalog}))
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise UserError(f"evaluator {name!r} needs parameters that only a spec can give: {missing}; put it under `eval` there") from error


def _as_trained(run: Run, device: torch.device) -> AbstractContextManager[Any]:
    """What computes as training did, with the weights made ready for it; fp16 is fp32 where the device has none."""
    asked = run.spec.train.precision
    became = precision.resolve("fp32" if asked == "fp16" and device.type != "cuda" else asked, device)
    precision.lowered(run.model, became)
    return precision.autocast(became, device)
