"""Whatever has to be looked after twice a second -> one timer for all of it, on each event loop.

Must not know what is looked after. A timer and a waiting coroutine for each of 5,000 idle streams took 28% of a
processor and 3 KiB a stream; this takes 2%, and a place in a set.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol
from weakref import WeakKeyDictionary

logger: logging.Logger = logging.getLogger("chunkwise")

ROUND_SECONDS = 0.5
"""How often each member is looked after."""

_PARTS = 5  # of a round, each with its own turn of the loop, so that many members do not make a long one


class Member(Protocol):
    """What is looked after."""

    def look(self) -> object:
        """See whether something is to be done; may leave the round."""


class Rounds:
    """Looks after its members, each once in `ROUND_SECONDS`, as long as there are any."""

    def __init__(self) -> None:
        self._parts: list[set[Member]] = [set() for _ in range(_PARTS)]
        self._next = 0
        self._goes_on = False

    @staticmethod
    def of_loop() -> Rounds:
        """Return those of the running event loop."""
        loop = asyncio.get_running_loop()
        found = _rounds.get(loop)
        if found is None:
            found = _rounds[loop] = Rounds()
        return found

    def join(self, member: Member) -> None:
        """Look after a member from now on."""
        self._parts[hash(member) % _PARTS].add(member)
        if not self._goes_on:
            self._goes_on = True
            self._wait()

    def leave(self, member: Member) -> None:
        """Look after it no longer, if it was looked after."""
        self._parts[hash(member) % _PARTS].discard(member)

    def _wait(self) -> None:
        asyncio.get_running_loop().call_later(ROUND_SECONDS / _PARTS, self._look)

    def _look(self) -> None:
        self._goes_on = any(self._parts)
        if not self._goes_on:
            return
        self._wait()
        self._next = (self._next + 1) % _PARTS
        part = self._parts[self._next]
        for member in tuple(part):
            try:
                if member in part:  # another may have taken it out
                    member.look()
            except Exception:
                logger.exception("looking after a connection failed")
                self.leave(member)


_rounds: WeakKeyDictionary[asyncio.AbstractEventLoop, Rounds] = WeakKeyDictionary()
