"""The stages of a spec's documents: what is made again, what is not, and what comes out however it was made."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit import catalog
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec
from llmkit.data import document_shards, reading
from llmkit.data.prepare import Prepared, prepare, split_documents
from llmkit.data.workers import Workers

MakeSpec = Callable[..., Spec]
WORDS = {"type": "gopher_quality", "min_words": 5, "min_stop_words": 0, "min_alphabetic": 0, "min_word_length": 0}
"""Of Gopher's rules the number of words alone."""


def lines(count: int, prefix: str = "the line") -> list[str]:
    return [f"{prefix} {number} has seven words, and {number * 7919 % 1000} is one of them" for number in range(count)]


@pytest.fixture
def two_sources(tmp_path: Path, make_spec: MakeSpec) -> MakeSpec:
    """A spec of two files, whose second repeats a part of the first, has short lines, and a record that is cut in half."""
    (tmp_path / "books.jsonl").write_text("".join(json.dumps({"id": f"b{n}", "text": t}) + "\n" for n, t in enumerate(lines(300))))
    web = [*lines(60), *lines(200, "a web page"), *["short"] * 40]
    written = "".join(json.dumps({"text": text}) + "\n" for text in web)
    (tmp_path / "web.jsonl").write_text(written + '{"text": "cut in ha\n')
    sources = {name: {"type": "jsonl", "paths": [str(tmp_path / f"{name}.jsonl")]} for name in ("books", "web")}

    def make(**data: Any) -> Spec:
        filters = {"quality": WORDS | {"sources": ["web"]}}
        given = {"source": None, "sources": sources, "filters": filters, "deduplicators": {"exact": "exact"}, **data}
        return make_spec(data=given)

    return make


def quiet(spec: Spec, **options: Any) -> Prepared:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(spec, **options)


def bytes_of(prepared: Prepared) -> dict[str, bytes]:
    """All that is not an account of how long it took."""
    accounts = set(prepared.directory.glob("0*.json"))
    names = {"funnel.json", "seal.json"}
    return {path.name: path.read_bytes() for path in prepared.directory.iterdir() if path.name not in names and path not in accounts}


def test_each_source_goes_its_way_and_the_funnel_adds_up(two_sources: MakeSpec) -> None:
    with pytest.warns(UserWarning, match=r"1 records were no documents and were set aside in .*broken\.jsonl.*\(1\)"):
        prepared = prepare(two_sources())
    funnel = prepared.funnel
    stages = {stage.stage: stage for stage in funnel.stages}
    assert list(stages) == ["read", "filters.quality", "deduplicators.exact", "split", "tokenize"]
    assert [(one.before.documents, one.after.documents, one.removed) for one in funnel.stages] == [
        (601, 600, 1),
        (600, 560, 40),
        (560, 500, 60),
        (500, 500, 0),
        (500, 500, 0),
    ]
    assert stages["filters.quality"].reasons == {"min_words": 40} and stages["filters.quality"].type == "gopher_quality"
    assert [one.documents for one in stages["filters.quality"].by_source["books"]] == [300, 300]
    assert [one.documents for one in stages["deduplicators.exact"].by_source["web"]] == [260, 200]
    for earlier, later in zip(funnel.stages, funnel.stages[1:], strict=False):
        assert earlier.after == later.before
    assert funnel.clusters[0].sizes == {2: 60} and sum(funnel.broken.values()) == 1
    kept = prepared.train.n_tokens + prepared.validation.n_tokens - 2
    assert stages["tokenize"].after.tokens == kept and not stages["tokenize"].after.estimated
    assert stages["read"].after.estimated and stages["read"].after.tokens == pytest.approx(kept + 60 * 57 + 40 * 6, rel=0.02)
    assert {one.parameter for one in funnel.sensitivities} >= {"min_words"}
    assert sum(funnel.lengths.values()) == 500 and sum(funnel.lengths_read.values()) == 600


def test_what_is_left_is_what_doing_it_by_hand_leaves(two_sources: MakeSpec) -> None:
    spec = two_sources()
    expected = [*lines(300), *lines(200, "a web page")]
    assert [document.text for _, document in split_documents(spec)] == expected
    prepared = quiet(spec)
    train = [prepared.tokenizer.decode(prepared.train.document(index).tolist()) for index in range(prepared.train.n_documents)]
    held_out = [document.text for document in prepared.validation_documents()]
    assert sorted(train + held_out) == sorted(expected) and [one.source for one in prepared.train.sources] == ["books", "web"]
    assert {document.source for document in prepared.validation_documents()} == {"books", "web"}


def test_a_stage_is_made_again_only_where_something_before_it_changed(two_sources: MakeSpec, tmp_path: Path) -> None:
    def made(**data: Any) -> set[str]:
        before = {path.parent for path in (tmp_path / "cache").glob("*/*/seal.json")}
        quiet(two_sources(**data))
        return {path.parent.parent.name for path in (tmp_path / "cache").glob("*/*/seal.json") if path.parent not in before}

    quality = WORDS | {"min_words": 4, "sources": ["web"]}
    assert made() == {"read", "cleaned", "deduplicated", "tokens", "tokenizers"}
    assert made() == set()
    assert made(validation=0.3) == {"tokens"}
    assert made(mask_documents=True, mixer={"type": "weights", "weights": {"books": 1, "web": 1}}) == set()
    assert made(filters={"quality": quality}) == {"cleaned", "deduplicated", "tokens"}
    assert made(deduplicators={}) == {"tokens"}
    with (tmp_path / "web.jsonl").open("a") as file:
        file.write(json.dumps({"text": "a document more, of seven words"}) + "\n")
    assert made(deduplicators={}) == {"read", "cleaned", "tokens"}


def test_where_the_tokens_are_there_nothing_earlier_is_needed(two_sources: MakeSpec, tmp_path: Path) -> None:
    first = quiet(two_sources())
    for shelf in ("read", "cleaned", "deduplicated"):
        shutil.rmtree(tmp_path / "cache" / shelf)
    assert quiet(two_sources()).fingerprint == first.fingerprint and not (tmp_path / "cache/read").exists()


def test_one_worker_and_two_and_a_killed_run_leave_the_same_bytes(
    two_sources: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SHARD_BYTES", 9000)
    spec = two_sources(filters={"quality": WORDS})

    def elsewhere(name: str) -> Spec:
        return spec.model_copy(update={"data": spec.data.model_copy(update={"cache": str(tmp_path / name)})})

    one, two = (quiet(elsewhere(f"cache-{count}"), workers=count) for count in (1, 2))
    assert one.train.n_shards > 3 and bytes_of(one) == bytes_of(two)

    class Dying(Workers):
        """Ends with a KeyboardInterrupt after every two tasks."""

        def run(self, job: Any, directory: Path, tasks: Any, tell: Any) -> None:
            left = [task for task in tasks if not task.account(directory).exists()]
            for task in left[:2]:
                job.run(directory, task)
            if len(left) > 2:
                raise KeyboardInterrupt

    for _ in range(100):
        try:
            killed = quiet(elsewhere("cache-killed"), engine=Dying())
            break
        except KeyboardInterrupt:
            continue
    assert bytes_of(killed) == bytes_of(one)


def test_strict_stops_at_the_first_broken_record_even_where_all_is_there(two_sources: MakeSpec) -> None:
    with pytest.raises(UserError, match=r"source web: .*web\.jsonl.*mend it, or leave --strict out"):
        prepare(two_sources(), strict=True)
    quiet(two_sources())
    with pytest.raises(UserError, match=r"web\.jsonl.*mend it, or leave --strict out"):
        prepare(two_sources(), strict=True)


def test_a_source_of_which_everything_is_broken_is_an_error_that_quotes_the_first(two_sources: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "web.jsonl").write_text("no json\n{}\n")
    with pytest.raises(UserError, match=r"data\.sources\.web yields no text: all that it has is broken, first .*web\.jsonl"):
        prepare(two_sources())


def test_filters_that_leave_nothing_are_named(two_sources: MakeSpec) -> None:
    filters = {"quality": {"type": "gopher_quality", "min_words": 5000}}
    with pytest.raises(UserError, match=r"leave none of 600 documents \(600 by filters\.quality: min_words\)"):
        prepare(two_sources(filters=filters))


@pytest.mark.parametrize("name", catalog().names(Kind.deduplicator))
def test_every_deduplicator_goes_through_nothing(two_sources: MakeSpec, name: str) -> None:
    filters = {"quality": {"type": "gopher_quality", "min_words": 5000}}
    with pytest.raises(UserError, match="leave none of 600 documents"):
        prepare(two_sources(filters=filters, deduplicators={"near": name}))


@pytest.mark.filterwarnings("ignore:.*were no documents")
def test_text_that_is_both_trained_on_and_held_out_is_told(two_sources: MakeSpec) -> None:
    books = two_sources().data.named_sources["books"]
    with pytest.warns(UserWarning, match=r"data\.holdout is data\.sources\.books as well"):
        prepare(two_sources(holdout={"type": "jsonl", **books.params.model_dump()}))


def test_pages_without_text_are_told_where_there_is_no_filter(make_spec: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.extractor, .*leave none of 1 documents \(1 by extract: blank\)"):
        prepare(make_spec("<html><body></body></html>", data={"source": {"type": "html", "paths": [str(tmp_path / "corpus.txt")]}}))


def test_what_is_broken_in_the_held_out_source_is_told_as_well(two_sources: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"text": f"held {n}"}) + "\n" for n in range(30)) + '{"text": "cut\n{}\n')
    holdout = {"type": "jsonl", "paths": [str(tmp_path / "held.jsonl")]}
    with pytest.warns(UserWarning, match="3 records were no documents"):
        prepared = prepare(two_sources(holdout=holdout))
    lines = [json.loads(line)["id"] for line in (prepared.directory / "broken.jsonl").read_text().splitlines()]
    assert [Path(line.partition("#")[0]).name for line in lines] == ["web.jsonl", "held.jsonl", "held.jsonl"]
    assert sum(prepared.funnel.broken.values()) == 3


@pytest.mark.parametrize("which", ["source", "holdout"])
def test_a_source_that_changes_while_it_is_read_is_told_and_nothing_of_it_is_kept(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    for name in "bc":
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {number}\n" for number in range(100)))
    other = tmp_path / "a.txt"
    source = {"type": "text", "paths": [str(tmp_path / "?.txt")], "split": "line"}
    run = Workers.run

    def meanwhile(self: Workers, job: Any, *rest: Any) -> None:
        if not other.exists() and getattr(job, "source", None) is not None and job.source.params.paths == source["paths"]:
            other.write_text("".join(f"a {number}\n" for number in range(100)))
        run(self, job, *rest)

    monkeypatch.setattr(Workers, "run", meanwhile)
    spec = make_spec(data={which: source})
    with pytest.raises(UserError, match=rf"data\.{which}.* was changed while it was read"):
        prepare(spec)
    assert not [path for path in (tmp_path / "cache/read").iterdir() if path.name.endswith(".part")]
    prepared = prepare(spec)
    found = prepared.validation_documents() if which == "holdout" else (document for _, document in split_documents(spec))
    assert sorted(document.text for document in found) == sorted(f"{name} {number}" for name in "abc" for number in range(100))


def test_the_funnel_has_the_name_of_the_spec_that_asks(make_spec: MakeSpec) -> None:
    first, second = prepare(make_spec()), prepare(make_spec(name="another"))
    assert first.directory == second.directory and (first.funnel.name, second.funnel.name) == ("data", "another")


def test_a_held_out_source_is_the_same_for_every_cleaning(two_sources: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("".join(f"short {number}\n" for number in range(30)))
    holdout = {"type": "text", "paths": [str(tmp_path / "held.txt")], "split": "line"}
    strict, loose = quiet(two_sources(holdout=holdout)), quiet(two_sources(holdout=holdout, filters={}))
    for prepared in (strict, loose):
        assert [document.text for document in prepared.validation_documents()] == [f"short {number}" for number in range(30)]
        assert prepared.validation.n_documents == 30 and {one.source for one in prepared.validation.sources} == {"holdout"}
    assert strict.train.n_documents == 500 and loose.train.n_documents == 501
    assert strict.validation.manifest["sha256"] == loose.validation.manifest["sha256"]


def test_a_mixer_decides_how_often_each_source_is_read(two_sources: MakeSpec) -> None:
    as_it_is, mixed = quiet(two_sources()), quiet(two_sources(mixer={"type": "weights", "weights": {"books": 3, "web": 1}}))
    assert as_it_is.proportions is None and mixed.proportions == {"books": 0.75, "web": 0.25}
    assert as_it_is.fingerprint == mixed.fingerprint
    books = mixed.funnel.shares[0]
    assert (books.source, books.proportion) == ("books", 0.75) and books.tokens == as_it_is.train.sources[0].end - 1
    assert books.epochs == pytest.approx(0.75 * 16 * 64 / books.tokens)
    assert sum(share.available for share in mixed.shares) == pytest.approx(1) and as_it_is.shares[0].proportion == books.available


def test_a_source_that_cleaning_leaves_empty_cannot_be_mixed(two_sources: MakeSpec) -> None:
    filters = {"quality": {"type": "gopher_quality", "min_words": 5000, "sources": ["web"]}}
    assert quiet(two_sources(filters=filters)).train.sources[1].documents == 0
    with pytest.raises(UserError, match=r"data\.sources\.web has no document left to train on"):
        quiet(two_sources(filters=filters, mixer={"type": "weights", "weights": {"books": 1, "web": 1}}))


def test_documents_longer_than_a_group_go_through(make_spec: MakeSpec) -> None:
    long = "x" * (document_shards.GROUP_BYTES + 7)
    prepared = prepare(make_spec("".join(f"{number}{long}\n" for number in range(3)), data={"validation": 0.5}))
    assert prepared.train.n_bytes + prepared.validation.n_bytes == 3 * (len(long) + 1)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_told_and_leaves_nothing_that_looks_whole(make_spec: MakeSpec, tmp_path: Path, workers: int) -> None:
    """A limit on the size of files stands for the disk: the same error of the system, in the same place."""
    text = "".join(f"{number} {os.urandom(30).hex()}\n" for number in range(4000))
    spec = make_spec(text, data={"source": {"type": "text", "paths": [str(tmp_path / "corpus.txt")], "split": "line"}})
    (tmp_path / "spec.json").write_text(json.dumps(spec.model_dump(mode="json")))
    code = (
        "import resource, sys; from llmkit import load_spec; from llmkit.data.prepare import prepare\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({60_000}, {resource.RLIM_INFINITY}))\n"
        f"prepare(load_spec({str(tmp_path / 'spec.json')!r}), workers={workers})"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert "UserError: data.cache" in done.stderr and "File too large; what is finished is kept: free some space" in done.stderr
    assert "Exception ignored" not in done.stderr
    assert not list((tmp_path / "cache/read").glob("*/seal.json"))
    assert prepare(spec).train.n_documents + prepare(spec).validation.n_documents == 4000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_not_be_written_to_is_named(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"data\.cache .* cannot be written"):
        prepare(make_spec())
