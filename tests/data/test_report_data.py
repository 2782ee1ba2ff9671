"""`write_report`: two files from a funnel and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import funnel_examples
import pytest
from funnel_examples import HOSTILE, limit, quantiles, sample
from markdown_it import MarkdownIt

from llmkit.core.errors import UserError
from llmkit.data.funnel import Funnel
from llmkit.data.report import markdown, write_report
from llmkit.data.report.curves import wilson
from llmkit.data.report.samples import CHARACTERS, LINES, changes, groups, shown
from llmkit.data.report.thresholds import above, below, dropped_in_use
from llmkit.data.report.words import families, notices, summary

every = pytest.mark.parametrize("make", funnel_examples.EVERY, ids=lambda make: make.__name__)
Make = Callable[[], Funnel]


@every
def test_every_funnel_gets_its_two_files_and_no_drafts(make: Make, tmp_path: Path) -> None:
    written = write_report(make(), tmp_path / "data")
    assert [path.name for path in written] == ["report.html", "report.md"]
    assert sorted(tmp_path.joinpath("data").iterdir()) == sorted(written)


def test_the_same_funnel_is_written_the_same_to_the_byte(tmp_path: Path) -> None:
    first, second = (write_report(funnel_examples.whole(), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_directory_that_is_a_file_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=r"cannot write the report in .*data"):
        write_report(funnel_examples.whole(), tmp_path / "data")


def test_a_report_needs_neither_torch_nor_numpy_nor_scipy() -> None:
    code = "import sys, llmkit.data.report; print(sorted({'torch', 'numpy', 'scipy', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_summary_says_how_much_is_left_and_where_most_went() -> None:
    told = " ".join("".join(sentence) for sentence in summary(funnel_examples.whole()))
    assert "Of 10,120 documents that were read (412\u202fMB), 7,215 are kept, 71.3%" in told
    assert "Most went at filters.gopher (1,568), deduplicators.near (715) and deduplicators.exact (360)." in told


def test_a_reader_is_told_what_to_look_at_first() -> None:
    told = [("".join(sentence)) for sentence in notices(funnel_examples.whole())]
    assert told == [
        "filters.agrees changes nothing in this text: what it looks for is not there, or it does not find it.",
        "steep of filters.gopher stands on a slope: a tenth stricter, it would drop 100% instead of 15.5%.",
        "deduplicators.near has a recall of 0.89 on the sample that was compared exactly: see its curve.",
        "The source books is read 6.4 times: beyond four, new text is worth much more.",
        "Only 4,000 tokens (2 documents) are held out: a loss on so little says little. Raise data.validation, or give a holdout.",
    ]


def test_a_source_that_goes_lost_and_a_stage_that_takes_most_are_told() -> None:
    whole = funnel_examples.whole()
    gopher = whole.stages[2]
    before, none = gopher.by_source["web"][0], gopher.by_source["web"][0].model_copy(update={"documents": 7})
    heavy = gopher.model_copy(update={"removed": 9_000, "by_source": {"web": (before, none)}, "only": 0})
    told = " ".join("".join(one) for one in notices(whole.model_copy(update={"stages": [*whole.stages[:2], heavy]})))
    assert "filters.gopher drops 97.2% of what reaches it from web, mostly for min_words: read its samples." in told
    assert "Of the source web only 7 of 9,400 documents are left." in told
    assert "Every document that filters.gopher drops, another filter drops as well." in told


def test_of_many_steep_thresholds_the_steepest_are_named() -> None:
    limits = [limit(f"p{place}", "s", quantiles(1.0, 0.3 / (place + 1)), least=0.9) for place in range(6)]
    told = ["".join(one) for one in notices(funnel_examples.bare().model_copy(update={"sensitivities": limits}))]
    assert [text.split(" ")[0] for text in told] == ["p5", "p4", "p3", "And"]
    assert told[-1] == "And 3 more like these, below."


def test_many_broken_records_are_told_with_the_commonest_reason() -> None:
    broken = funnel_examples.bare().model_copy(update={"broken": {"is no UTF-8": 30, "is cut": 2}})
    assert "".join(notices(broken)[0]).startswith("9.4% of all records (32) could not be read, most of them because: is no UTF-8.")
    few = funnel_examples.bare().model_copy(update={"broken": {"is no UTF-8": 1}})
    assert notices(few) == []


def test_a_threshold_drops_the_part_of_the_values_beyond_it() -> None:
    values = [float(value) for value in range(100)]
    for threshold in (-1.0, 0.0, 12.0, 49.5, 98.0, 99.0, 200.0):
        assert below(values, threshold) == pytest.approx(sum(value < threshold for value in values) / 100, abs=0.0101)
        assert above(values, threshold) == pytest.approx(sum(value > threshold for value in values) / 100, abs=0.0101)
    assert below([3.0], 3.0) == above([3.0], 3.0) == 0.0 and below([3.0], 3.1) == 1.0


def test_values_that_are_the_threshold_itself_are_not_dropped() -> None:
    half = [0.0] * 50 + [1.0] * 50
    assert below(half, 0.0) == 0.0 and below(half, 1.0) == pytest.approx(0.5, abs=0.01) and above(half, 1.0) == 0.0


def test_two_limits_drop_on_both_sides() -> None:
    assert dropped_in_use(limit("p", "s", quantiles(0.0, 1.0), least=-1.0, most=1.0)) == pytest.approx(0.3173, abs=0.01)


def test_wilson_intervals_are_the_published_ones() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4), "Newcombe 1998, table I"
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4), "the same"


def test_changes_begin_shortly_before_the_first_and_mark_what_went_and_what_came() -> None:
    before = "x " * 800 + "mail jane@example.org now. " + "y " * 100
    told = changes(before, before.replace("jane@example.org", "<email>"))
    assert told[0].text == "\u2026" and len(told[1].text) <= 160
    assert "".join(one.text for one in told if one.kind != "added").startswith("\u2026" + before[1485:1500])
    assert "".join(one.text for one in told if one.kind == "removed").startswith("jane@")
    assert "<" in "".join(one.text for one in told if one.kind == "added")


def test_what_the_cut_alone_moved_into_sight_is_no_change() -> None:
    whole = "secret " + " ".join(str(number) for number in range(1000))
    before, after = whole[:500], whole.replace("secret ", "")[:500]
    kinds = [one.kind for one in changes(before, after)]
    assert "added" not in kinds and kinds.count("removed") == 1


@pytest.mark.parametrize("piece", ["a\n", "a", ". ", "x y "])
def test_a_text_of_one_thing_repeated_takes_no_time(piece: str) -> None:
    begun = time.process_time()
    changes(piece * 2_000, ("b" + piece) * 2_000)
    changes(piece * 2_000, piece * 1_000 + "b" + piece * 999)
    assert time.process_time() - begun < 0.5


def test_samples_are_in_the_order_of_the_stages_and_the_commonest_reason_first() -> None:
    found = groups(funnel_examples.whole())
    assert [(group.stage, group.reason, group.number) for group in found] == [
        ("read", "is no UTF-8", 19),
        ("extract", "blank", 140),
        ("filters.gopher", "min_words", 1_021),
        ("filters.gopher", "max_symbol_ratio", 322),
        ("filters.c4", "rewritten", 5_211),
        ("filters.pii", "rewritten", 217),
        ("deduplicators.near", "duplicate", 715),
    ]


def test_items_that_were_found_are_named_under_their_evaluator() -> None:
    items = {f"mmlu:{number}": 1 for number in range(30)} | {"mmlu:found most": 7, "arc:only one": 2, "min_words": 3}
    assert list(families(items)) == ["mmlu", "min_words", "arc:only one"]
    whole = funnel_examples.whole()
    stage = whole.stages[2].model_copy(update={"reasons": items, "removed": 42})
    taken = [sample("filters.gopher", f"mmlu:{number}", f"id {number}", "an item") for number in range(3)]
    funnel = whole.model_copy(update={"stages": [*whole.stages[:2], stage], "samples": taken})
    text = markdown.document(funnel)
    assert "| filters.gopher | `mmlu`<br>found most (7), 0 (1), 1 (1), 10 (1)" in text and " and 11 more | 37 | 88.1% |" in text
    (group,) = groups(funnel)
    assert (group.reason, group.number, len(group.samples)) == ("mmlu", 37, 3)
    assert "id 2, web, mmlu:2" in text


def test_a_huge_sample_is_cut_in_both_directions() -> None:
    assert len(shown("x" * 10**7)) == CHARACTERS + 1
    assert len(shown("x\n" * 10**4).split("\n")) == LINES + 1


def test_markdown_tells_the_stages_the_reasons_and_samples() -> None:
    text = markdown.document(funnel_examples.whole())
    for told in (
        "# three-sources",
        "7,215<br>of 7,930",
        "\u2248\u202f11.2\u202fM",
        "| filters.gopher | `min_words` | 1,021 | 65.1% | 11.0% |",
        "| filters.gopher | 1,568 | 1,100<br>70.2% | 411<br>26.2% |",
        "| validation | 2 | 10.0\u202fkB | 4.00\u202fk |",
        "web/1.warc.gz\\#5120, web, 12, limit 50",
        "became:",
        "in its place stays web/3",
        "is no UTF-8",
    ):
        assert told in text, told


@every
def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(make: Make) -> None:
    heads, fence = 0, ""
    for line in markdown.document(make()).splitlines():
        if (opened := re.match(r"`{3,}", line)) and (not fence or line == fence):
            fence = "" if fence else opened[0]
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") and not fence else 0
        assert not cells or not heads or cells == heads, line
        heads = cells


@every
def test_another_reader_of_markdown_finds_no_element_that_we_did_not_write(make: Make) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.document(make()))
    inside = [child for token in tokens if token.type == "inline" for child in token.children or ()]
    assert {child.content for child in inside if child.type == "html_inline"} <= {"<br>"}
    assert not [token for token in tokens if token.type == "html_block"]
    assert not [child for child in inside if child.type in ("link_open", "image")]
    titles = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert not [title for title in titles if title == "heading"], "a text's own heading became one"


def test_samples_in_markdown_lie_in_fences_that_their_own_fences_do_not_close() -> None:
    taken = [sample("filters.c4", "reason", "id", text) for text in HOSTILE]
    funnel = funnel_examples.whole().model_copy(update={"samples": taken})
    fences = [token.content for token in MarkdownIt("commonmark").parse(markdown.document(funnel)) if token.type == "fence"]
    assert fences == [f"{shown(text)}\n" for text in HOSTILE]
