"""The extractors, on pages written here and, where they lie beside the repository, on labelled ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from llmkit.core.errors import UserError
from llmkit.core.interfaces.extractor import Extractor
from llmkit.plugins.extractors.components import ResiliparseParams, TrafilaturaParams
from llmkit.plugins.extractors.resiliparse import Resiliparse
from llmkit.plugins.extractors.trafilatura import Trafilatura

LABELLED = Path(__file__).parents[3] / "../shared/data/html-warc/trafilatura-cc-pages.tar.xz"
SENTENCE = "The keeper climbed the tower every evening, and lit the lamp before the first boats came home from the banks. "
PAGE = f"""<!DOCTYPE html><html lang="en"><head><title>The lamp</title><script>var hidden = 1;</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/shop">Shop</a></li></ul></nav>
<main><article><h1>The lamp</h1>
<p>{SENTENCE * 4}</p>
<h2>What it burned</h2>
<p>{SENTENCE}Oil, then <a href="https://example.org/gas">gas</a>, for a long time.</p>
<ul><li>Whale oil was bright.</li><li>Gas was brighter.</li></ul>
<table><tr><th>Year</th><th>Fuel</th></tr><tr><td>1850</td><td>whale oil</td></tr></table>
<p><img src="x.png" alt="a lamp in the fog">{SENTENCE * 3}</p>
</article>
<section id="comments" class="comments"><h3>Comments</h3>
<div class="comment"><p>{"A reader thought that this was well told. " * 3}</p></div></section>
</main>
<aside class="sidebar"><p>Subscribe to our newsletter.</p></aside>
<footer>All rights reserved.</footer></body></html>"""


def resiliparse(**params: object) -> Extractor:
    return Resiliparse(ResiliparseParams.model_validate(params))


def trafilatura(**params: object) -> Extractor:
    return Trafilatura(TrafilaturaParams.model_validate(params))


@pytest.mark.parametrize("extractor", [resiliparse(), trafilatura(), trafilatura(fast=False), trafilatura(favour="precision")])
def test_what_was_written_stays_and_what_surrounds_it_goes(extractor: Extractor) -> None:
    text = extractor.extract(PAGE, "https://example.org/lamp")
    assert text.count(SENTENCE.strip()) == 8 and "What it burned" in text
    for around in ("hidden", "Shop", "newsletter", "rights reserved", "A reader", "<"):
        assert around not in text


def test_parameters_say_what_else_stays() -> None:
    assert "newsletter" in resiliparse(main_content=False).extract(PAGE)
    assert "A reader" in resiliparse(comments=True).extract(PAGE)
    assert "example.org/gas" in resiliparse(links=True).extract(PAGE)
    assert "a lamp in the fog" in resiliparse(alt_texts=True).extract(PAGE)
    assert "whale oil" not in resiliparse(skip=["table"]).extract(PAGE)
    assert "What it burned" not in resiliparse(skip=["h2", ".comment"]).extract(PAGE)
    assert "A reader" in trafilatura(comments=True).extract(PAGE)
    assert "whale oil" in trafilatura().extract(PAGE) and "whale oil" not in trafilatura(tables=False).extract(PAGE)
    assert "example.org/gas" in trafilatura(links=True).extract(PAGE)
    assert "## What it burned" in trafilatura(markdown=True).extract(PAGE)


def test_a_selector_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"skip \['p\[\['\] has a selector that is none"):
        resiliparse(skip=["p[["])


@pytest.mark.parametrize(("name", "package"), [("resiliparse:Resiliparse", "resiliparse"), ("trafilatura:Trafilatura", "trafilatura")])
def test_a_missing_package_is_told_with_the_line_that_installs_it(name: str, package: str) -> None:
    module, _, attribute = name.partition(":")
    program = f"""
import sys
sys.modules[{package!r}] = None
from llmkit.plugins.extractors.components import {attribute}Params
from llmkit.plugins.extractors.{module} import {attribute}
{attribute}({attribute}Params())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode and "pip install 'llmkit[data]'" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(not LABELLED.exists(), reason="the labelled pages lie beside the repository, and not here")
@pytest.mark.parametrize(("extractor", "least"), [(resiliparse(), 0.90), (trafilatura(), 0.97)])
def test_labelled_pages_come_out_as_well_as_the_docs_say(extractor: Extractor, least: float) -> None:
    with tarfile.open(LABELLED) as archive:
        pages = {Path(member.name).name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]
    right = wrong = 0
    for one in map(json.loads, pages["gold.jsonl"].decode().splitlines()):
        flat = " ".join(extractor.extract(pages[one["file"]].decode("utf-8", "replace"), one["url"]).split())
        stays = [" ".join(string.split()) in flat for string in one["with"]]
        goes = [" ".join(string.split()) not in flat for string in one["without"]]
        right += sum(stays) + sum(goes)
        wrong += len(stays) + len(goes) - sum(stays) - sum(goes)
    assert right / (right + wrong) >= least
