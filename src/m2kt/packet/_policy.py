"""A trust policy: whose signatures count, in which role, until when. Written by the recipient of packets."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from m2kt._yaml import read_yaml_file
from m2kt.errors import SpecError, StorageError, explain

from ._keys import key_id, public_key

Role = Literal["teacher", "auditor", "broker"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _midnight(value: object) -> object:
    """A date without time means midnight in UTC."""
    if isinstance(value, str) and len(value) == len("2027-01-01"):
        value = date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_midnight)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrustedKey(_Strict):
    """A key with its owner and roles."""

    keyid: KeyId = Field(description="Key id, as m2kt keys show prints it.")
    public_key: str = Field(description="PEM, as m2kt keys show prints it; must match the key id.")
    owner: str = Field(min_length=1, description="Owner of the key. Two keys of one owner count once.")
    roles: list[Role] = Field(min_length=1, description="Roles in which its signature counts.")
    expires: Time = Field(description="From then on no signature of the key counts, old ones included.")
    not_before: Time | None = Field(default=None, description="Before then no signature of the key counts.")

    @model_validator(mode="after")
    def _belongs(self) -> TrustedKey:
        try:
            actual = key_id(public_key(self.public_key, f"key of {self.owner}"))
        except StorageError as error:
            raise ValueError(str(error)) from error
        if actual != self.keyid:
            raise ValueError(f"the public key of {self.owner} has id {actual}, expected {self.keyid}")
        if self.not_before is not None and self.not_before >= self.expires:
            raise ValueError(f"the key of {self.owner} expires before its not_before")
        return self

    @property
    def holder(self) -> str:
        """The owner, case-folded, with single spaces."""
        return " ".join(self.owner.casefold().split())


class _Revoked(_Strict):
    time: Time = Field(description="When it was revoked, for people: a revocation holds for signatures of any time.")
    reason: str = Field(min_length=1, description="Reason, shown in the verdict.")


class RevokedKey(_Revoked):
    """A key whose signatures no longer count."""

    keyid: KeyId = Field(description="Id of the key.")


class RevokedPacket(_Revoked):
    """A packet that is refused in spite of its signatures."""

    digest: Digest = Field(description="Digest of the packet, as m2kt inspect shows it.")


class Revocations(_Strict):
    """Revoked keys and packets."""

    keys: list[RevokedKey] = Field(default_factory=list, description="Revoked keys.")
    packets: list[RevokedPacket] = Field(default_factory=list, description="Revoked packets.")


class TrustPolicy(_Strict):
    """``trust.yaml``."""

    version: Literal[1] = Field(default=1, description="Version of this file's format.")
    keys: list[TrustedKey] = Field(min_length=1, description="Keys whose signatures count.")
    thresholds: dict[Role, Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="Number of owners in each role who must have signed a packet."
    )
    revoked: Revocations = Field(default_factory=Revocations, description="Revoked keys and packets.")
    teachers: list[Digest] | None = Field(default=None, description="Digests of allowed teachers; all, if not given.")
    licences: list[str] | None = Field(default=None, description="Allowed licences of teachers; all, if not given.")

    @model_validator(mode="after")
    def _can_be_met(self) -> TrustPolicy:
        ids = [key.keyid for key in self.keys]
        if len(set(ids)) != len(ids):
            raise ValueError("a key is listed twice; expected each key once, with all its roles")
        for role, threshold in self.thresholds.items():
            owners = {key.holder for key in self.keys if role in key.roles}
            if len(owners) < threshold:
                raise ValueError(f"role {role} needs {threshold} owners, but the policy lists {len(owners)}")
        return self

    @classmethod
    def from_file(cls, path: str | Path) -> TrustPolicy:
        """Read a policy from YAML.

        Raises:
            SpecError: unreadable, an unknown or doubled field, a key id that does not match its key.
        """
        data = read_yaml_file(path, "the trust policy")
        try:
            return cls.model_validate(data)
        except ValueError as error:
            raise SpecError(f"cannot use the trust policy {path}: {explain(error, cls)}") from error
