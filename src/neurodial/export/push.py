"""Uploading an export to the Hub. Only what has a passed equivalence check beside it goes up."""

from __future__ import annotations

import json
from pathlib import Path

from neurodial.errors import ExportError, OptionError
from neurodial.export.manifest import VERIFICATION, read_manifest


def check_repository(name: str) -> None:
    """Refuse, before long work, a name that the Hub would refuse.

    Raises:
        OptionError: it is not `user/name`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise OptionError(f"The repository is {name!r}: {error}", wanted="user/name") from error
    if name.count("/") != 1:
        raise OptionError(f"The repository is {name!r}.", wanted="user/name")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload an export; gives its address.

    Args:
        folder: an export with its verification.json.
        repository: `user/name`; made where it does not exist.
        public: let everybody see it. A repository that exists keeps what it is.

    Raises:
        ExportError: the folder has no passed check, or the Hub refused it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    check_repository(repository)
    manifest = read_manifest(folder)
    verification = (
        json.loads((folder / VERIFICATION).read_text(encoding="utf-8")) if (folder / VERIFICATION).is_file() else {}
    )
    if not verification.get("comparisons") or not all(check["agrees"] for check in verification["comparisons"]):
        raise ExportError(f"{folder} has no equivalence check that passed.", fix="Run `neurodial verify` on it first.")
    api = HfApi()
    try:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"{manifest.name} as {manifest.route} (neurodial)"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ExportError(
            f"The Hub did not take {folder}: {str(error).splitlines()[0]}",
            fix=f"The export itself is done and stays in {folder}. Log in with `hf auth login` and push it again.",
        ) from error
    return str(address)
