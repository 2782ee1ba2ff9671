"""What a run records of where it came from, and which revisions it can be read with."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import replace
from importlib import metadata

import pytest

import llmkit
from llmkit.core.catalog import Catalog
from llmkit.core.component import Chosen, Migration
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.manifest import git_state, manifest, revisions
from llmkit.core.spec import Spec
from llmkit.runtime import load_spec


@pytest.fixture
def spec() -> Spec:
    return load_spec({"tokenizer": "bytes", "model": {"d_model": 64, "n_layers": 2, "max_seq_len": 32}})


def with_norm_at(spec: Spec, revision: int) -> Spec:
    norm = spec.model.block.norm
    block = spec.model.block.model_copy(update={"norm": Chosen(replace(norm.component, revision=revision), norm.params)})
    return spec.model_copy(update={"model": spec.model.model_copy(update={"block": block})})


def test_it_records_versions_components_and_the_machine_as_json(spec, tmp_path):
    found = json.loads(json.dumps(manifest(spec, llmkit.catalog(), tmp_path)))
    assert found["python"] == platform.python_version() and found["packages"]["torch"] == metadata.version("torch")
    assert found["catalog"] == llmkit.catalog().fingerprint and found["git"] is None and found["hardware"]["cores"] >= 1
    assert {"kind": "norm", "name": "rmsnorm", "revision": 1, "distribution": "llmkit", "version": llmkit.__version__} in found[
        "components"
    ]
    assert len({(row["kind"], row["name"]) for row in found["components"]}) == len(found["components"]) == 12


def test_git_is_told_with_what_is_not_committed(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q", "-b", "trunk")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "branch": "trunk", "dirty": False}
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path)["dirty"] is True


def installed_at(revision: int, migrations: dict[int, Migration] | None = None) -> Catalog:
    key, known = (Kind.norm, "rmsnorm"), llmkit.catalog()
    entry = known.entries[key]
    norm = replace(entry.component, revision=revision, migrations=migrations or {})
    return Catalog({**known.entries, key: replace(entry, component=norm)})


def test_the_same_revisions_are_read(spec):
    assert revisions(manifest(spec, llmkit.catalog()), llmkit.catalog())[Kind.norm, "rmsnorm"] == 1
    assert revisions({}, llmkit.catalog()) == {}


def test_an_older_revision_is_read_where_migrations_lead_all_the_way(spec):
    recorded = manifest(with_norm_at(spec, 1), llmkit.catalog())
    assert revisions(recorded, installed_at(3, {1: Migration(), 2: Migration()}))[Kind.norm, "rmsnorm"] == 1
    with pytest.raises(UserError, match="cannot read the older one"):
        revisions(recorded, installed_at(3, {2: Migration()}))


@pytest.mark.parametrize(
    ("saved", "installed", "says"),
    [
        (3, 2, r"norm 'rmsnorm' was saved at revision 3 and revision 2 is installed; .*pip install --upgrade 'llmkit>=0.1.0'"),
        (1, 2, r"norm 'rmsnorm' was saved at revision 1 and revision 2 is installed, which cannot read .*pip install 'llmkit==0.1.0'"),
    ],
)
def test_another_revision_is_refused_with_what_to_install(spec, saved, installed, says):
    recorded = manifest(with_norm_at(spec, saved), llmkit.catalog())
    with pytest.raises(UserError, match=says):
        revisions(recorded, installed_at(installed))
