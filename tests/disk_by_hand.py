"""A disk in the test's hand: a commit is on its way, and done, when the test says so."""

from collections.abc import Generator

from node.disk import LocalDisk, Work, Writer


class DiskByHand(LocalDisk):
    """Commits when it is told to. What wakes it has what waits worked out at once, while a commit is on its way."""

    def __init__(self) -> None:
        self.steps: Generator[None, None, None] | None = None

    def start_writer(self, work: Work) -> Writer:
        self.work = work
        return self

    def wake(self) -> None:
        if self.steps is not None:
            self._work_out()

    def _work_out(self) -> None:
        while self.work.work_out():
            pass

    def begin(self) -> None:
        """Put the next commit's rows."""
        self._work_out()
        self.steps = self.work.next_commit()
        assert self.steps is not None
        next(self.steps, None)
        self.work.idle()

    def end(self) -> None:
        """Have the disk keep them."""
        assert self.steps is not None
        next(self.steps, None)
        self.work.hand_back()
        self.steps = None

    async def close(self) -> None:
        """Do what is left."""
        self._work_out()
        while (steps := self.work.next_commit()) is not None:
            for _ in steps:
                pass
            self.work.hand_back()
            self._work_out()
