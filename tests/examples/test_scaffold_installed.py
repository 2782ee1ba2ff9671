"""Packages that `llmkit plugins new` writes, of every kind, installed by pip beside llmkit's wheel as they stand."""

from __future__ import annotations

import json

import pytest
from environment import Environment

from llmkit.core.kinds import Kind

pytestmark = pytest.mark.slow


def test_a_new_package_of_each_kind_installs_and_its_spec_is_right(environment: Environment) -> None:
    from llmkit.testing.scaffold import scaffold

    for kind in Kind:
        scaffold(f"one-{kind}", kind, environment.work / f"one-{kind}", "acme")
    environment.install("--no-build-isolation", *(f"./one-{kind}" for kind in Kind), beside_dependencies=True)
    listed = json.loads(environment.run("llmkit", "plugins", "list", "--json"))
    assert listed["failures"] == []
    ours = {(row["kind"], row["name"], row["distribution"]) for row in listed["components"] if row["distribution"] != "llmkit"}
    assert ours == {(str(kind), f"acme.one_{kind}", f"llmkit-one-{kind}") for kind in Kind}
    specs = [f"one-{kind}/{name}.yaml" for kind in Kind for name in ("baseline", f"one_{kind}")]
    assert json.loads(environment.run("llmkit", "spec", "check", *specs, "--json"))["problems"] == []
