"""What can go wrong in the entrypoint itself.

SettingsError       settings that cannot be used: fix them
Unpublished         a store did not take the newest state in time
Stopped             somebody asked the job to stop; what is saved is saved
"""

from cloud.errors import StoreError


class SettingsError(Exception):
    """Settings that cannot be used. Its text is one line per problem: which, what is wrong, where it came from."""


class Stopped(Exception):
    """A stop was asked for; the text is the reason ("SIGTERM", "--max_run_seconds 3600 reached")."""


class Unpublished(StoreError):
    """A store did not take the newest state in time; the text says why, and where that is saved instead."""
