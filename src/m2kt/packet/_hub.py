"""Packets on the Hugging Face Hub: a repository whose files are the parts of one packet."""

from __future__ import annotations

import shutil
from pathlib import Path

from m2kt.errors import PacketError, first_line

from ._parts import GRAPH, PARTS, check_size, parts_of


def download(repo_id: str, revision: str | None, into: Path, *, token: str | None = None) -> None:
    """Download the parts of a packet, and no other file of the repository.

    Raises:
        PacketError: the Hub refused, or has no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(repo_id, revision=revision, token=token, allow_patterns=[*PARTS, GRAPH]))
        found = {path.name for path in snapshot.iterdir()}  # a newer packet may have been uploaded over one of format 1
        for name in parts_of(found):  # the Hub's cache consists of links, which a packet must not contain
            if (snapshot / name).is_file():
                check_size(name, (snapshot / name).stat().st_size, repo_id)
                shutil.copyfile(snapshot / name, into / name)
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise PacketError(
            f"{repo_id!r} is no local packet, and the Hub did not return it ({first_line(error)}); expected a packet "
            "directory, a .m2kp file, or the id of a repository with a packet"
        ) from error


def upload(
    folder: Path, repo_id: str, *, private: bool, token: str | None, message: str, branch: str | None = None
) -> str:
    """Upload a packet directory to a repository, created if needed. Returns the commit's address.

    Raises:
        PacketError: the Hub refused.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=message,
            revision=branch,
            allow_patterns=list(PARTS),
        )
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise PacketError(
            f"the Hub refused the packet {repo_id!r} ({first_line(error)}); check its name and your token"
        ) from error
    return str(commit.commit_url)
