"""What the monitor answers: the page and its numbers, metrics, whether it is alive and ready. Nothing can be changed here."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from deltalake.exceptions import DeltaError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from schemas.errors import SlipherError
from streamer.monitor import words
from streamer.monitor.access import Door, Guard
from streamer.monitor.assets import assets
from streamer.monitor.desk import LONGEST_ID, Desk
from streamer.monitor.events import Events, Full
from streamer.monitor.gauges import Gauges
from streamer.monitor.history import DRAWN
from streamer.monitor.sampler import Sampler, Seen
from streamer.monitor.verdict import Verdict, verdict

READ_SECONDS = 10.0  # from one reading of the catalogue to the next, while somebody looks
CATCH_UP_SECONDS = 2.0  # and while there are files that were not read yet: a page that was just opened
WATCHED_SECONDS = 60.0  # after a question to the catalogue that somebody still looks
LINES = 8  # partitions that are drawn: as many as colours that eyes tell apart
LISTED = 400  # partitions in a list
GROUPS = 24  # topics and models that are drawn

_log = logging.getLogger(__name__)
_Answer = Callable[[Request], Any]


class Monitor:
    """The parts put together, and the handlers of requests.

    Parameters
    ----------
    sampler
        Looks at broker and table; started and stopped with the application.
    desk
        Reads the catalogue.
    door
        Who may look.
    name
        Of the catalogue, for people.
    every
        Seconds between looks, for the page to know when it hears nothing.
    clock
        Seconds since 1970 UTC.
    """

    def __init__(
        self,
        sampler: Sampler,
        desk: Desk,
        door: Door,
        name: str,
        every: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sampler, self.desk, self.events = sampler, desk, Events()
        self._door, self._name, self._every, self._clock = door, name, every, clock
        self._gauges = Gauges(lambda: sampler.seen)
        self._asked = float("-inf")

    def app(self, only_local: bool) -> ASGIApp:
        """The application; `only_local` where a request must call us localhost."""
        routes = [
            Route("/", self._index),
            Route("/page/{name:path}", self._page),
            Route("/events", self._guarded(self._events)),
            Route("/api/state.json", self._guarded(self._state)),
            Route("/api/history.json", self._guarded(self._history)),
            Route("/api/partitions.json", self._guarded(self._partitions)),
            Route("/api/tonight.json", self._guarded(self._tonight)),
            Route("/api/object.json", self._guarded(self._object)),
            Route("/metrics", self._guarded(self._metrics)),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/sign-in", self._door.sign_in, methods=["POST"]),  # gives a cookie for a token; changes nothing here
        ]
        return Guard(Starlette(routes=routes, lifespan=self._lifespan), only_local)

    def verdict(self) -> Verdict:
        """As of now."""
        seen = self.sampler.seen
        return verdict(seen.totals, seen.away, self.desk.expired, seen.at is not None, self._clock())

    # -- the time that the application lives ---------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def told(seen: Seen) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
                loop.call_soon_threadsafe(self._tell, seen)

        self.sampler.tell(told)
        self.sampler.start()
        reading = asyncio.create_task(self._read_on())
        try:
            yield
        finally:
            self.events.close()
            self.sampler.stop()
            reading.cancel()
            self.desk.close()

    def _tell(self, _: Seen) -> None:
        self.events.tell("look", words.dumps(self._now()))

    def _now(self) -> dict[str, Any]:
        said = words.state(self.sampler.seen, self.verdict(), self._every, self.desk.tonight["version"], self._clock())
        return {"catalogue": self._name, **said}

    async def _read_on(self) -> None:
        """Follow the catalogue, once at the start and then while somebody looks."""
        first = True
        while True:
            if not (first or len(self.events) or time.monotonic() - self._asked < WATCHED_SECONDS):
                await asyncio.sleep(1.0)
                continue
            first = False
            try:
                changed = await self.desk.refresh()
            except Exception:
                _log.exception("the catalogue could not be read for a reason that nobody thought of")
                changed = False
            if changed and self.sampler.seen.number:
                self._tell(self.sampler.seen)
            await asyncio.sleep(CATCH_UP_SECONDS if self.desk.behind else READ_SECONDS)

    # -- the page ------------------------------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        if self._door.lets_in(request):
            return _asset(request, "index.html")
        return _asset(request, "sign-in.html", 401)

    async def _page(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _asset(request, name) if name in assets() and not name.endswith(".html") else _nothing()

    async def _events(self, _: Request) -> Response:
        try:
            stream = self.events.listen()
        except Full:
            return PlainTextResponse("Too many pages are open on this monitor.\n", 503)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    # -- numbers -------------------------------------------------------------------------------------------------------

    async def _state(self, _: Request) -> Response:
        return _json(self._now())

    async def _history(self, request: Request) -> Response:
        """Lines of each topic and model: ?span=hour|day."""
        span = _span(request)
        keys = [(t.topic, t.model) for t in self.sampler.seen.totals[:GROUPS]]
        times, values = self.sampler.history.totals(keys, span)
        lines = [
            {
                "topic": topic,
                "model": model,
                "lag": words.column(values[k, 0]),
                "lag_seconds": words.column(values[k, 1]),
                "produce_rate": words.column(values[k, 2]),
                "consume_rate": words.column(values[k, 3]),
            }
            for k, (topic, model) in enumerate(keys)
        ]
        return _json({"span": span, "most": DRAWN, "times": times.round(1).tolist(), "lines": lines})

    async def _partitions(self, request: Request) -> Response:
        """Of one topic and model, the worst first: ?topic=&model=&span=hour|day."""
        topic, model = request.query_params.get("topic"), request.query_params.get("model")
        mine = [s for s in self.sampler.seen.standings if (s.topic, s.model) == (topic, model)]
        ranked = words.sorted_by_need(mine)
        drawn = sorted(s.partition for s in ranked[:LINES])
        keys = [(topic or "", model or "", partition) for partition in drawn]
        times, values = self.sampler.history.partitions(keys, _span(request))
        lines = [
            {"partition": p, "lag": words.column(values[k, 0]), "lag_seconds": words.column(values[k, 1])}
            for k, p in enumerate(drawn)
        ]
        listed = sorted(ranked[:LISTED], key=lambda s: s.partition) if len(mine) <= LISTED else ranked[:LISTED]
        rows = [words.standing(s) for s in listed]
        return _json({"partitions": len(mine), "rows": rows, "times": times.round(1).tolist(), "lines": lines})

    async def _tonight(self, _: Request) -> Response:
        self._asked = time.monotonic()
        return _json(self.desk.tonight)

    async def _object(self, request: Request) -> Response:
        """An object's rows with their PDFs: ?id=."""
        wanted = request.query_params.get("id", "").strip()
        if not wanted or len(wanted) > LONGEST_ID:
            return _json({"trouble": "Give an object id."}, 400)
        try:
            return _json(await self.desk.find(wanted))
        except TimeoutError:
            return _json({"trouble": "The catalogue does not answer in time."}, 503)
        except (SlipherError, DeltaError, OSError) as error:
            return _json({"trouble": str(error)}, 503)

    # -- for machines --------------------------------------------------------------------------------------------------

    async def _metrics(self, _: Request) -> Response:
        text = await asyncio.to_thread(self._gauges.exposition)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: Request) -> Response:
        trouble = self.sampler.trouble()
        return PlainTextResponse("alive\n" if trouble is None else f"{trouble}\n", 200 if trouble is None else 503)

    async def _readyz(self, _: Request) -> Response:
        seen = self.sampler.seen
        if not seen.number:
            return PlainTextResponse("the first look is under way\n", 503)
        if seen.away:  # without what they said: it may name hosts, and no token is asked for here
            return PlainTextResponse(f"{' and '.join(a.who for a in seen.away)} away\n", 503)
        return PlainTextResponse("ready\n")

    def _guarded(self, answer: _Answer) -> _Answer:
        async def asked(request: Request) -> Response:
            if not self._door.lets_in(request):
                return PlainTextResponse("A token is needed.\n", 401, {"WWW-Authenticate": "Bearer"})
            response: Response = await answer(request)
            return response

        return asked


def _asset(request: Request, name: str, status: int = 200) -> Response:
    asset = assets()[name]
    headers = {"Content-Type": asset.media_type, "ETag": asset.tag, "Cache-Control": "no-cache"}
    if name.endswith(".html"):
        headers["Cache-Control"] = "no-store"  # another person's turn at this browser may need the token
    elif request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, status, headers)


def _json(value: Any, status: int = 200) -> Response:
    return Response(words.dumps(value), status, media_type="application/json")


def _nothing() -> Response:
    return PlainTextResponse("There is nothing here.\n", 404)


def _span(request: Request) -> str:
    return "day" if request.query_params.get("span") == "day" else "hour"
