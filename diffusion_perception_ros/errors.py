"""The one exception type that means: the input or an argument cannot be used as it is."""

from __future__ import annotations


class InputError(ValueError):
    """Unusable input or argument.

    ``str(error)`` is one sentence for the user: what was wrong, where, and what to do about it. Everything
    that reaches a user (command line, node) reports it without a traceback.
    """
