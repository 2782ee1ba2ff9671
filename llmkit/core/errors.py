"""What went wrong, for a person: the thing, the value, the place, the remedy."""

from __future__ import annotations


class UserError(Exception):
    """The user's mistake (spec, argument, file, missing plugin). The command line prints it and exits 2, without a traceback."""
