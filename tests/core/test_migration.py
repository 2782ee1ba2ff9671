"""How a component reads what its earlier revisions wrote."""

from __future__ import annotations

import pytest

from llmkit import Component, Kind, Migration, Params
from llmkit.core.catalog import Origin
from llmkit.core.host import Host


def component(revision: int, migrations: dict[int, Migration]) -> Component:
    return Component(Kind.ffn, "acme.wide", Params, "acme.wide:Wide", "wide", revision=revision, migrations=migrations)


THIRD = component(
    3,
    {
        1: Migration(params={"hidden": "width"}, tensors={"w1": "up", "scale": "gain"}),
        2: Migration(params={"width": "d_inner"}, tensors={"up": "in.first"}),
    },
)


def test_parameters_go_through_every_revision_and_new_names_stay() -> None:
    assert THIRD.migrated({"hidden": 8, "bias": True}, 1) == {"d_inner": 8, "bias": True}
    assert THIRD.migrated({"width": 8}, 2) == {"d_inner": 8}
    assert THIRD.migrated({"d_inner": 8}, 1) == THIRD.migrated({"d_inner": 8}, 3) == {"d_inner": 8}


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ("in.first.weight", ["up.weight", "w1.weight"]),
        ("in.first", ["up", "w1"]),
        ("gain", ["scale"]),
        ("in.firstborn", []),
        ("other.weight", []),
    ],
)
def test_a_tensor_is_looked_for_under_the_names_that_it_had_the_latest_first(now: str, before: list[str]) -> None:
    assert THIRD.earlier_names(now) == before


def test_a_revision_is_read_where_migrations_lead_all_the_way() -> None:
    assert [THIRD.reads(revision) for revision in (1, 2, 3, 4)] == [True, True, True, False]
    assert [component(3, {1: Migration()}).reads(revision) for revision in (1, 2, 3)] == [False, False, True]


@pytest.mark.parametrize("step", [0, 2, "1"])
def test_a_migration_from_a_revision_that_never_was_fails_the_plugin(step: int) -> None:
    class Plugin:
        from llmkit import hookimpl

        @hookimpl
        def llmkit_components(self) -> list[Component]:
            return [component(2, {step: Migration()})]

    host = Host()
    host.register("acme", Plugin(), Origin("acme", "1"))
    [failure] = host.catalog().failures
    assert f"migrations has {step!r}; its keys are revisions before 2" in failure.reason
