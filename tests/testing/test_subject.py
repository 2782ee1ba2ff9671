"""What a component is tried beside."""

from __future__ import annotations

from typing import Any

from llmkit import catalog
from llmkit.core.kinds import Kind
from llmkit.testing import examples
from llmkit.testing.subject import subjects


def beside(name: str, **params: Any) -> list[dict[str, Any]]:
    """The attentions beside which a position is tried."""
    position = catalog().find(Kind.position, name)
    tried = subjects(position, position.params.model_validate(params, context={"catalog": catalog()}), catalog())
    return [subject.partners["attention"] for subject in tried]


def test_a_position_is_tried_beside_every_attention_that_serves_it_with_its_windows_too() -> None:
    found = beside("rope", scaling={"type": "linear", "factor": 4.0})
    for (kind, name), entry in catalog().entries.items():
        if kind is not Kind.attention or entry.origin.distribution != "llmkit":
            continue
        tried = [one.get("window") for one in found if one["type"] == name]
        given = examples(entry.component, catalog())
        windows = [one.window for one in given if getattr(one, "window", None) is not None]
        assert tried == ([None, *windows] if "rotate" in entry.component.offered(given[0]) else []), name
    assert {"type": "gqa", "window": 3} in [{"type": one["type"], "window": one.get("window")} for one in found]


def test_the_usual_attention_comes_first() -> None:
    assert beside("rope")[0]["type"] == "mha"


def test_an_attention_whose_heads_the_position_refuses_is_left_out() -> None:
    factors = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_seq_len": 10}
    narrower = {one["type"] for one in beside("rope")} - {one["type"] for one in beside("rope", scaling=factors)}
    assert narrower == {"mla"}


def test_a_position_that_fits_nowhere_is_tried_all_the_same_so_that_the_laws_say_why() -> None:
    factors = {"type": "longrope", "short_factor": [1.0] * 9, "long_factor": [2.0] * 9, "original_max_seq_len": 10}
    assert len(beside("rope", scaling=factors)) == len(beside("rope"))
