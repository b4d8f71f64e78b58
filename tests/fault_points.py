"""What tests do at a numbered step: die there, or have something else happen, once."""

from collections.abc import Callable


class Killed(BaseException):
    """Stands for SIGKILL: memory is gone, the tables stay as they are."""


def once(at: int, what: Callable[[], object]) -> Callable[[int], None]:
    """Do `what` the first time that step `at` is reached."""
    done: list[int] = []

    def point(step: int) -> None:
        if step == at and not done:
            done.append(step)
            what()

    return point


def die() -> None:
    """End here, as SIGKILL does."""
    raise Killed
