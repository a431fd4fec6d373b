"""What of the Hugging Face hub is on this machine or can be reached from it. Downloads nothing."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal

TIMEOUT_SECONDS = 3.0
DEFAULT_ENDPOINT = "https://huggingface.co"


def why_unreachable() -> str | None:
    """None if the hub answers, else why it does not, in a few words. Respects HF_ENDPOINT and HF_HUB_OFFLINE."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{variable} is set"
    try:
        request = urllib.request.Request(endpoint(), method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return None
    except urllib.error.HTTPError:
        return None  # it answered
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def endpoint() -> str:
    """The hub's address."""
    return os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT


def token_present() -> bool:
    """Whether a token is set or stored. Its value is never read into a message."""
    if os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    stored = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser()
    return stored.is_file() and stored.stat().st_size > 0


def is_downloaded(repository: str, kind: Literal["model", "dataset"], revision: str | None) -> bool:
    """Whether some snapshot of a hub repository lies in the local cache."""
    return snapshot(repository, kind, revision) is not None


def snapshot(repository: str, kind: Literal["model", "dataset"], revision: str | None) -> Path | None:
    """The folder in the local cache with what was fetched of a hub repository, which need not be all of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repository, repo_type=kind, revision=revision, local_files_only=True))
    except (OSError, HFValidationError):
        return None
