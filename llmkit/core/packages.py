"""Which version of a distribution is installed."""

from __future__ import annotations

from importlib import metadata


def installed(distribution: str) -> str | None:
    """Its version; None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
