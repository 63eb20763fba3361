"""Items that cannot be scored: named when they are met, counted, and the end of the command."""

import logging

from tiedae_cli.errors import DataError, TiedaeError

log = logging.getLogger(__name__)

MOST_NAMED = 10  # bad items that are named one by one


class Failures:
    """Items that could not be scored: each is logged when it is met, and together they fail the command at its end."""

    def __init__(self) -> None:
        self.problems: list[DataError] = []
        self.count = 0
        self._logged = 0

    def add(self, problem: DataError) -> None:
        """Note one. It is logged once another item is scored or a second one fails, because alone it is the command's error."""
        self.count += 1
        if self.count <= MOST_NAMED:
            self.problems.append(problem)
        if self.count > 1:
            self.tell()

    def tell(self) -> None:
        """Log those that were not logged yet."""
        for problem in self.problems[self._logged :]:
            log.warning(f"{problem}; skipped")
        self._logged = len(self.problems)

    def finish(self, scored: int) -> None:
        """Raise what the command ends with, if anything failed.

        Raises:
            DataError: nothing could be scored; the message is the first problem.
            TiedaeError: something could not be scored; the message names it.
        """
        if not self.count:
            return
        if not scored:
            raise self.problems[0]
        self.tell()
        more = [f"and {self.count - MOST_NAMED:,} more"] if self.count > MOST_NAMED else []
        names = [f"{self.count:,} could not be read, {scored:,} are scored:", *map(str, self.problems), *more]
        raise TiedaeError("\n".join(names))
