"""Funnels to write reports of: a whole one with everything that can happen, and small ones that lack almost everything."""

from __future__ import annotations

from statistics import NormalDist

from llmkit.data.funnel import Amount, Audit, Clusters, Curve, Funnel, Sample, Sensitivity, Share, Stage

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "right-to-left \u202e\u2066evil\u2069 \ufeff\x00\x1b[31m | `code` **bold** $x$ &amp; [link](javascript:alert(1))",
    "]]></pre></li></ol></details><style>*{display:none}</style>\r\n# heading\n```\nfence\n````",
)
"""Texts that would act on a page or a Markdown file, were they not told as text."""


def amount(documents: int, size: int, tokens: int | None = None, estimated: bool = True) -> Amount:
    return Amount(documents=documents, bytes=size, tokens=tokens, estimated=estimated and tokens is not None)


def stage(name: str, kind: str, before: Amount, after: Amount, **more: object) -> Stage:
    removed = before.documents - after.documents
    return Stage.model_validate(
        {"stage": name, "type": kind, "before": before, "after": after, "removed": removed, "seconds": 0.4 + removed / 1000, **more}
    )


def quantiles(mean: float, deviation: float) -> list[float]:
    """A hundred values of a normal distribution at even steps of probability."""
    normal = NormalDist(mean, deviation)
    return [normal.inv_cdf((step + 0.5) / 100) for step in range(100)]


def audited() -> Audit:
    """Sixteen intervals, found as often as 1 - (1 - s^8)^14 says but for one in which less was found."""
    curve = []
    for step in range(20):
        low, high = step / 20, (step + 1) / 20
        theory = 1 - (1 - ((low + high) / 2) ** 8) ** 14
        pairs = 0 if step == 12 else 190 - 8 * step
        curve.append(Curve(low=low, high=high, pairs=pairs, found=round(pairs * theory), expected=theory))
    return Audit(documents=2_000, threshold=0.7, duplicates=412, found=405, recall=0.893, precision=0.909, curve=curve)


def whole() -> Funnel:
    """Three sources, pages and broken records among them; filters that agree, idle and rewrite; two deduplicators; a mixture."""
    read, text = amount(10_120, 412_000_000), amount(9_980, 61_500_000, 15_200_000)
    quality, c4 = amount(8_412, 50_100_000, 12_400_000), amount(8_290, 47_000_000, 11_600_000)
    exact, near = amount(7_930, 45_200_000, 11_200_000), amount(7_215, 41_800_000, 10_300_000, estimated=False)
    trained, held_out = amount(7_213, 41_790_000, 10_296_000, estimated=False), amount(2, 10_000, 4_000, estimated=False)
    broken = {"is no UTF-8": 19, "the line is cut in half": 9, "gzip ends early": 3}
    reasons = {"min_words": 1_021, "max_symbol_ratio": 322, "min_alpha_words": 225}
    by_source = {
        "read": {"books": (120, 120), "peps": (600, 600), "web": (9_431, 9_400)},
        "extract": {"books": (120, 120), "peps": (600, 600), "web": (9_400, 9_260)},
        "filters.gopher": {"books": (120, 120), "peps": (600, 600), "web": (9_260, 7_692)},
        "filters.c4": {"books": (120, 120), "peps": (600, 598), "web": (7_692, 7_572)},
        "deduplicators.exact": {"books": (120, 118), "peps": (598, 598), "web": (7_572, 7_214)},
        "deduplicators.near": {"books": (118, 118), "peps": (598, 590), "web": (7_214, 6_507)},
    }
    told = {
        name: {source: (amount(before, before * 6_000), amount(after, after * 6_000)) for source, (before, after) in sources.items()}
        for name, sources in by_source.items()
    }
    stages = [
        stage("read", "", amount(10_151, 412_000_000), read, removed=31, reasons=broken, by_source=told["read"]),
        stage("extract", "resiliparse", read, text, reasons={"blank": 140}, by_source=told["extract"]),
        stage(
            "filters.gopher",
            "gopher_quality",
            text,
            quality,
            reasons=reasons,
            only=1_100,
            shared={"c4": 411, "agrees": 90},
            by_source=told["filters.gopher"],
            sources=["web"],
        ),
        stage(
            "filters.c4",
            "c4",
            quality,
            c4,
            rewritten=5_211,
            reasons={"min_sentences": 100, "curly_bracket": 22},
            only=88,
            by_source=told["filters.c4"],
        ),
        stage("filters.agrees", "gopher_repetition", c4, c4, only=0),
        stage(
            "filters.pii", "pii", c4, c4, rewritten=217, only=0, figures={"held_out": {"accuracy": 0.9127, "n": 512}, "labels": ["a", "b"]}
        ),
        stage("deduplicators.exact", "exact", c4, exact, reasons={"duplicate": 360}, by_source=told["deduplicators.exact"]),
        stage("deduplicators.near", "minhash", exact, near, reasons={"duplicate": 715}, by_source=told["deduplicators.near"]),
        stage("split", "", near, near, figures={"train": trained.model_dump(), "validation": held_out.model_dump()}),
        stage("tokenize", "bpe", near, near),
    ]
    return Funnel(
        llmkit="0.9.1",
        name="three-sources",
        fingerprint="3f9ac1d2e8b7",
        stages=stages,
        samples=samples(),
        sensitivities=[
            limit("min_words", "words", quantiles(180, 70), least=50),
            limit("max_words", "words", quantiles(180, 70), most=100_000),
            limit("max_symbol_ratio", "symbol_ratio", [0.0] * 90 + [0.02 * step for step in range(1, 11)], most=0.1),
            limit("word_length", "mean_word_length", quantiles(4.9, 0.8), least=3, most=10),
            limit("steep", "share", quantiles(0.5, 0.01), least=0.49),
            limit("empty", "share", [], least=0.3),
        ],
        clusters=[
            Clusters(stage="deduplicators.exact", sizes={2: 150, 3: 60, 4: 22, 5: 6}),
            Clusters(
                stage="deduplicators.near",
                sizes={**{size: 300 // size for size in range(2, 24)}, 117: 1},
                largest=[[f"web/page-{place}" for place in range(10)], ["web/a", "web/b"]],
                audit=audited(),
            ),
        ],
        shares=[
            share("books", 118, 42_000_000, 6_100_000, 0.50, 0.62, 6.4),
            share("peps", 590, 8_000_000, 1_500_000, 0.05, 0.15, 0.26),
            share("web", 6_142, 12_000_000, 2_190_112, 0.45, 0.23, 1.6),
        ],
        broken=broken,
        lengths={1 << power: 40 * (17 - abs(12 - power)) for power in range(6, 23)},
        lengths_read={1 << power: 62 * (17 - abs(11 - power)) for power in range(4, 23)},
        languages={"en": 6_911, "de": 210, "fr": 71, "zh": 20, "und": 3},
    )


def samples() -> list[Sample]:
    long = "A page of menus. Home About Contact Login. " * 60
    lines = "\n".join(f"line {number}" for number in range(200))
    before = "Write to jane@example.org or call +1 212 555 0134 before noon. " * 3 + "The rest stays as it was. " * 40
    after = before.replace("jane@example.org", "<email>").replace("+1 212 555 0134", "<phone>")
    return [
        sample("filters.gopher", "min_words", "web/1.warc.gz#5120", long, value=12.0, limit=50.0),
        sample("filters.gopher", "min_words", "web/1.warc.gz#9910", lines, value=41.0, limit=50.0),
        sample("filters.gopher", "max_symbol_ratio", "web/2.warc.gz#17", "# # # ... # #", value=0.71, limit=0.1),
        sample("filters.c4", "rewritten", "web/2.warc.gz#99", "keep\njavascript\nkeep", removal="rewritten", after="keep\nkeep"),
        sample("filters.pii", "rewritten", "books/7", before, removal="rewritten", after=after),
        sample("deduplicators.near", "duplicate", "web/9", "The same story, told again.", keeper="web/3"),
        sample("read", "is no UTF-8", "books.jsonl#17", "caf\ufffd", removal="broken"),
        sample("extract", "blank", "web/4", "<html><body><script>only()</script></body></html>"),
    ]


def sample(stage: str, reason: str, id: str, text: str, **more: object) -> Sample:
    return Sample.model_validate({"stage": stage, "removal": "dropped", "reason": reason, "id": id, "source": "web", "text": text, **more})


def limit(parameter: str, statistic: str, values: list[float], least: float | None = None, most: float | None = None) -> Sensitivity:
    return Sensitivity(
        stage="filters.gopher", parameter=parameter, statistic=statistic, least=least, most=most, values=values, n=50 * len(values)
    )


def share(name: str, documents: int, size: int, tokens: int, proportion: float, available: float, epochs: float | None) -> Share:
    return Share(source=name, documents=documents, bytes=size, tokens=tokens, proportion=proportion, available=available, epochs=epochs)


def nothing_read() -> Funnel:
    """A source without a document."""
    none = amount(0, 0)
    stages = [stage(name, "", none, none) for name in ("read", "extract", "filters.gopher", "deduplicators.near", "split", "tokenize")]
    return Funnel(llmkit="0.9.1", name="empty", fingerprint="0", stages=stages)


def bare() -> Funnel:
    """What the smallest spec leaves: one source, no filter, all of it kept."""
    read = amount(310, 2_100_000)
    tokens = amount(310, 2_100_000, 520_000, estimated=False)
    stages = [stage("read", "pydoc", read, read), stage("split", "", read, read), stage("tokenize", "bpe", tokens, tokens)]
    return Funnel(llmkit="0.9.1", name="tiny", fingerprint="ab", stages=stages)


def no_stages() -> Funnel:
    """What no pipeline leaves."""
    return Funnel(llmkit="", name="", fingerprint="", stages=[])


def all_dropped() -> Funnel:
    """One document, and it goes; a deduplicator that was asked about nothing."""
    one, none = amount(1, 0), amount(0, 0)
    stages = [
        stage("read", "text", one, one, by_source={"only": (one, one)}),
        stage("filters.all", "word_list", one, none, reasons={"words": 1}, only=1, by_source={"only": (one, none)}),
        stage("deduplicators.near", "minhash", none, none),
    ]
    near = Clusters(
        stage="deduplicators.near",
        sizes={},
        audit=Audit(documents=0, threshold=0.5, duplicates=0, found=0, recall=None, precision=None, curve=[]),
    )
    values = limit("words", "share", [0.25], most=0.25)
    return Funnel(llmkit="0.9.1", name="all-dropped", fingerprint="1", stages=stages, clusters=[near], sensitivities=[values], lengths={})


def hostile() -> Funnel:
    """Every text that comes from a stranger is one that would act."""
    markup, turning, fence = HOSTILE
    base = whole()
    long = "\u0627" * 50_000 + "x" * 50_000
    zalgo = "z" + "\u0300\u0301\u0302" * 400
    taken = [
        sample("filters.gopher", reason, id, text, source=source)
        for reason, id, text, source in [
            (markup, turning, fence, markup),
            (turning, fence, markup, fence),
            (fence, markup, turning, turning),
        ]
    ]
    taken += [
        sample("filters.c4", markup, long, long),
        sample("filters.c4", "zalgo", zalgo, zalgo),
        sample("filters.pii", fence, markup, f"{markup} {turning} {fence}", removal="rewritten", after=f"{fence}{markup}"),
        sample("deduplicators.near", "duplicate", markup, turning, keeper=fence),
        sample("nowhere", turning, "\ud800", "\udfff\ud800"),
    ]
    quality = base.stages[2].model_copy(update={"reasons": {markup: 1_000, turning: 500, fence: 68}, "figures": {markup: {turning: fence}}})
    near = base.clusters[1].model_copy(update={"largest": [[markup, turning, fence], [long] * 12]})
    parts = [one.model_copy(update={"source": name}) for one, name in zip(base.shares, HOSTILE)]
    return base.model_copy(
        update={
            "name": markup,
            "fingerprint": turning,
            "stages": [*base.stages[:2], quality, *base.stages[3:]],
            "samples": taken,
            "sensitivities": [one.model_copy(update={"parameter": markup, "statistic": turning}) for one in base.sensitivities],
            "clusters": [near],
            "shares": parts,
            "broken": {markup: 3, turning: 2, fence: 1},
            "languages": {markup: 3, turning: 1},
        }
    )


def many() -> Funnel:
    """Thirty filters and forty sources with long names: what tables and figures have least room for."""
    names = [f"source-with-a-rather-long-name-{place:02d}" for place in range(40)]
    filters = [f"filters.a-filter-with-a-long-name-{place:02d}" for place in range(30)]
    left = [amount(1_000_000_000 // (place + 1), 4_000_000_000_000 // (place + 1), 900_000_000_000 // (place + 1)) for place in range(31)]
    stages = [stage("read", "", left[0], left[0], by_source=dict.fromkeys(names, (left[0], left[0])))]
    for place, name in enumerate(filters):
        by_source = dict.fromkeys(names, (left[place], left[place + 1]))
        shared = {other.partition(".")[2]: 7 * index for index, other in enumerate(filters[place + 1 :])}
        stages.append(
            stage(name, "acme.a_component_with_a_name", left[place], left[place + 1], only=place, shared=shared, by_source=by_source)
        )
    reasons = {f"a_parameter_with_a_long_name_{place}": 10**place for place in range(12)}
    stages[1] = stages[1].model_copy(update={"reasons": reasons, "seconds": 123_456.0})
    shares = [share(name, 10**9, 10**12, 10**11, 0.025, 0.025, 0.001 * place) for place, name in enumerate(names)]
    languages = {f"l{place:02d}": 1000 - place for place in range(50)}
    return Funnel(
        llmkit="0.9.1", name="many", fingerprint="2", stages=stages, shares=shares, languages=languages, lengths={1 << 40: 3, 1: 9}
    )


EVERY = (whole, nothing_read, bare, no_stages, all_dropped, hostile, many)
