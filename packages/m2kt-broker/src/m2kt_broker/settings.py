"""How a broker is set up. Every field is an option of ``m2kt serve``."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class BrokerSettings(BaseModel):
    """Where a broker keeps what it has, and what it lets in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path = Field(
        description="Folder of its own: the database and the bytes, unless these are elsewhere."
    )
    database: str | None = Field(default=None, description="URL; SQLite in the data folder, if not given.")
    store: str | None = Field(default=None, description="URL of the bytes; the data folder, if not given.")
    trust: Path | None = Field(default=None, description="Policy that every packet must meet on arrival.")
    public: bool = Field(default=False, description="Whether reading needs no key.")
    max_upload: int = Field(default=256 << 20, ge=1, description="Bytes that an upload may have.")
    max_uploads_at_once: int = Field(
        default=8, ge=1, description="Uploads beyond are told to come back (429)."
    )
    upload_seconds: int = Field(default=600, ge=1, description="Time that an upload may take to arrive.")
    drain_seconds: int = Field(default=30, ge=0, description="How long a stop waits for requests to end.")

    @property
    def database_url(self) -> str:
        """Of the database."""
        return self.database or f"sqlite:///{self.data.absolute() / 'broker.db'}"

    @property
    def store_url(self) -> str:
        """Of the store."""
        return self.store or str(self.data.absolute() / "store")

    @property
    def spool(self) -> Path:
        """Where uploads lie until they are verified."""
        return self.data / "spool"
