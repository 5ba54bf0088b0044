"""Settings of a broker. Most fields are options of ``m2kt serve``."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class BrokerSettings(BaseModel):
    """Storage locations, trust policy and limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path = Field(description="Data folder: the upload spool, and by default the database and the store.")
    database: str | None = Field(default=None, description="Database URL; by default SQLite in the data folder.")
    store: str | None = Field(default=None, description="Store URL; by default a directory in the data folder.")
    trust: Path | None = Field(default=None, description="Trust policy that every published packet must meet.")
    public: bool = Field(default=False, description="Whether reading needs no API key.")
    max_upload: int = Field(default=256 << 20, ge=1, description="Maximum size of an upload in bytes.")
    max_uploads_at_once: int = Field(
        default=8, ge=1, description="Maximum number of concurrent uploads; further ones get status 429."
    )
    upload_seconds: int = Field(default=600, ge=1, description="Maximum duration of an upload in seconds.")
    body_seconds: float = Field(default=30, gt=0, description="Maximum duration of any other body in seconds.")
    header_seconds: float = Field(default=20, gt=0, description="Maximum duration of a request's headers in seconds.")
    write_seconds: float = Field(default=60, gt=0, description="Seconds after which an answer that nobody takes ends.")
    max_connections: int = Field(default=1000, ge=1, description="Maximum number of connections; more get status 503.")
    draw_seconds: float = Field(default=20, gt=0, description="Maximum duration of drawing a packet's page in seconds.")
    quota_bytes: int = Field(default=20 << 30, ge=1, description="Maximum size of what one API key stores, in bytes.")
    quota_records: int = Field(default=20_000, ge=1, description="Maximum number of additions by one API key.")
    quota_statements: int = Field(default=100, ge=1, description="Statements of one API key about one packet.")
    url: str | None = Field(default=None, description="Address by which clients reach the broker, shown on pages.")
    drain_seconds: int = Field(default=30, ge=0, description="Seconds that a shutdown waits for requests in progress.")

    @property
    def database_url(self) -> str:
        """URL of the database, with the default resolved."""
        return self.database or f"sqlite:///{self.data.absolute() / 'broker.db'}"

    @property
    def store_url(self) -> str:
        """URL of the store, with the default resolved."""
        return self.store or str(self.data.absolute() / "store")

    @property
    def spool(self) -> Path:
        """Folder of uploads that are not verified yet."""
        return self.data / "spool"
