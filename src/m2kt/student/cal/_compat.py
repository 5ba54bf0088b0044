"""The only module that uses peft's internals: it adds CAL to the ``PeftType`` enum.

``register_peft_method`` refuses names that are not members of the enum, and plain strings break the load paths of
transformers, so the member must be real. Everything is idempotent: importing twice, or reloading, adds nothing.
"""

from __future__ import annotations

from typing import cast

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType, register_peft_method

NAME = "CAL"
PREFIX = "cal_"


def grow_peft_type() -> PeftType:
    """Add the member ``PeftType.CAL`` unless it exists, and return it."""
    member = PeftType._value2member_map_.get(NAME)
    if member is None:
        member = str.__new__(PeftType, NAME)
        member._name_ = NAME
        member._value_ = NAME
        PeftType._member_names_.append(NAME)
        PeftType._member_map_[NAME] = member
        PeftType._value2member_map_[NAME] = member
        # Attribute access on the class goes through its dictionary, which EnumType guards against assignment.
        type.__setattr__(PeftType, NAME, member)
    return cast(PeftType, member)


CAL_TYPE = grow_peft_type()


def register_method(config_cls: type, model_cls: type) -> None:
    """Register the tuner with peft unless it is registered already."""
    if CAL_TYPE not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name="cal", config_cls=config_cls, model_cls=model_cls, prefix=PREFIX)
