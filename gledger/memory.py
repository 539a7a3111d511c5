"""How the interpreter collects garbage while it serves: what is there at the start is never looked at again, and the rest
seldom.

Nearly everything a request makes is freed by its reference count. With the interpreter's own thresholds the collector
walked through every live object many times a second: a tenth to a third of the posting rate, and half of its p99.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 50_000
MIDDLE: Final = 20
OLD: Final = 100


def settle() -> None:
    """Call once, when everything that stays is in place."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
