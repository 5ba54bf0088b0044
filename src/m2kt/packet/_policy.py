"""A trust policy: who may vouch for what, until when. Written by the one who trusts, never by the one who signs."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from m2kt.errors import SpecError, StorageError, explain

from ._keys import key_id, public_key

Role = Literal["teacher", "auditor", "broker"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _midnight(value: Any) -> Any:
    """A plain date means its first moment in UTC."""
    if isinstance(value, str) and len(value) == len("2027-01-01"):
        value = date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_midnight)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrustedKey(_Strict):
    """A key, whose it is, and what its signature may count for."""

    keyid: KeyId = Field(description="As m2kt keys show prints it.")
    public_key: str = Field(description="PEM, as m2kt keys show prints it; must belong to the key id.")
    owner: str = Field(min_length=1, description="Who holds it. Two keys of one owner count once.")
    roles: list[Role] = Field(min_length=1, description="What its signature counts for.")
    expires: Time = Field(description="From this moment on its signatures count no more, old ones included.")
    not_before: Time | None = Field(default=None, description="Before this moment they do not count yet.")

    @model_validator(mode="after")
    def _belongs(self) -> TrustedKey:
        try:
            came = key_id(public_key(self.public_key, f"key of {self.owner}"))
        except StorageError as error:
            raise ValueError(str(error)) from error
        if came != self.keyid:
            raise ValueError(f"the public key of {self.owner} has id {came}, expected {self.keyid}")
        if self.not_before is not None and self.not_before >= self.expires:
            raise ValueError(f"the key of {self.owner} expires before it begins to count")
        return self

    @property
    def holder(self) -> str:
        """The owner, without regard to case and blanks."""
        return " ".join(self.owner.casefold().split())


class _Revoked(_Strict):
    time: Time = Field(
        description="When it was revoked; for people: a revocation counts at once and for all."
    )
    reason: str = Field(min_length=1, description="Why; shown in the verdict.")


class RevokedKey(_Revoked):
    """A key that counts no more, whatever it signed and whenever."""

    keyid: KeyId = Field(description="The key.")


class RevokedPacket(_Revoked):
    """A packet that is refused, whoever signed it."""

    digest: Digest = Field(description="The packet, as m2kt inspect shows it.")


class Revocations(_Strict):
    """What was trusted once."""

    keys: list[RevokedKey] = Field(default_factory=list, description="Keys.")
    packets: list[RevokedPacket] = Field(default_factory=list, description="Packets.")


class TrustPolicy(_Strict):
    """``trust.yaml``."""

    version: Literal[1] = Field(default=1, description="Version of this file's form.")
    keys: list[TrustedKey] = Field(min_length=1, description="Whose signatures count.")
    thresholds: dict[Role, Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="How many owners of each role must have signed a packet."
    )
    revoked: Revocations = Field(default_factory=Revocations, description="Keys and packets taken back.")
    teachers: list[Digest] | None = Field(
        default=None, description="Teacher models that packets may come from; any, if not given."
    )
    licences: list[str] | None = Field(
        default=None, description="Licences of teachers that are allowed; any, if not given."
    )

    @model_validator(mode="after")
    def _can_be_met(self) -> TrustPolicy:
        ids = [key.keyid for key in self.keys]
        if len(set(ids)) != len(ids):
            raise ValueError("a key is listed twice; expected every key once, with all its roles")
        for role, threshold in self.thresholds.items():
            owners = {key.holder for key in self.keys if role in key.roles}
            if len(owners) < threshold:
                raise ValueError(f"{threshold} owners in role {role} can never sign: {len(owners)} have it")
        return self

    @classmethod
    def from_file(cls, path: str | Path) -> TrustPolicy:
        """Reads YAML.

        Raises:
            SpecError: unreadable, an unknown or doubled key, a key id that is not its key's.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
            return cls.model_validate(yaml.load(text, _OnceLoader))
        except (
            OSError,
            ValueError,
            yaml.YAMLError,
        ) as error:  # pydantic's and decoding errors are ValueErrors
            raise SpecError(f"cannot use the trust policy {path}: {explain(error)}") from error


class _OnceLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence: a second 'revoked' would unsay the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)
