"""Order in BIG-Bench Hard: logical deduction, temporal sequences, dates."""

from __future__ import annotations

import re

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import Family, each, group, line, repeat
from benchmarks.symbolic.tasks.tracking import COLOURS

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December"]  # fmt: skip
SHADES = [*COLOURS, "gray", "silver", "gold", "violet", "indigo", "teal", "beige", "maroon", "olive", "cyan", "amber",
          "crimson", "ivory", "lime", "navy"]  # fmt: skip
PLACES = ["museum", "library", "theater", "market", "cinema", "park", "gym", "bakery", "beach", "bank", "stadium",
          "restaurant"]  # fmt: skip
TIMES = [f"{i}am" for i in range(5, 12)] + [f"{i}pm" for i in range(1, 12)]


@FAMILY.task(
    "logical deduction",
    {"colour": SHADES, "side": ["left", "right"]},
    lambda n: "Q: The following paragraphs each describe a set of objects arranged in a fixed order. On a shelf, there "
    "is a {c0=colour} book. " + each(n, lambda i: f"The {{c{i + 1}=colour}} book is to the {{side}} of the "
    f"{{c{i}=colour}} book, and next to it.") + " Which book is the leftmost?\nA:",
    r"So the answer is the (\w+) book\.",
    probed=(2, 3, 4),
    held_out=(16, 8),
)  # fmt: skip
def logical_deduction(prompt: str, pen: Pen) -> None:
    """Each book is put beside the one before; the shelf is written anew. A colour may come twice: as another book."""
    shelf = [group(r"is a (\w+) book", prompt)]
    at = 0
    pen.t(" The shelf: ")
    shelf = line(pen, shelf)
    pen.t(".")
    for colour, side, beside in re.findall(r"The (\w+) book is to the (left|right) of the (\w+) book", prompt):
        pen.t(" The ")
        colour = pen.s(colour)
        pen.t(" book is to the ")
        side = pen.s(side)
        pen.t(" of the ")
        pen.s(beside)
        pen.t(" book: ")
        at += side == "right"
        shelf = line(pen, [*shelf[:at], colour, *shelf[at:]])
        pen.t(".")
    pen.t(" So the answer is the ")
    pen.s(shelf[0])
    pen.t(" book.")


def day(n: int) -> list[str]:
    """Someone is seen between times; each gap may be anywhere, so that there are several templates of a size."""

    def sightings(gap: int) -> str:
        texts, last = [], "{t0=time}"
        for i in range(n):
            start = f"{{g{i}=time}}" if i == gap else last
            last = f"{{t{i + 1}=time}}"
            texts.append(f"Jessica saw Emily at the {{place}} from {start} to {last}.")
        return " ".join(texts) + f" The museum was closed after {last}."

    return [
        "Q: Today, Emily went to the museum. Between what times could they have gone? We know that: "
        f"Emily woke up at {{t0=time}}. {sightings(gap)}\nA:"
        for gap in sorted({0, n // 2, n - 1})
    ]


@FAMILY.task(
    "temporal sequences",
    {"time": TIMES, "place": PLACES},
    day,
    r"So the answer is (.+)\.",
    probed=(2, 3, 4),
    held_out=(16, 8),
)
def temporal_sequences(prompt: str, pen: Pen) -> None:
    """Whenever a sighting begins at another time than the last one ended, the time between is free."""
    end = group(r"woke up at (\w+)", prompt)
    free = None
    pen.t(" Let's think step by step. Wake-up time: ")
    end = pen.s(end)
    pen.t(".")
    for place, start, until in re.findall(r"at the (\w+) from (\w+) to (\w+)\.", prompt):
        if start != end:
            pen.t(" ")
            a = pen.s(end)
            pen.t("-")
            b = pen.s(start)
            pen.t(": free.")
            free = (a, b)
        pen.t(" ")
        start = pen.s(start)
        pen.t("-")
        end = pen.s(until)
        pen.t(": at the ")
        pen.s(place)
        pen.t(".")
    pen.t(" The museum closure time: ")
    pen.s(group(r"closed after (\w+)", prompt))
    if free is None:
        pen.t(". There was no free time. So the answer is none.")
        return
    pen.t(". The only time when Emily could have gone to the museum was ")
    a = pen.s(free[0])
    pen.t(" to ")
    b = pen.s(free[1])
    pen.t(". So the answer is ")
    pen.s(a)
    pen.t(" to ")
    pen.s(b)
    pen.t(".")


@FAMILY.task(
    "date understanding (days)",
    {"day": DAYS, "n": ["one day", *(f"{n} days" for n in ("two", "three", "four", "five", "six"))],
     "way": ["later", "earlier"]},
    lambda n: f"Q: Today is {{day}}. Jane's appointment will be {repeat('{n} {way}', n, ', then moved to ')}. "
    "On what day is it?\nA:",
    r"So the answer is (\w+)\.",
)  # fmt: skip
def days(prompt: str, pen: Pen) -> None:
    """One move of the date after the other."""
    today = group(r"Today is (\w+)", prompt)
    words = ["zero", "one", "two", "three", "four", "five", "six"]
    pen.t(" Today is ")
    today = pen.s(today)
    pen.t(".")
    for n, way in re.findall(r"(\w+ days?) (later|earlier)", prompt):
        pen.t(" ")
        n = pen.s(n)
        pen.t(" ")
        way = pen.s(way)
        pen.t(" than ")
        today = pen.s(today)
        pen.t(" is ")
        steps = words.index(n.split()[0]) * (1 if way == "later" else -1)
        today = pen.s(DAYS[(DAYS.index(today) + steps) % 7])
        pen.t(".")
    pen.t(" So the answer is ")
    pen.s(today)
    pen.t(".")


@FAMILY.task(
    "date understanding (months)",
    {"month": MONTHS, "event": ["The concert", "The exam", "The wedding", "The trip", "The fair"],
     "when": ["the next month", "the month before", "the same month"]},
    lambda n: f"Q: {{event}} is in {{month}}. {repeat('{event} is in {when}.', n)} "
    "In which month is the last of these?\nA:",
    r"So the answer is (\w+)\.",
)  # fmt: skip
def months(prompt: str, pen: Pen) -> None:
    """Relative to the event before."""
    events = re.findall(r"(The \w+) is in ([\w ]+)\.", prompt)
    (event, month), *others = events
    pen.t(" ")
    pen.s(event)
    pen.t(" is in ")
    month = pen.s(month)
    pen.t(".")
    for event, when in others:
        pen.t(" ")
        pen.s(event)
        pen.t(" is in ")
        when = pen.s(when)
        pen.t(", which is ")
        step = {"the next month": 1, "the month before": -1, "the same month": 0}[when]
        month = pen.s(MONTHS[(MONTHS.index(month) + step) % 12])
        pen.t(".")
    pen.t(" So the answer is ")
    pen.s(month)
    pen.t(".")
