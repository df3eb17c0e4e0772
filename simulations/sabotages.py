from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sabotaged(name: str) -> Iterator[None]:
    yield
