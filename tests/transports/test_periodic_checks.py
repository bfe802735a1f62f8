"""transports/periodic_checks.py: a member is checked periodically until it leaves."""

import asyncio
import gc
import weakref

import pytest

from chunkwise.transports import periodic_checks
from chunkwise.transports.periodic_checks import PeriodicChecks
from tests.flow.producing import until


@pytest.fixture(autouse=True)
def fast_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_checks, "CHECK_SECONDS", 0.005)


class Counting:
    def __init__(self, failure: Exception | None = None) -> None:
        self.looks = 0
        self._failure = failure

    def check(self) -> None:
        self.looks += 1
        if self._failure is not None:
            raise self._failure


async def test_members_are_checked_equally_often() -> None:
    members = [Counting() for _ in range(50)]
    for member in members:
        PeriodicChecks.of_loop().join(member)
    await until(lambda: members[0].looks >= 5)
    looks = [member.looks for member in members]
    assert max(looks) - min(looks) <= 1
    for member in members:
        PeriodicChecks.of_loop().leave(member)


async def test_removed_member_is_not_checked() -> None:
    class Ending(Counting):
        def check(self) -> None:
            super().check()
            for other in enders:
                if other is not self:
                    PeriodicChecks.of_loop().leave(other)

    enders, staying = [Ending() for _ in range(50)], Counting()
    for member in (*enders, staying):
        PeriodicChecks.of_loop().join(member)
    await until(lambda: staying.looks > 3)
    assert [member.looks > 0 for member in enders].count(True) == 1
    for member in (*enders, staying):
        PeriodicChecks.of_loop().leave(member)


async def test_failing_member_is_logged_and_removed(caplog: pytest.LogCaptureFixture) -> None:
    failing, going = [Counting(LookupError("gone")) for _ in range(10)], Counting()
    for member in (*failing, going):
        PeriodicChecks.of_loop().join(member)
    await until(lambda: going.looks > 3)
    assert [member.looks for member in failing] == [1] * 10
    assert caplog.text.count("LookupError: gone") == 10
    PeriodicChecks.of_loop().leave(going)


async def test_timer_runs_only_while_there_are_members() -> None:
    for _ in range(3):
        member = Counting()
        PeriodicChecks.of_loop().join(member)
        await until(lambda member=member: member.looks > 1)  # type: ignore[misc]
        PeriodicChecks.of_loop().leave(member)
        await until(lambda: not PeriodicChecks.of_loop()._running)


def test_each_event_loop_has_its_own_checks() -> None:
    async def own() -> weakref.ref[PeriodicChecks]:
        assert PeriodicChecks.of_loop() is PeriodicChecks.of_loop()
        PeriodicChecks.of_loop().join(Counting())
        return weakref.ref(PeriodicChecks.of_loop())

    first, second = asyncio.run(own()), asyncio.run(own())
    gc.collect()
    assert first() is None
    assert second() is None
