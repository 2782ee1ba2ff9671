"""Anyone's numbers as a study: a CSV table with the columns arm, seed and value. Importing it imports no numpy; judging does."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmkit.ablate.results import ArmResult, Cell, StudyResult
from llmkit.core.errors import UserError
from llmkit.core.problems import Place, Problem, suggestion

COLUMNS = ("arm", "seed", "value")
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """Values by arm and seed, in the order of the file; None where a run diverged (`nan`, `inf` or nothing)."""

    name: str
    hash: str
    values: Mapping[str, Mapping[int, float | None]]


@dataclass(frozen=True)
class Row:
    """A row's fields by column, and where each begins."""

    fields: Mapping[str, str]
    places: Mapping[str, Place]


@dataclass
class _Reading:
    """What has been read so far, and what is wrong with it."""

    values: dict[str, dict[int, float | None]] = field(default_factory=dict)
    first: dict[tuple[str, int], Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, row: Row) -> None:
        arm, seed, value = row.fields["arm"], self._seed(row), self._value(row)
        if not arm:
            self.problems.append(Problem(row.places["arm"], "arm", "is empty; name the arm"))
        if not arm or seed is None:
            return
        before = self.first.setdefault((arm, seed), row.places["arm"])
        if before is not row.places["arm"]:
            message = f"{arm!r} with seed {seed} stands already in line {before.line}; one value for each arm and seed"
            self.problems.append(Problem(row.places["seed"], "seed", message))
            return
        self.values.setdefault(arm, {})[seed] = value

    def _seed(self, row: Row) -> int | None:
        try:
            return _whole(row.fields["seed"])
        except ValueError:
            message = f"expected a whole number, got {row.fields['seed']!r}; number the runs of an arm, runs that belong together alike"
            self.problems.append(Problem(row.places["seed"], "seed", message))
            return None

    def _value(self, row: Row) -> float | None:
        text = row.fields["value"]
        if not text:
            return None
        try:
            value = _number(text)
        except ValueError:
            message = f"expected a number, got {text!r}; write it with a point, and `nan` or nothing where the run diverged"
            self.problems.append(Problem(row.places["value"], "value", message))
            return None
        return value if math.isfinite(value) else None


def read_table(file: Path) -> Table:
    """A table with a header; other columns than arm, seed and value are left alone. Commas, semicolons or tabs.

    `UserError` with all problems, each at its file, line and column.
    """
    text = _text(file)
    lines = list(io.StringIO(text, newline=""))
    if not any(line.strip() for line in lines):
        raise UserError(f"{file} is empty; its first line names the columns: arm,seed,value")
    delimiter = max(DELIMITERS, key=lines[0].count)
    reading = _Reading()
    for row in _rows(file, lines, delimiter, reading.problems):
        reading.add(row)
    if reading.problems:
        raise UserError("\n".join(map(str, reading.problems)))
    if not reading.values:
        raise UserError(f"{file} holds no runs; write a line each under its header, such as baseline{delimiter}0{delimiter}3.28")
    return Table(file.stem, hashlib.sha256(text.encode()).hexdigest(), reading.values)


def judge_table(
    table: Table,
    baseline: str,
    *,
    alpha: float = 0.05,
    equivalence: float | None = None,
    higher_is_better: bool = False,
    sequential: bool = False,
    paired: bool = True,
    command: str = "",
) -> StudyResult:
    """The table as a study's result; see `verdict.judge` for the statistics."""
    warnings = _check_arms(table, baseline, paired)
    from llmkit import __version__
    from llmkit.ablate.verdict import judge

    judgements = judge(
        table.values,
        baseline,
        alpha=alpha,
        equivalence=equivalence,
        higher_is_better=higher_is_better,
        sequential=sequential,
        paired=paired,
    )
    return StudyResult(
        study=table.name,
        hash=table.hash,
        baseline=baseline,
        metric="value",
        higher_is_better=higher_is_better,
        alpha=alpha,
        equivalence=equivalence,
        sequential=sequential,
        arms=[ArmResult(name=one.arm, cells=list(_cells(one.arm, table.values[one.arm])), judgement=one) for one in judgements],
        warnings=warnings,
        command=command,
        llmkit=__version__,
    )


def _cells(arm: str, values: Mapping[int, float | None]) -> Iterator[Cell]:
    for seed, value in values.items():
        yield Cell(arm=arm, seed=seed, key="", ending="diverged" if value is None else "finished", value=value)


def _check_arms(table: Table, baseline: str, paired: bool) -> list[str]:
    """Warnings of seeds that only one side has; `UserError` where nothing can be compared."""
    if baseline not in table.values:
        raise UserError(f"--baseline {baseline!r} is no arm of {table.name}; {suggestion(baseline, table.values)}")
    if len(table.values) == 1:
        raise UserError(f"{table.name} has no other arm than {baseline!r}; a verdict takes two")
    if not paired:
        return []
    own = set(table.values[baseline])
    seeds = {arm: set(values) for arm, values in table.values.items() if arm != baseline}
    apart = [arm for arm, of in seeds.items() if not of & own]
    if apart:
        raise UserError(
            f"{', '.join(map(repr, apart))} and the baseline {baseline!r} have no seed in common; number runs that share data "
            "and its order alike, or compare runs that share nothing with --unpaired"
        )
    return [
        f"{arm} and {baseline} do not have the same seeds: {', '.join(map(str, sorted(of ^ own)))} left out of the differences"
        for arm, of in seeds.items()
        if of != own
    ]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text in UTF-8 (byte {error.start}); save it as CSV in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {str(file)!r}: {error.strerror}; name a CSV table with the columns arm, seed and value") from None


def _rows(file: Path, lines: list[str], delimiter: str, problems: list[Problem]) -> Iterator[Row]:
    """The rows under the header; those that do not have its fields are problems."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    heads: list[str] | None = None
    start = 0
    try:
        for fields in reader:
            first, start = start, reader.line_num
            if not any(map(str.strip, fields)):
                continue
            places = _places(file, lines, first, start, delimiter)
            if heads is None:
                heads = [name.strip() for name in fields]
                if not _check_heads(heads, places, problems):
                    return
            elif len(fields) != len(heads):
                message = f"has {len(fields)} fields where the header names {len(heads)}; one for each of {', '.join(heads)}"
                problems.append(Problem(places[0], "", message))
            else:
                yield Row(dict(zip(heads, map(str.strip, fields), strict=True)), dict(zip(heads, places, strict=True)))
    except csv.Error as error:
        problems.append(Problem(Place(str(file), start + 1, 1), "", f"is no row of a table ({error}); check its quotes"))


def _check_heads(heads: list[str], places: list[Place], problems: list[Problem]) -> bool:
    """Whether the three columns are there, once each."""
    for column in COLUMNS:
        others = [name for name in heads if name and name not in COLUMNS]
        match heads.count(column):
            case 0:
                hint = f"; {suggestion(column, others)}" if others else ""
                problems.append(Problem(places[0], column, f"is no column of this table; name the columns arm, seed and value{hint}"))
            case 1:
                continue
            case _:
                again = places[len(heads) - 1 - heads[::-1].index(column)]
                problems.append(Problem(again, column, "is named twice in the header; keep one"))
    return not problems


CLOSED = "closed"


def _places(file: Path, lines: list[str], first: int, end: int, delimiter: str) -> list[Place]:
    """Where each field of a row begins; a quoted field may hold delimiters and line ends.

    As `csv` reads: a quote opens a field at its beginning alone, and one right after a quote that would close it is a character.
    """
    places = [Place(str(file), first + 1, 1)]
    quoted, before = False, delimiter
    for number, line in enumerate(lines[first:end], first + 1):
        for column, character in enumerate(line, 1):
            if character == '"' and (quoted or before in (delimiter, CLOSED)):
                before = "" if not quoted else CLOSED
                quoted = not quoted
                continue
            if character == delimiter and not quoted:
                places.append(Place(str(file), number, column + 1))
            before = character
    return places


def _whole(text: str) -> int:
    if "_" in text:
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if "_" in text:
        raise ValueError(text)
    return float(text)
