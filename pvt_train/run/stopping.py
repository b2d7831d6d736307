"""What asks a run to stop, as a request that the loop answers between two steps.

That is SIGINT, SIGTERM and SIGHUP, or that nobody can be told anything any more.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pvt_data.edge import SAME_SECONDS, SIGNALS


class StopRequest:
    """Whether the process was asked to stop.

    Attributes:
        signal: The signal that asked, or None; where it was none, the last of :data:`SIGNALS`.
        error: Why nobody can be told anything, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.error: OSError | None = None
        self.taken: list[signal.Signals] = []

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handles a signal; another one ends the process as it would have without us.

        One that comes with the first is the same request; see :data:`pvt_data.edge.SAME_SECONDS`.
        """
        self.signal = signal.Signals(number)
        taken, self.taken = self.taken, []
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        time.sleep(SAME_SECONDS)
        for each in taken:
            signal.signal(each, signal.SIG_DFL)

    def told(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Returns what tells the same, and asks to stop where that cannot be written.

        A terminal that is closed takes no more, and what was trained is to be saved first.
        """

        def telling(line: str) -> None:
            try:
                tell(line)
            except OSError as error:
                self.error = self.error or error
                self.signal = self.signal or SIGNALS[-1]

        return telling

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
