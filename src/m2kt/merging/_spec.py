"""One probe spec of several: what can be asked of any of the teachers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from m2kt.errors import PacketError
from m2kt.packet import Packet
from m2kt.probes import ProbeSpec, Slot, WeightedTemplate

AnyTemplate = str | WeightedTemplate
MUST_AGREE = ("stop", "chat", "answer", "facts")


def joint_spec(packets: Sequence[Packet]) -> ProbeSpec:
    """Templates, slots and wordings of all; what one probes is held out by none.

    Raises:
        PacketError: answers end, are put or are read in different ways, or the skills have different names.
    """
    first = packets[0].spec
    others = [packet.spec for packet in packets[1:] if packet.spec.public() != first.public()]
    if not others:
        return first
    for spec in others:
        for field in MUST_AGREE:
            a, b = getattr(first, field), getattr(spec, field)
            if a != b:
                raise PacketError(
                    f"the probe specs {first.name} and {spec.name} differ in {field}: {a!r} and {b!r}; expected one "
                    "way of asking and reading: extract them with one spec"
                )
    specs = [first, *others]
    slots: dict[str, Slot] = {}
    for spec in specs:
        for name, slot in spec.slots.items():
            values = dict.fromkeys([*(slots[name].values if name in slots else []), *slot.values])
            slots[name] = slot.model_copy(update={"values": list(values)})
    templates = _distinct(spec.templates for spec in specs)
    probed = {_text(template) for template in templates}
    held_out = [t for t in _distinct(spec.held_out for spec in specs) if _text(t) not in probed]
    update: dict[str, object] = {"slots": slots, "templates": templates, "held_out": held_out}
    for field in ("surroundings", "phrasings", "held_out_phrasings"):
        update[field] = list(dict.fromkeys(text for spec in specs for text in getattr(spec, field)))
    # through YAML: a copy of a model validates nothing
    return ProbeSpec.from_yaml(first.public().model_copy(update=update).to_yaml(), source="the joint spec")


def _distinct(lists: Iterable[Sequence[AnyTemplate]]) -> list[AnyTemplate]:
    found = {_text(template): template for templates in lists for template in templates}
    return list(found.values())


def _text(template: AnyTemplate) -> str:
    return template if isinstance(template, str) else template.text
