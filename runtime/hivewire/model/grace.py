"""How long a handler may go on when nobody waits for it any more.

Its token tells it to end. What it does then to clean up takes no longer than this, calls of its own included. After
that its task is cancelled, and a task that outlasts this too is left behind, so that it holds up nobody else.
"""

from typing import Final

__all__ = ["GRACE_S"]

GRACE_S: Final = 5.0
"""Look it up as `grace.GRACE_S`, so that a test may shorten it."""
