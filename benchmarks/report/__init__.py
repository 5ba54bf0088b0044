"""Results to a page, to tables, and to the numbers to quote.

results = read_results(Path("results"))
write_html(results, "report.html")      # one file: no script, no font, no request
print(markdown(results))                # the tables alone, for a README
headline(results).model_dump()          # null where nothing was measured
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks._cells import Result
from benchmarks.report._beyond import longer_shapes, subliminal_traits
from benchmarks.report._books import ledger, provenance, refusals, speed
from benchmarks.report._certificates import certificates
from benchmarks.report._controls import controls, dials
from benchmarks.report._distil import data_reduction, distillation, training
from benchmarks.report._headline import tiles, transfers, verbalised
from benchmarks.report._inside import graphs, losses, maps, steps
from benchmarks.report._numbers import Headline as Headline
from benchmarks.report._numbers import headline as headline
from benchmarks.report._numbers import headline_student as headline_student
from m2kt.render import Section, page, save_page, to_markdown

__all__ = ["Headline", "headline", "headline_student", "markdown", "sections", "write_html"]

_PARTS = (
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
    """All sections in order; those without data say what would fill them."""
    return [part(results) for part in _PARTS]


def write_html(results: Sequence[Result], path: str | Path) -> None:
    """One self-contained file. Raises StorageError where the disk refuses."""
    commits = sorted({r.commit for r in results if r.commit})
    foot = f"{len(results)} cells" + (f", commit {', '.join(commits)}" if commits else "")
    save_page(page("M2KT, measured", sections(results), subtitle=_SUBTITLE, foot=foot), path)


def markdown(results: Sequence[Result]) -> str:
    """Headline and tables, pictures left out; sections without data are left out too."""
    return to_markdown(sections(results))


_SUBTITLE = "A skill leaves a teacher model as a packet and arrives in a frozen student of another family."
