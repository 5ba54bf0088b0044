"""A repository of an OCI registry, by ``oras``: artefacts of one file, by tag or digest."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt._plugins import missing
from m2kt.errors import BrokerError, SpecError, explain, printable

from ._oci_auth import Login, Tokens, read_reply

if TYPE_CHECKING:
    import requests
    from oras.provider import Registry

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
SECONDS = (5, 60)  # to connect, and between two bytes
PIECE = 1 << 20
_NAME = re.compile(
    r"(?P<host>[^/@\s]+)/(?P<name>[a-z0-9][a-z0-9._/-]*?)"
    r"(?::(?P<tag>[\w][\w.-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Artefact:
    """Media types of an artefact and its file."""

    artefact_type: str
    media_type: str


PACKET_ARTEFACT = Artefact("application/vnd.m2kt.packet.v1", "application/vnd.m2kt.packet.v1+zip")
RECORD_ARTEFACT = Artefact("application/vnd.m2kt.record.v1", "application/vnd.m2kt.record.v1+json")


@dataclass(frozen=True)
class Layer:
    """The one file of an artefact."""

    digest: str
    size: int
    media_type: str
    manifest: bytes
    """The manifest that names it."""


class Repository:
    """``HOST/NAME``. Requests use TLS unless the registry is on this machine.

    Credentials are those of docker's configuration (``docker login``, ``oras login``).

    Raises:
        SpecError: not a name of a repository, or oras is not installed.
        BrokerError, from every call: the registry refused or did not answer.
    """

    def __init__(self, reference: str) -> None:
        host, name, _ = split(reference)
        self.name = f"{host}/{name}"
        self._insecure = re.split(r":\d+$", host)[0] in ("localhost", "127.0.0.1", "[::1]")
        self._host, self._threads = host, threading.local()

    def push(
        self,
        tag: str,
        source: Path | bytes,
        digest: str,
        kind: Artefact,
        labels: dict[str, str] | None = None,
    ) -> None:
        """Uploads a file as an artefact; the tag is set last, so that it never names an incomplete one."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        title = (labels or {}).get("title")
        layer: dict[str, object] = {"mediaType": kind.media_type, "digest": digest, "size": size}
        if title is not None:
            layer["annotations"] = {"org.opencontainers.image.title": title}
        empty = {"mediaType": EMPTY_TYPE, "digest": _sha256(EMPTY), "size": len(EMPTY)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind.artefact_type,
            "config": empty,
            "layers": [layer],
            "annotations": {f"urn.m2kt.{name}": value for name, value in (labels or {}).items() if name != "title"},
        }
        with self._request(f"push {tag}") as registry, _as_file(source) as file, _as_file(EMPTY) as config:
            container = registry.get_container(f"{self.name}:{tag}")
            for path, described in ((config, empty), (file, layer)):
                _expect(registry.upload_blob(str(path), container, described), (200, 201, 202))
            _expect(registry.upload_manifest(manifest, container), (200, 201))

    def layer(self, reference: str) -> Layer | None:
        """The file of a tag or a manifest's digest; None where there is none."""
        separator = "@" if reference.startswith("sha256:") else ":"
        with self._request(f"look for {reference}") as registry:
            container = registry.get_container(f"{self.name}{separator}{reference}")
            url = f"{registry.prefix}://{container.manifest_url()}"
            answer = registry.do_request(url, headers={"Accept": MANIFEST_TYPE})
            if answer.status_code == 404:
                return None
            _expect(answer, (200,))
            return manifest_layer(answer.content, reference, f"{self.name}{separator}{reference}")

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes of a file from ``start`` to before ``end``."""
        if end is not None and end <= start:
            return
        with self._request(f"read {digest}") as registry:
            container = registry.get_container(self.name)
            url = f"{registry.prefix}://{container.get_blob_url(digest)}"
            whole = start == 0 and end is None
            headers = {} if whole else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
            with registry.do_request(url, headers=headers, stream=True) as answer:
                _expect(answer, (200,) if whole else (206,))
                yield from answer.iter_content(PIECE)

    def tags(self) -> list[str]:
        """All tags."""
        with self._request("list tags") as registry:
            container = registry.get_container(self.name)
            url = f"{registry.prefix}://{container.tags_url()}"
            if registry.do_request(url).status_code == 404:  # a repository exists once it has an artefact
                return []
            return list(registry.get_tags(container))

    def check(self) -> None:
        """Raises BrokerError where the registry does not answer."""
        with self._request("ask the registry") as registry:
            _expect(registry.do_request(f"{registry.prefix}://{self._host}/v2/"), (200,))

    @contextmanager
    def _request(self, action: str) -> Iterator[Registry]:
        import requests
        from oras.auth import AuthenticationException

        try:
            yield self._registry()
        except (requests.RequestException, AuthenticationException, ValueError, KeyError, OSError) as error:
            raise BrokerError(f"cannot {action} at {self.name}: {explain(error)[:200]}; is the registry up?") from error

    def _registry(self) -> Registry:
        """One session per thread: requests does not document sessions as thread-safe."""
        if not hasattr(self._threads, "registry"):
            self._threads.registry = _registry_class()(hostname=self._host, insecure=self._insecure)
            registry = self._threads.registry
            registry.session.request = functools.partial(registry.session.request, timeout=SECONDS)
            name = self.name.partition("/")[2]
            registry.tokens = Tokens(registry.session, self._host, name, self._login(registry), self._insecure)
        return self._threads.registry

    def _login(self, registry: Registry) -> Login:
        """The login of docker's configuration, or of the helper that it names."""
        registry.auth.load_configs(registry.get_container(self.name))
        entry = registry.auth._auth_config.get("auths", {}).get(self._host, {})
        return Login(getattr(registry.auth, "_basic_auth", None), entry.get("identitytoken") or None)


def manifest_layer(manifest: bytes, reference: str, where: str) -> Layer:
    """The one file that a manifest names.

    Raises:
        BrokerError: it has another digest than ``reference`` pins, or is no manifest of one file.
    """
    if reference.startswith("sha256:") and _sha256(manifest) != reference:
        raise BrokerError(f"expected {where}, got a manifest with another digest; do not use this registry")
    try:
        (layer,) = json.loads(manifest)["layers"]
        digest, size, kind = str(layer["digest"]), int(layer["size"]), str(layer["mediaType"])
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or size < 0:
            raise ValueError(f"the digest {digest!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = printable(explain(error), 100)
        raise BrokerError(
            f"expected a manifest of one file at {where}, got another ({reason}); name a packet"
        ) from error
    return Layer(digest, size, kind, manifest)


def split(reference: str) -> tuple[str, str, str | None]:
    """Host, name, and tag or digest of ``HOST/NAME[:TAG|@DIGEST]``."""
    match = _NAME.fullmatch(reference)
    if match is None:
        raise SpecError(f"expected oci://host/name:tag or oci://host/name@sha256:..., got oci://{reference}")
    return match["host"], match["name"], match["tag"] or match["digest"]


@functools.cache
def _registry_class() -> type[Registry]:
    """oras' registry with tokens that expire, bounded replies, and without retries that sleep while a lock is held."""
    try:
        from oras.provider import Registry
    except ModuleNotFoundError as error:
        raise missing("oci://", "oras", "m2kt-broker") from error

    class PatientRegistry(Registry):  # type: ignore[misc]
        tokens: Tokens

        def do_request(
            self,
            url: str,
            method: str = "GET",
            data: Any = None,
            headers: dict[str, str] | None = None,
            json: Any = None,
            stream: bool = False,
        ) -> Any:
            given = {k: v for k, v in (headers or {}).items() if k.casefold() != "authorization"}
            for may_renew in (True, False):
                sent = {**given, **self.tokens.header(method, url)}
                answer = self.session.request(method, url, data=data, json=json, headers=sent, stream=True)
                # a registry that knows the token and misses a right in it says 403, also with a challenge
                if not (may_renew and answer.status_code in (401, 403) and self.tokens.renew(method, url, answer)):
                    break
                answer.close()
                if hasattr(data, "seek"):
                    data.seek(0)
            if not stream:
                read_reply(answer)
            return answer

    return PatientRegistry


@contextmanager
def _as_file(source: Path | bytes) -> Iterator[Path]:
    if isinstance(source, Path):
        yield source
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(source)
        file.flush()
        yield Path(file.name)


def _expect(answer: requests.Response, statuses: tuple[int, ...]) -> None:
    if answer.status_code not in statuses:
        if not answer._content_consumed:
            read_reply(answer)
        raise ValueError(f"it answered {answer.status_code} {printable(answer.text, 200)}")


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
