"""Python's garbage collector, so that it does not stand in the way of whoever waits.

A full collection looks at every object there is: with a thousand robots in line 50 to 300 ms, in which nothing else
happens, and by Python's defaults several times in ten seconds. Almost everything here is freed by its reference count.
"""

import gc
from typing import Final

YOUNG: Final = 5_000
"""Objects between two looks at the young ones, which take a millisecond."""
MIDDLE: Final = 20
FULL: Final = 100
"""Looks at the middle ones between two full collections: minutes under load."""


def settle() -> None:
    """Call once everything is imported: what is there by then stays, and is looked at no more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL)
