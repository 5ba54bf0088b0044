"""Results to a page, to tables, and to the numbers to quote.

results = read_results(Path("results"))
write_html(results, "report.html")      # one file: no script, no font, no request
print(markdown(results))                # the tables alone, for a README
headline(results).model_dump()          # null where nothing was measured

Each section reads the results as one DataFrame, a row for each cell, and prints groups of it. Importing needs pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2kt.errors import CompatibilityError

try:
    import pandas  # noqa: F401
except ImportError as error:
    raise CompatibilityError(
        f"the bench's report needs pandas, and it cannot be imported ({error}): pip install 'm2kt[bench]'"
    ) from error

from benchmarks._cells import Result
from benchmarks.report._beyond import longer_shapes, subliminal_traits
from benchmarks.report._certificates import certificates
from benchmarks.report._controls import controls, dials
from benchmarks.report._distil import data_reduction, distillation, training
from benchmarks.report._headline import tiles, transfers, verbalised
from benchmarks.report._inside import graphs, losses, maps, steps
from benchmarks.report._ledger import ledger, provenance, refusals, speed
from benchmarks.report._numbers import Headline as Headline
from benchmarks.report._numbers import headline as headline
from benchmarks.report._numbers import headline_student as headline_student
from m2kt.render import Section, page, save_page, to_markdown

__all__ = ["Headline", "headline", "headline_student", "markdown", "sections", "write_html"]

_SUBTITLE = "A skill leaves a teacher model as a packet and arrives in a frozen student of another family."
_SECTIONS = (
    tiles,
    transfers,
    verbalised,
    distillation,
    data_reduction,
    training,
    controls,
    dials,
    longer_shapes,
    steps,
    certificates,
    subliminal_traits,
    losses,
    maps,
    graphs,
    speed,
    ledger,
    refusals,
    provenance,
)


def sections(results: Sequence[Result]) -> list[Section]:
    """All sections in order; a section without data says what would fill it."""
    return [section(results) for section in _SECTIONS]


def write_html(results: Sequence[Result], path: str | Path) -> None:
    """One self-contained file. Raises StorageError where it cannot be written."""
    commits = sorted({r.commit for r in results if r.commit})
    foot = f"{len(results)} cells" + (f", commit {', '.join(commits)}" if commits else "")
    save_page(page("M2KT, measured", sections(results), subtitle=_SUBTITLE, foot=foot), path)


def markdown(results: Sequence[Result]) -> str:
    """Headline and tables, without figures and without sections that have no data."""
    return to_markdown(sections(results))
