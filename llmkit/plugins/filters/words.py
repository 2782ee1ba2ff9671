"""The words of a text, as the published filters count them.

Text is cut at white space, and each chunk into words by the conventions of English tokenizers since the Penn Treebank, as spaCy has
them (https://spacy.io/usage/linguistic-features#how-tokenizer-works): punctuation is taken off both ends, `don't` is `do` and `n't`,
an abbreviation keeps its full stop, a word is cut at a hyphen. datatrove counts English so, and a threshold on a number of words means
little where words are others. A chunk is cut once: the words of a text are looked up by its chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from unicodedata import category

from llmkit.plugins.filters.word_exceptions import Pieces, exceptions

PUNCTUATION = frozenset("…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪")  # noqa: RUF001
QUOTES = frozenset("'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧")  # noqa: RUF001
CURRENCY = frozenset("$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿")
OPENING = PUNCTUATION | QUOTES | CURRENCY | frozenset("§%=—–")  # noqa: RUF001
CLOSING = PUNCTUATION | QUOTES | frozenset("—–")  # noqa: RUF001
DIGITS = frozenset("0123456789")
BEFORE_FULL_STOP = PUNCTUATION | QUOTES | frozenset("%²-+|(?:)")
SENTENCE_ENDS = frozenset(
    "!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？𐩖𐩗𑁇𑁈𑂾𑂿𑃀𑃁𑅁𑅂𑅃𑇅𑇆𑇍𑇞𑇟𑈸𑈹𑈻𑈼𑊩𑑋𑑌𑗂𑗃𑗉𑗊𑗋𑗌𑗍𑗎𑗏𑗐𑗑𑗒𑗓𑗔𑗕𑗖𑗗𑙁𑙂𑜼𑜽𑜾𑩂𑩃𑪛𑪜𑱁𑱂𖩮𖩯𖫵𖬷𖬸𖭄𛲟𝪈｡。"  # noqa: RUF001
)
"""The words that end a sentence: full stops, question and exclamation marks of all scripts."""

TERMINAL = SENTENCE_ENDS | frozenset("\u061d\u1b7d\u1b7e\u2e53\u2e54៖៙៚\U00010f86\U00010f87\U00010f88\U00010f89\U00011f43\U00011f44")
"""What ends a line of prose: those, and what Unicode has added to its sentence terminals since; datatrove's list."""

UNITS = (
    "km²|km³|km|m²|m³|m|dm²|dm³|dm|cm²|cm³|cm|mm²|mm³|mm|ha|µm|nm|yd|in|ft|kg|g|mg|µg|t|lb|oz|m/s|km/h|kmh|mph|hPa|Pa|mbar|mb|MB|kb|KB|gb|GB|tb|TB|"
    "T|G|M|K|%|км²|км³|км|м²|м³|м|дм²|дм³|дм|см²|см³|см|мм²|мм³|мм|нм|кг|г|мг|м/с|км/ч|кПа|Па|мбар|Кб|КБ|кб|Мб|МБ|мб|Гб|ГБ|гб|Тб|ТБ|тб"  # noqa: RUF001
)
MEASURED = re.compile(rf"(?<=[0-9])(?:{UNITS}|\+|US\$|C\$|A\$|[{re.escape(''.join(sorted(CURRENCY)))}])$")
DOTS = re.compile(r"\.\.+")
LETTER = r"[^\W\d_]"
SIMPLE = re.compile('([A-Za-z]+)([,;:!?"”)]?)')
"""What most chunks are: a word, and at most one mark behind it that can be no part of an abbreviation."""
WITHIN = re.compile(
    rf"\.\.+|(?<=[0-9])[+\-*^](?=[0-9-])|\.|(?<={LETTER}),(?={LETTER})|(?<=[^\W_])(?:-{{1,3}}|–|——?|~)(?={LETTER})"  # noqa: RUF001
    rf"|(?<=[^\W_])[:<>=/](?={LETTER})|(?P<other>[^\x00-\x7f])"
)
ADDRESS = re.compile(
    r"(?:[\w+.-]{2,}://)?(?:\S+@)?"
    r"(?:(?:[A-Za-z0-9\u00a1-\uffff](?:[A-Za-z0-9\u00a1-\uffff_-]{0,62}[A-Za-z0-9\u00a1-\uffff])?\.)+(?P<top>[^\W\d_]{2,63})|\d{1,3}(?:\.\d{1,3}){3})"
    r"(?::\d{2,5})?(?:[/?#]\S*)?"
)

QUOTES_JOINED = ("''", "’’")  # noqa: RUF001
"""Of a row of apostrophes the first two are a quote."""
LONGEST_REMEMBERED = 64
"""Characters of a chunk whose words are kept for the next time; longer ones seldom come again."""
MOST_REMEMBERED = 1 << 16
"""Chunks of a generation; the two hold some 40 MB."""
MOST_CHARACTERS = 1 << 22
"""Characters of the texts whose words are kept; the words take some 8 MB, and are those of a batch of documents."""


def words(text: str) -> Sequence[str]:
    """The words of a text, in order. A text asked for again soon, by the next filter of a batch of documents, is not cut again."""
    found = _RECENT.get(text)
    return found if found is not None else _RECENT.keep(text, list(chain.from_iterable(map(_CHUNKS.__getitem__, text.split()))))


def sentences(line: str) -> int:
    """How many sentences there are: one, and another where a word that is no punctuation follows the end of one."""
    count, ended = 1, False
    for word in chain.from_iterable(map(_CHUNKS.__getitem__, line.split())):
        if word in SENTENCE_ENDS:
            ended = True
        elif ended and not _is_punctuation(word):
            count, ended = count + 1, False
    return count


class _Chunks(dict[str, Pieces]):
    """The words of the chunks that were met: of two generations, so that what is frequent is never forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, Pieces] = {}

    def __missing__(self, chunk: str) -> Pieces:
        pieces = self.before.get(chunk) or _cut(chunk)
        if len(chunk) > LONGEST_REMEMBERED:
            return pieces
        if len(self) >= MOST_REMEMBERED:
            self.before = dict(self)
            self.clear()
        self[chunk] = pieces
        return pieces


class _Recent(dict[str, Sequence[str]]):
    """The words of the latest texts, of so many characters in all."""

    characters = 0

    def keep(self, text: str, found: Sequence[str]) -> Sequence[str]:
        self[text] = found
        self.characters += len(text)
        while self.characters > MOST_CHARACTERS and len(self) > 1:
            oldest = next(iter(self))
            del self[oldest]
            self.characters -= len(oldest)
        return found


_CHUNKS = _Chunks()
_RECENT = _Recent()


def _cut(chunk: str) -> Pieces:
    """A chunk without white space, as words: what is taken off its start, what is left, what is taken off its end."""
    simple = SIMPLE.fullmatch(chunk)
    if simple is not None:
        word, ending = simple.groups()
        pieces = _EXCEPTIONS.get(word, (word,))
        return (*pieces, ending) if ending else pieces
    start, end = 0, len(chunk)
    heads: list[str] = []
    tails: list[str] = []
    known: Pieces | None = None
    while start < end and (known := _known(chunk, start, end)) is None:
        head = _head(chunk, start, end)
        if head and _known(chunk, start + head, end):
            heads.append(chunk[start : start + head])
            start += head
            continue
        tail = _tail(chunk, start + head, end)
        if tail and _known(chunk, start, end - tail):
            head = 0
        if not head and not tail:
            break
        if head:
            heads.append(chunk[start : start + head])
        if tail:
            tails.append(chunk[end - tail : end])
        start, end = start + head, end - tail
    middle = known if known is not None else _inside(chunk[start:end])
    return _joined([*heads, *middle, *reversed(tails)])


def _known(chunk: str, start: int, end: int) -> Pieces | None:
    return _EXCEPTIONS.get(chunk[start:end]) if end - start <= _LONGEST_EXCEPTION else None


def _head(chunk: str, start: int, end: int) -> int:
    """How many characters of punctuation the chunk begins with that are a word: 0 where it begins with a word."""
    first = chunk[start]
    if first.isalnum() and first.isascii():
        return 3 if chunk.startswith("US$", start, end) else 2 if first in "CA" and chunk.startswith("$", start + 1, end) else 0
    if first == ".":
        dots = DOTS.match(chunk, start, end)
        return dots.end() - start if dots else 0
    if first == "+":
        return int(start + 1 == end or chunk[start + 1] not in DIGITS)
    return int(first in OPENING or _is_symbol(first))


def _tail(chunk: str, start: int, end: int) -> int:
    """As `_head`, at the end; what was taken off the start is not looked at."""
    if start >= end:
        return 0
    last, before = chunk[end - 1], chunk[end - 2] if end - 2 >= start else ""
    if last == ".":
        return _dots(chunk, start, end) if before == "." else int(_takes_full_stop(chunk, start, end))
    if last in "sS" and before and before in "'’":  # noqa: RUF001
        return 2
    if last == before == "…":
        return 2
    if last in CLOSING or _is_symbol(last):
        return 1
    measured = MEASURED.search(chunk, max(start, end - 5), end)
    return end - measured.start() if measured and measured.start() > start else 0


def _dots(chunk: str, start: int, end: int) -> int:
    first = end
    while first > start and chunk[first - 1] == ".":
        first -= 1
    return end - first


def _takes_full_stop(chunk: str, start: int, end: int) -> bool:
    """Whether the full stop at the end is a word: not that of an initial, `J.`, nor that of `U.S.`."""
    if end - 2 < start:
        return False
    before = chunk[end - 2]
    if before in BEFORE_FULL_STOP or before in DIGITS or _is_lower(before):
        return True
    if before in "FfCcKk" and end - 3 >= start and chunk[end - 3] == "°":
        return True
    return end - 3 >= start and _is_upper(before) and _is_upper(chunk[end - 3])


def _inside(chunk: str) -> Pieces:
    """What is left when both ends are clean: an address whole, all else cut at hyphens, dots and the like."""
    if not chunk or (chunk.isascii() and chunk.isalnum()) or _is_address(chunk):
        return (chunk,) if chunk else ()
    pieces: list[str] = []
    start = 0
    for match in WITHIN.finditer(chunk):
        first, last = match.span()
        if first == 0 or not _cuts(chunk, match):
            continue
        if first > start:
            pieces.append(chunk[start:first])
        pieces.append(chunk[first:last])
        start = last
    return (*pieces, chunk[start:]) if start < len(chunk) else tuple(pieces)


def _is_address(chunk: str) -> bool:
    match = ADDRESS.fullmatch(chunk) if "." in chunk else None
    return match is not None and not any(map(str.isupper, match["top"] or ""))


def _cuts(chunk: str, match: re.Match[str]) -> bool:
    found = match[0]
    if found == ".":
        before, after = chunk[match.start() - 1], chunk[match.end() : match.end() + 1]
        return bool(after) and (before in QUOTES or _is_lower(before)) and (after in QUOTES or _is_upper(after))
    return match["other"] is None or found == "…" or _is_symbol(found)


def _joined(pieces: Sequence[str]) -> Pieces:
    """Words that lie beside each other and are an emoticon or an abbreviation together are one."""
    if len(pieces) == 1 or _STARTS.isdisjoint(pieces):
        return tuple(pieces)
    return tuple(_joins(pieces))


def _joins(pieces: Sequence[str]) -> Iterator[str]:
    start = 0
    while start < len(pieces):
        end, found = _longest(pieces, start)
        yield from found
        start = end
        while found[0] in QUOTES_JOINED and start < len(pieces) and pieces[start] == pieces[start - 1]:
            yield pieces[start]
            start += 1


def _longest(pieces: Sequence[str], start: int) -> tuple[int, Pieces]:
    """The longest exception that begins here, and where it ends; else the one word."""
    first = pieces[start]
    if first in _STARTS:
        for end in range(min(len(pieces), start + _MOST_PIECES), start, -1):
            together = "".join(pieces[start:end])
            if together in _JOINED:
                return end, _EXCEPTIONS[together]
    return start + 1, (first,)


def _comes_apart(exception: str) -> bool:
    """Whether the rules alone would cut this exception, so that its pieces may be met beside each other."""
    if len(_EXCEPTIONS[exception]) > 1 and exception[-2:] in ("'s", "’s"):  # noqa: RUF001
        return False
    return bool(_head(exception, 0, len(exception)) or _tail(exception, 0, len(exception)) or len(_inside(exception)) > 1)


def _is_lower(character: str) -> bool:
    return character.isalpha() and not character.isupper()


def _is_upper(character: str) -> bool:
    return character.isalpha() and not character.islower()


def _is_symbol(character: str) -> bool:
    """A pictogram or a sign that is neither punctuation nor mathematics: Unicode's category So."""
    return not character.isascii() and category(character) == "So"


@lru_cache(maxsize=1024)
def _is_punctuation(word: str) -> bool:
    return all(category(character).startswith("P") for character in word)


_EXCEPTIONS = exceptions()
_LONGEST_EXCEPTION = max(map(len, _EXCEPTIONS))
_JOINED = frozenset(filter(_comes_apart, _EXCEPTIONS))
_STARTS = frozenset(chunk[:end] for chunk in _JOINED for end in range(1, len(chunk) + 1))
_MOST_PIECES = 8
