"""A component under law, and the small model that it is tried in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.checks import position_site
from llmkit.core.component import Chosen, Component, Params
from llmkit.core.kinds import Kind
from llmkit.core.site import Site
from llmkit.core.slot import plain
from llmkit.core.spec import Spec
from llmkit.runtime import load_spec
from llmkit.testing.example_parameters import examples

if TYPE_CHECKING:
    from torch import Tensor

    from llmkit.model.decoder import Decoder

WIDTH, LAYERS, LENGTH = 32, 2, 64
"""The small model: d_model, blocks, max_seq_len. Example parameters have to suit it."""

SMALL: dict[str, Any] = {
    "name": "law",
    "tokenizer": "bytes",
    "model": {
        "d_model": WIDTH,
        "n_layers": LAYERS,
        "max_seq_len": LENGTH,
        "position": "rope",
        "block": {
            "attention": {"type": "mha", "n_heads": 4},
            "ffn": {"type": "swiglu", "d_ff": 48},
            "norm": "rmsnorm",
            "layout": "pre",
        },
    },
    "data": {},
    "train": {"steps": 4, "batch_size": 2},
}
LAYOUTS = ("pre", "post", "sandwich", "branch_post", "parallel")
_ADDRESS: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("tokenizer",),
    "source": ("data", "source"),
    "extractor": ("data", "extractor"),
    "filter": ("data", "filters", "tried"),
    "deduplicator": ("data", "deduplicators", "tried"),
    "mixer": ("data", "mixer"),
    "attention": ("model", "block", "attention"),
    "ffn": ("model", "block", "ffn"),
    "norm": ("model", "block", "norm"),
    "layout": ("model", "block", "layout"),
    "position": ("model", "position"),
    "init": ("model", "init"),
}


@dataclass(frozen=True)
class Subject:
    """A component with its parameters, beside its partners.

    partners  what else of the small model's spec is not as usual: `position`, `attention`, `ffn`, `norm`, `layout` -> its value
    """

    component: Component
    params: Params
    catalog: Catalog
    partners: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Built with its parameters alone: for what is no module."""
        return Chosen(self.component, self.params).make()

    def spec(self) -> Spec:
        """The small model's spec with this component in its slot."""
        document = _copy(SMALL)
        for name, value in self.partners.items():
            _put(document, name, value)
        _put(document, self.component.kind, plain(Chosen(self.component, self.params)))
        return load_spec(document, catalog=self.catalog)

    @cached_property
    def model(self) -> Decoder:
        """The small model, every value drawn anew, so that nothing which starts at zero hides anything. Laws leave it as it is."""
        from llmkit.testing.model import drawn

        return drawn(self.spec())

    def logits(self, ids: Tensor, **arguments: Any) -> Tensor:
        """What the small model says, without gradients."""
        import torch

        with torch.no_grad():
            return self.model(ids, **arguments)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        beside = ", ".join(f"{name} {_short(value)}" for name, value in self.partners.items())
        return f"{self.component.name} {_short(self.params.model_dump(exclude_defaults=True))}" + (f" beside {beside}" if beside else "")


def subjects(component: Component, params: Params, catalog: Catalog) -> Iterator[Subject]:
    """The component beside every partner that its traits allow: an attention beside every position, a position beside every
    attention, with a window too, a norm or an FFN in every layout. Partners are llmkit's own and those of the component's distribution."""
    catalog = including(component, catalog)
    for partners in _partners(component, params, catalog):
        yield Subject(component, params, catalog, partners)


def address_of(kind: Kind) -> str:
    """Where the component of a kind stands in a spec that has one of each: `model.block.attention`."""
    return "eval.0" if kind is Kind.evaluator else ".".join(_ADDRESS.get(kind, ("train", kind)))


def including(component: Component, catalog: Catalog) -> Catalog:
    """The catalog with this component in it, which need not be installed."""
    key = (component.kind, component.name)
    found = catalog.entries.get(key)
    if found is not None and found.component == component:
        return catalog
    return Catalog({**catalog.entries, key: Entry(component, Origin("under law", ""))}, catalog.failures, catalog.withdrawn)


def _partners(component: Component, params: Params, catalog: Catalog) -> Iterator[dict[str, Any]]:
    if component.kind is Kind.attention:
        for position in _trusted(Kind.position, component, catalog):
            first = examples(position, catalog)[0]
            if _allowed(position, first, component, params):
                yield {"position": plain(Chosen(position, first))}
    elif component.kind is Kind.position:
        tried = [
            Chosen(attention, example)
            for attention in _trusted(Kind.attention, component, catalog)
            for example in _first_and_windowed(examples(attention, catalog))
            if _allowed(component, params, attention, example)
        ]
        # The small model's own comes first: it is the one that laws about the position alone are proved beside.
        usual = SMALL["model"]["block"]["attention"]["type"]
        tried.sort(key=lambda one: one.type != usual)
        # Where it fits nowhere, the laws say why.
        yield from ({"attention": plain(chosen)} for chosen in [one for one in tried if _fits(params, one)] or tried)
    elif component.kind in (Kind.norm, Kind.ffn):
        yield from ({"layout": layout} for layout in LAYOUTS)
    else:
        yield {}


def _first_and_windowed(tried: list[Params]) -> Iterator[Params]:
    """What a position is tried beside: each attention as it is, and with a window, where the cache is a ring and places wrap."""
    first, *others = tried
    yield first
    yield from (params for params in others if getattr(params, "window", None) is not None)


def _allowed(position: Component, its: Params, attention: Component, theirs: Params) -> bool:
    """Whether a spec with both is accepted; an attention that offers nothing takes no stand, and is tried without help alone."""
    needed = position.needed(its)
    return needed <= attention.offered(theirs)


def _fits(position: Params, attention: Chosen) -> bool:
    """Whether the position says nothing against its place in this attention, of the small model."""
    site = position_site(attention, Site(WIDTH, WIDTH, LAYERS, 0, LENGTH, 0))
    return site is None or not any(True for _ in position.check(site))


def _trusted(kind: Kind, component: Component, catalog: Catalog) -> Iterator[Component]:
    own = catalog.entry(component.kind, component.name).origin.distribution
    for (of, _), entry in sorted(catalog.entries.items()):
        if of is kind and entry.origin.distribution in ("llmkit", own):
            yield entry.component


def _put(document: dict[str, Any], name: str, value: Any) -> None:
    if name == Kind.evaluator:
        document["eval"] = [value]
        return
    *path, last = _ADDRESS.get(name, ("train", name))
    for part in path:
        document = document.setdefault(part, {})
    document[last] = value


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value


def _short(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    rest = {key: item for key, item in value.items() if key != "type" and item is not None}
    return " ".join([*([str(value["type"])] if "type" in value else []), *(f"{key}={item}" for key, item in rest.items())])
