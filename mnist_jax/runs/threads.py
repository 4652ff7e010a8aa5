"""Several iterators that compute at the same time, and one thread that does all else."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait


def call_in_turn(iterators: Sequence[Iterator[Callable[[], object]]]) -> None:
    """Call in this thread what iterators yield, as it comes, until all have ended.

    Each iterator runs in a thread, not always the same one, and continues only when what it yielded last has returned.
    After an error the others stop at their next yield, and then it is raised.
    """
    with ThreadPoolExecutor(len(iterators)) as threads:
        under_way = {threads.submit(next, iterator, None): iterator for iterator in iterators}
        while under_way:
            for ready in wait(under_way, return_when=FIRST_COMPLETED).done:
                iterator = under_way.pop(ready)
                if (found := ready.result()) is not None:
                    found()
                    under_way[threads.submit(next, iterator, None)] = iterator
