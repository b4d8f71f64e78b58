"""Many topics at once: what one of them meets, the others go on; what a person has to look at stops all of them."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import IntegrityError, SlipherError, TroubleError
from streamer import follow
from streamer.follow import TRIES, Follower
from streamer.source.connection import NoTopic, Start, TopicGone, TopicIdentity
from streamer.tally import Progress
from tests.streaming import settings


class Scripted:
    """An engine that does what its topic's script says next: ends with an error, or runs until it is told to stop."""

    def __init__(
        self, script: list[SlipherError | None], on_commit: Callable[[Progress], None], until_end: bool
    ) -> None:
        self.tally = SimpleNamespace(durable=Progress())
        self.stopped = threading.Event()
        self._error = script.pop(0) if script else None
        self._on_commit, self._until_end = on_commit, until_end

    def run(self) -> Progress:
        if self._error is not None:
            raise self._error
        self.tally.durable = Progress(10, 10, 0, 1)
        self._on_commit(self.tally.durable)
        if not self._until_end:
            assert self.stopped.wait(20)
        return self.tally.durable

    def stop(self) -> None:
        self.stopped.set()


class World:
    """Topics with a script each; what was begun, with where it begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scripts: dict[str, list[SlipherError | None]]) -> None:
        self.scripts = scripts
        self.begun: list[tuple[str, Start, str]] = []
        self.engines: list[Scripted] = []
        self.seen: list[Progress] = []
        self.known: set[str] = set()
        world = self

        class Names:
            def __init__(self, connection: dict[str, Any]) -> None:
                pass

            def fitting(self, pattern: Any, patience: float = 0.0) -> list[str]:
                return sorted(name for name in world.scripts if pattern.match(name))

        def identify(connection: Any, name: str, patience: float) -> TopicIdentity:
            return TopicIdentity("cluster", name, f"id-{name}", 1)

        def engine(made: Any, topic: TopicIdentity, until_end: bool, on_commit: Any, lookout: Any) -> Scripted:
            world.begun.append((topic.topic, made.begin, made.group))
            world.engines.append(Scripted(world.scripts[topic.topic], on_commit, until_end))
            return world.engines[-1]

        monkeypatch.setattr(follow, "TopicNames", Names)
        monkeypatch.setattr(follow, "identify", identify)
        monkeypatch.setattr(follow, "engine", engine)
        monkeypatch.setattr(follow, "known", lambda made, topic: topic.topic in world.known)

    def follower(self, tmp_path: Path, until_end: bool = False, **more: object) -> Follower:
        fast = {"topic.metadata.refresh.interval.ms": "1"}
        given = settings("nowhere:1", "^t", tmp_path / "catalog", **({"kafka": fast} | more))
        return Follower(given, until_end, self.seen.append)


def run(follower: Follower, until: Callable[[], bool]) -> Progress:
    """Run until `until` holds, then stop."""

    def watch() -> None:
        for _ in range(2000):
            if until():
                break
            threading.Event().wait(0.01)
        follower.stop()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        return follower.run()
    finally:
        watching.join()


def test_topics_begin_where_they_should(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(monkeypatch, {"t1": [], "t2": [], "other": []})
    follower = world.follower(tmp_path, start="latest")

    def one_more() -> bool:
        if len(world.seen) == 2:
            world.scripts.setdefault("t3", [])
        return len(world.seen) == 3

    done = run(follower, one_more)
    assert [(name, begin) for name, begin, _ in world.begun] == [
        ("t1", Start("latest")),
        ("t2", Start("latest")),
        ("t3", Start("earliest")),  # it appeared later: all of it is ours
    ]
    assert [group.split("-")[-1] for _, _, group in world.begun] == ["t1", "t2", "t3"]
    assert done == Progress(30, 30, 0, 3) == world.seen[-1]


def test_topics_that_appeared_while_nobody_ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(monkeypatch, {"t1": [], "t2": []})
    world.known = {"t1"}
    world.follower(tmp_path, until_end=True, start="latest").run()
    assert {begin for _, begin, _ in world.begun} == {Start("earliest")}  # of t1 only what was added to it


def test_a_topic_that_ends_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(monkeypatch, {"t1": [TopicGone("t1 was deleted")], "t2": []})
    done = run(world.follower(tmp_path), lambda: len(world.seen) == 2)  # of t2, and of a t1 that is made again
    assert done.rows == 20


def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(monkeypatch, {"t1": [TroubleError("away")] * TRIES, "t2": []})
    done = run(world.follower(tmp_path), lambda: len(world.seen) == 2)
    assert [name for name, _, _ in world.begun].count("t1") == TRIES + 1
    assert done.rows == 20


@pytest.mark.parametrize(
    "script",
    [[TroubleError("away")] * (TRIES + 1), [IntegrityError("look")], [NoTopic("none")]],
    ids=lambda s: type(s[0]),
)
def test_what_does_not_pass_stops_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: list[SlipherError | None]
) -> None:
    error = script[0]
    world = World(monkeypatch, {"t1": script, "t2": []})
    with pytest.raises(type(error), match=str(error)):
        world.follower(tmp_path).run()
    assert all(engine.stopped.is_set() for engine in world.engines if engine._error is None)
