"""bAbI: tasks 1, 2, 5, 7, 15 and 16. Answers are one word, as published, or name the supporting facts first."""

from __future__ import annotations

import re

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import Family, group, groups, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

PEOPLE = ["Mary", "John", "Sandra", "Daniel"]
PLACES = ["kitchen", "bathroom", "garden", "hallway", "office", "bedroom"]
OBJECTS = ["milk", "football", "apple"]
MOVES = ["went to", "moved to", "journeyed to", "travelled to"]
ANSWER = r"So the answer is (\w+)\."

MOVED = r"(\w+) (?:went|moved|journeyed|travelled) to the (\w+)\."


def moves(n: int) -> str:
    return f"{repeat('{person} {move} the {place}.', n)} Where is {{person}}?"


WORLD = {"person": PEOPLE, "move": MOVES, "place": PLACES, "object": OBJECTS}


@FAMILY.task("bAbI 1", {k: WORLD[k] for k in ("person", "move", "place")}, moves, r"(\w+)")
def single_fact(prompt: str, pen: Pen) -> None:
    """Where someone went last: one word. Nobody may have told."""
    asked = group(r"Where is (\w+)\?", prompt)
    places = [place for person, place in re.findall(MOVED, prompt) if person == asked]
    pen.t(" ")
    pen.s(places[-1] if places else "unknown")


@FAMILY.task("bAbI 1, sentence by sentence", {k: WORLD[k] for k in ("person", "move", "place")}, moves, ANSWER)
def single_fact_by_sentence(prompt: str, pen: Pen) -> None:
    """Where the one who is asked for is, after each sentence."""
    asked = group(r"Where is (\w+)\?", prompt)
    place = "unknown"
    for person, to in re.findall(MOVED, prompt):
        pen.t(" ")
        person = pen.s(person)
        pen.t(" moved, so ")
        pen.s(asked)
        pen.t(" is: ")
        place = pen.s(to if person == asked else place)
        pen.t(".")
    pen.t(" So the answer is ")
    pen.s(place)
    pen.t(".")


@FAMILY.task(
    "bAbI 2",
    WORLD,
    lambda n: f"{repeat('{person} picked up the {object}. {person} {move} the {place}.', n)} Where is the {{object}}?",
    ANSWER,
)
def two_facts(prompt: str, pen: Pen) -> None:
    """Who holds it, and where is he. He who picks a thing up takes it from whoever had it."""
    asked = group(r"Where is the (\w+)\?", prompt)
    holders = [person for person, thing in re.findall(r"(\w+) picked up the (\w+)\.", prompt) if thing == asked]
    if not holders:
        pen.t(" Nobody has the ")
        pen.s(asked)
        pen.t(". So the answer is unknown.")
        return
    pen.t(" ")
    holder = pen.s(holders[-1])
    pen.t(" has the ")
    pen.s(asked)
    pen.t(".")
    places = [place for person, place in re.findall(MOVED, prompt) if person == holder]
    pen.t(" ")
    pen.s(holder)
    pen.t(" is in the ")
    place = pen.s(places[-1] if places else "unknown")
    pen.t(". So the answer is ")
    pen.s(place)
    pen.t(".")


@FAMILY.task(
    "bAbI 5",
    WORLD | {"end": ["received", "gave"]},
    lambda n: f"{repeat('{person} gave the {object} to {person}.', n)} Who {{end}} the {{object}}?",
    r"(\w+)",
)
def three_arguments(prompt: str, pen: Pen) -> None:
    """The giver or the receiver of the last time: one word."""
    end, asked = groups(r"Who (\w+) the (\w+)\?", prompt)
    given = [(a, b) for a, thing, b in re.findall(r"(\w+) gave the (\w+) to (\w+)\.", prompt) if thing == asked]
    pen.t(" ")
    pen.s("nobody" if not given else given[-1][0] if end == "gave" else given[-1][1])


@FAMILY.task(
    "bAbI 7",
    {"person": PEOPLE, "act": ["picked up", "put down"], "object": OBJECTS},
    lambda n: f"{repeat('{person} {act} the {object}.', n)} Is {{person}} carrying the {{object}}?",
    ANSWER,
)
def carrying(prompt: str, pen: Pen) -> None:
    """Who has it after each sentence about it; nobody puts down what another has."""
    asked, thing = groups(r"Is (\w+) carrying the (\w+)\?", prompt)
    holder = "nobody"
    for person, act, what in re.findall(r"(\w+) (picked up|put down) the (\w+)\.", prompt):
        if what != thing:
            continue
        pen.t(" ")
        person = pen.s(person)
        pen.t(" ")
        act = pen.s(act)
        pen.t(" the ")
        pen.s(thing)
        pen.t(", so ")
        holder = pen.s(person if act == "picked up" else "nobody" if person == holder else holder)
        pen.t(" has it.")
    pen.t(" So the answer is ")
    pen.s("yes" if holder == asked else "no")
    pen.t(".")


PLURAL = {"mouse": "mice", "wolf": "wolves", "sheep": "flocks", "cat": "cats", "dog": "dogs", "frog": "frogs"}
NAMED = ["Gertrude", "Jessica", "Emily", "Winona", "Bernhard", "Lily", "Greg", "Julius", "Brian"]


@FAMILY.task(
    "bAbI 15",
    {"many": list(PLURAL.values()), "one": list(PLURAL), "name": NAMED},
    lambda n: f"{repeat('{many} are afraid of {many}.', n)} {repeat('{name} is a {one}.', n)} "
    "What is {name} afraid of?",
    ANSWER,
    probed=(2, 3, 4),
    held_out=(16, 8),
)  # fmt: skip
def basic_deduction(prompt: str, pen: Pen) -> None:
    """What the one is, and what those are afraid of. The first fact and the first rule count."""
    asked = group(r"What is (\w+) afraid", prompt)
    kind = next((one for name, one in re.findall(r"(\w+) is a (\w+)\.", prompt) if name == asked), None)
    if kind is None:
        pen.t(" Nothing is known of ")
        pen.s(asked)
        pen.t(". So the answer is unknown.")
        return
    pen.t(" ")
    pen.s(asked)
    pen.t(" is a ")
    many = PLURAL[pen.s(kind)]
    pen.t(". ")
    feared = next((b for a, b in re.findall(r"(\w+) are afraid of (\w+)\.", prompt) if a == many), "nothing")
    pen.s(many)
    pen.t(" are afraid of ")
    feared = pen.s(feared)
    pen.t(". So the answer is ")
    pen.s(feared)
    pen.t(".")


@FAMILY.task(
    "bAbI 16",
    {"name": NAMED, "animal": ["swan", "lion", "frog", "rhino"], "colour": ["white", "gray", "green", "yellow"]},
    lambda n: (
        " ".join(f"{{p{i}=name}} is a {{animal}}. {{p{i}=name}} is {{colour}}." for i in range(n))
        + " Sumit is a {animal}. What color is Sumit?"
    ),
    ANSWER,
)
def basic_induction(prompt: str, pen: Pen) -> None:
    """The last one of the same animal has the colour."""
    *known, (_, kind) = re.findall(r"(\w+) is a (\w+)\.", prompt)
    colours = re.findall(r"(\w+) is (?!a )(\w+)\.", prompt)
    pen.t(" Sumit is a ")
    kind = pen.s(kind)
    pen.t(".")
    same = [i for i, (_, animal) in enumerate(known) if animal == kind]
    if not same:
        pen.t(" No other is. So the answer is unknown.")
        return
    pen.t(" ")
    name = pen.s(known[same[-1]][0])
    pen.t(" is a ")
    pen.s(kind)
    pen.t(" and ")
    pen.s(name)
    pen.t(" is ")
    colour = pen.s(colours[same[-1]][1])
    pen.t(". So the answer is ")
    pen.s(colour)
    pen.t(".")
