"""How fast a run goes, and how long it will take."""

import time
from contextlib import suppress
from datetime import timedelta


class Clock:
    """Tells how fast a run goes, validation and all, and how long it will take."""

    def __init__(self, done: int, total: int):
        """Starts now.

        Args:
            done: Updates that were done before.
            total: Updates in the whole run.
        """
        self._done, self._total = done, total
        self._first = self._mark = (done, time.perf_counter())
        self._counted = False

    def count(self) -> None:
        """Counts one update more."""
        self._done += 1
        if not self._counted:
            # What is compiled in the first update is not compiled in the others.
            self._counted, self._first = True, (self._done, time.perf_counter())

    def mark(self) -> None:
        """Makes :meth:`pace` begin here."""
        self._mark = (self._done, time.perf_counter())

    def since_mark(self) -> float:
        """Returns the seconds since the last mark."""
        return time.perf_counter() - self._mark[1]

    def pace(self) -> float:
        """Returns the updates per second since the last mark."""
        return self._rate(*self._mark)

    def left(self) -> str:
        """Returns the time that is left, as ``1:23:45``, validation included."""
        rate = self._rate(*self._first)
        with suppress(OverflowError):  # a run without an end, of which its user knows
            return str(timedelta(seconds=round((self._total - self._done) / rate))) if rate else "?"
        return "?"

    def _rate(self, done: int, since: float) -> float:
        seconds = time.perf_counter() - since
        return (self._done - done) / seconds if seconds else 0.0
