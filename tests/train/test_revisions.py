"""A component's second revision renames a parameter and its tensors: what the first one wrote is read, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from llmkit import Component, FeedForward, Kind, Params, Site, catalog, load_run, load_spec
from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.component import Migration
from llmkit.core.errors import UserError
from llmkit.train.loop import train
from llmkit.train.run import RunDirectory


class OldParams(Params):
    hidden: int = Field(description="inner channels", examples=[48])


class NewParams(Params):
    d_inner: int = Field(description="inner channels", examples=[48])


class Old(FeedForward):
    def __init__(self, params: OldParams, site: Site) -> None:
        super().__init__()
        self.w1 = nn.Linear(site.d_model, params.hidden)
        self.w2 = nn.Linear(params.hidden, site.d_model)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.w2(self.w1(x).relu())
        return y


class New(FeedForward):
    def __init__(self, params: NewParams, site: Site) -> None:
        super().__init__()
        self.up = nn.Linear(site.d_model, params.d_inner)
        self.down = nn.Linear(params.d_inner, site.d_model)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.up(x).relu())
        return y


RENAMED = {1: Migration(params={"hidden": "d_inner"}, tensors={"w1": "up", "w2": "down"})}


def component(revision: int, migrations: Mapping[int, Migration]) -> Component:
    params, code = (OldParams, Old) if revision == 1 else (NewParams, New)
    return Component(Kind.ffn, "acme.wide", params, f"{__name__}:{code.__name__}", "wide", revision=revision, migrations=migrations)


def at(revision: int, migrations: Mapping[int, Migration] = RENAMED) -> Catalog:
    """What is installed, with acme's distribution at a revision of its component."""
    known, origin = catalog(), Origin("llmkit-acme", f"0.{revision}")
    one = component(revision, {} if revision == 1 else migrations)
    return Catalog({**known.entries, (Kind.ffn, "acme.wide"): Entry(one, origin)})


def document(tmp_path: Path, steps: int, **ffn: int) -> dict[str, Any]:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{number} green bottles, standing on the wall.\n\n" for number in range(200)))
    wide = {"type": "acme.wide", **ffn}
    return {
        "name": "renamed",
        "tokenizer": "bytes",
        "model": {"d_model": 16, "n_layers": 2, "max_seq_len": 16, "block": {"attention": {"type": "mha", "n_heads": 2}, "ffn": wide}},
        "data": {"source": {"type": "text", "paths": [str(text)], "split": "paragraph"}, "cache": str(tmp_path / "cache")},
        "train": {"steps": steps, "batch_size": 2, "checkpoint_every": 4, "precision": "fp32", "schedule": "constant"},
    }  # fmt: skip


def trained(tmp_path: Path, out: Path, known: Catalog, steps: int, **ffn: int) -> dict[str, Any]:
    return train(load_spec(document(tmp_path, steps, **ffn), catalog=known), out=out, catalog=known)


def test_a_run_of_the_first_revision_is_loaded_by_the_second(tmp_path: Path) -> None:
    trained(tmp_path, tmp_path / "run", at(1), 4, hidden=24)
    old, new = load_run(tmp_path / "run", at(1)), load_run(tmp_path / "run", at(2))
    assert new.spec.model.block.ffn.params == NewParams(d_inner=24)
    ids = torch.arange(97, 105)[None]
    with torch.no_grad():
        assert torch.equal(old.model(ids), new.model(ids))


def test_a_run_goes_on_after_the_renaming_as_one_that_was_never_renamed(tmp_path: Path) -> None:
    trained(tmp_path, tmp_path / "old", at(1), 8, hidden=24)
    trained(tmp_path, tmp_path / "run", at(1), 4, hidden=24)
    result = trained(tmp_path, tmp_path / "run", at(2), 8, d_inner=24)
    assert result["resumed_from"] == 4
    ours, theirs = load_run(tmp_path / "run", at(2)).model.state_dict(), load_run(tmp_path / "old", at(2)).model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # It was written down anew: the spec and the manifest are of the second revision, and its earlier checkpoint is read as well.
    run = RunDirectory(tmp_path / "run")
    assert "d_inner: 24" in run.spec.read_text() and "hidden" not in run.spec.read_text()
    [row] = [row for row in run.load_manifest()["components"] if row["name"] == "acme.wide"]
    assert row["revision"] == 2
    assert load_run(tmp_path / "run" / "checkpoints" / "step-00000004", at(2)).step == 4


@pytest.mark.parametrize(
    ("saved", "installed", "says"),
    [
        (at(2), at(1), r"saved at revision 2 and revision 1 is installed; .* wrote it: pip install --upgrade 'llmkit-acme>=0.2'"),
        (at(1), at(2, {}), r"saved at revision 1 and revision 2 is installed, which cannot read .*pip install 'llmkit-acme==0.1'"),
    ],
    ids=["newer than what is installed", "older, and no migration"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_to_install(tmp_path: Path, saved: Catalog, installed: Catalog, says: str) -> None:
    from llmkit.train.record import manifest_of

    fields = saved.find(Kind.ffn, "acme.wide").params.model_fields
    spec = load_spec(document(tmp_path, 4, **dict.fromkeys(fields, 24)), catalog=saved)
    RunDirectory(tmp_path / "run").begin(spec, manifest_of(spec, saved), None)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["components"]
    with pytest.raises(UserError, match=says):
        RunDirectory(tmp_path / "run").load_spec(installed)
