"""SIGINT, SIGTERM and SIGHUP as a request that the loop answers between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pvt_data.edge import SIGNALS


class StopRequest:
    """Whether the process was asked to stop.

    Attributes:
        signal: The signal that asked, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.taken: list[signal.Signals] = []

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handles a signal; the second of them ends the process as it would have without us."""
        self.signal = signal.Signals(number)
        for each in self.taken:
            signal.signal(each, signal.SIG_DFL)
        self.taken = []

    def listen(self) -> None:
        """Takes the signals, again where another handler has them now."""
        for each in self.taken:
            signal.signal(each, self)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Notes those signals while the block lasts, in place of ending the process.

    Only the main thread may say what signals do; in another one, nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    # What is ignored, as under nohup, is to stay so.
    before = {each: signal.getsignal(each) for each in SIGNALS}
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    request.taken = list(before)
    request.listen()
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
