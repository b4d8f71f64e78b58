"""The schema registry's client: what it is told once it knows for ever, and what it is not told it never makes up."""

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from fastavro.schema import to_parsing_canonical_form
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import Reason
from schemas.errors import TroubleError, UserError
from schemas.wire.confluent import KnownSchemas, fingerprint_id
from schemas.wire.framing import Refused
from streamer.broker.apicurio import SchemaRegistry
from streamer.registry import client
from streamer.registry.client import InTurn, Registry
from streamer.registry.connection import Connection
from streamer.registry.kept import Kept
from streamer.registry.references import whole
from streamer.settings import run_settings
from tests.registries import StandIn, register, say

POINT = {"type": "record", "name": "Point", "fields": [{"name": "ra", "type": "double"}]}


def answer_of(schema: Any, **more: Any) -> dict[str, Any]:
    return {"schema": json.dumps(schema), **more}


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn({7: answer_of(POINT)}).running() as running:
        yield running


def ask(url: str, folder: Path | None = None, clock: Clock | None = None, **settings: str) -> Registry:
    """A client that waits for nothing."""
    clock = clock or Clock()
    connection = Connection(url, {key.replace("_", "."): value for key, value in settings.items()}, clock)
    return Registry(connection, Kept(folder, connection.address) if folder else None, clock, clock.sleep)


# -- what is known -------------------------------------------------------------------------------------------------------


def test_an_id_is_asked_for_once(standin: StandIn) -> None:
    registry = ask(standin.url + "/")
    assert [registry.get(7) for _ in range(3)] == [POINT] * 3
    assert standin.asked == ["/schemas/ids/7"]


def test_a_start_without_the_registry(standin: StandIn, tmp_path: Path) -> None:
    assert ask(standin.url, tmp_path).get(7) == POINT
    standin.instead = [say(503, b"")] * 99
    again = ask(standin.url, tmp_path)
    assert again.get(7) == POINT
    with pytest.raises(TroubleError):
        again.get(8)
    assert "/schemas/ids/7" not in standin.asked[1:]


def test_two_registries_share_a_folder_and_no_ids(standin: StandIn, tmp_path: Path) -> None:
    other = {**POINT, "name": "Other"}
    assert ask(standin.url, tmp_path).get(7) == POINT
    with StandIn({7: answer_of(other)}).running() as second:
        assert ask(second.url, tmp_path).get(7) == other
    assert ask(standin.url, tmp_path).get(7) == POINT


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: text[:30],
        lambda text: b"",
        lambda text: text.replace(b"double", b"int"),
        lambda text: b"\xff" * 99,
    ],
    ids=["cut", "cut in the hash", "empty", "changed", "garbage"],
)
def test_a_damaged_file_is_asked_for_again(standin: StandIn, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    ask(standin.url, tmp_path).get(7)
    path = Kept(tmp_path, standin.url).path(7)
    whole_text = path.read_bytes()
    path.write_bytes(damage(whole_text))
    assert ask(standin.url, tmp_path).get(7) == POINT
    assert len(standin.asked) == 2
    assert path.read_bytes() == whole_text


def test_another_ids_file_is_no_answer(standin: StandIn, tmp_path: Path) -> None:
    ask(standin.url, tmp_path).get(7)
    kept = Kept(tmp_path, standin.url)
    kept.path(7).rename(kept.path(9))
    assert ask(standin.url, tmp_path).get(9) is None


def test_a_folder_that_cannot_be_written(standin: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert ask(standin.url, tmp_path / "file").get(7) == POINT
    assert "each start needs the registry" in caplog.text


def test_known_schemas_come_before_the_registry(standin: StandIn) -> None:
    schemas = InTurn(KnownSchemas([POINT]), ask(standin.url))
    assert schemas.get(fingerprint_id(POINT)) == POINT
    assert not standin.asked
    assert schemas.get(7) == POINT
    assert schemas.get(8) is None


# -- what is not known ---------------------------------------------------------------------------------------------------


def test_an_id_that_is_not_there_may_come_later_and_is_not_hammered(standin: StandIn, tmp_path: Path) -> None:
    clock = Clock()
    registry = ask(standin.url, tmp_path, clock)
    assert [registry.get(8) for _ in range(1000)] == [None] * 1000
    assert len(standin.asked) == 1
    standin.paths["/schemas/ids/8"] = answer_of(POINT)
    clock.now += client.NONE_S
    assert registry.get(8) == POINT


def test_an_id_that_none_can_have_is_not_asked_for(standin: StandIn) -> None:
    assert ask(standin.url).get(1 << 31) is None
    assert not standin.asked


def test_many_unknown_ids_take_no_memory(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_NONE", 5)
    registry = ask(standin.url)
    assert [registry.get(k) for k in range(100, 112)] == [None] * 12
    assert len(registry._none) <= 5


@pytest.mark.parametrize(
    ("answer", "tries", "why"),
    [
        (say(503, b"later"), client.TRIES, "answers 503.*Is it up"),
        (say(429, b"slowly"), client.TRIES, "answers 429"),
        (say(200, b"<html>Welcome</html>"), client.TRIES, "no JSON object.*<html>.*Confluent's API"),
        (say(200, b'["schema"]'), client.TRIES, "no JSON object"),
        (say(200, b'{"subject": "a"}'), 1, "has no schema"),
        (say(200, b'{"schema": {"type": "int"}}'), 1, "has no schema"),
        (say(200, b'{"schema": "\\"int\\"", "references": [{}]}'), 1, "no subject"),
        (say(200, b'{"schema": "\\"in', 400), client.TRIES, "no JSON object"),
        (say(404, b"<html>Not here</html>"), 1, "404, but not as a registry does.*Confluent's API"),
        (say(404, b'{"error_code": 404}'), 1, "404, but not as a registry does"),
        (say(401, b""), 1, "answers 401.*user and password"),
        (say(403, b""), 1, "answers 403.*user and password"),
        (say(400, b""), 1, "answers 400"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-server\r\n"), client.TRIES, "broke off|no JSON"),
        (lambda handler: None, client.TRIES, "no connection|broke off"),
    ],
)
def test_what_is_no_answer_is_never_taken_for_none(
    standin: StandIn, answer: Callable[[BaseHTTPRequestHandler], None], tries: int, why: str
) -> None:
    """TroubleError: the partition waits. The next call asks again, and an answer ends it."""
    registry = ask(standin.url)
    standin.instead = [answer] * tries
    with pytest.raises(TroubleError, match=rf"registry at {standin.url} does not give schema 7: .*({why})"):
        registry.get(7)
    assert len(standin.asked) == tries
    assert registry.get(7) == POINT


def test_a_hiccup_is_not_noticed(standin: StandIn) -> None:
    standin.instead = [say(502, b""), say(200, b'{"sch', 99), say(200, b"")]
    assert ask(standin.url).get(7) == POINT


def test_a_registry_that_is_down() -> None:
    with pytest.raises(TroubleError, match=r"http://127\.0\.0\.1:9 does not give schema 7: no connection .*Is it up"):
        ask("http://127.0.0.1:9").get(7)


def test_a_registry_that_is_slow(standin: StandIn) -> None:
    done = threading.Event()
    standin.instead = [lambda handler: done.wait(20) and None]
    with pytest.raises(TroubleError, match=r"no answer within 0\.2 s"):
        Registry(Connection(standin.url, {"timeout": "0.2"})).get(7)
    done.set()


def test_a_registry_that_drips(standin: StandIn) -> None:
    """Each byte comes in time, and the answer would take for ever."""
    done = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not done.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    standin.instead = [drip]
    with pytest.raises(TroubleError, match=r"no answer within 0\.2 s"):
        Registry(Connection(standin.url, {"timeout": "0.2"})).get(7)
    done.set()


def test_an_answer_without_end(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.registry.connection.MAX_BYTES", 1 << 20)
    standin.instead = [say(200, b" " * (2 << 20))]
    with pytest.raises(TroubleError, match="more than 1 MiB"):
        ask(standin.url).get(7)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answer_of({"type": "object"}, schemaType="JSON"), "of type JSON, and only Avro"),
        ({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}, "of type PROTOBUF"),
        (answer_of("int"), "no Avro record"),
        ({"schema": "no json"}, "is no JSON"),
    ],
)
def test_what_can_never_be_read_is_refused(standin: StandIn, answer: Any, why: str) -> None:
    """For ever, as an id means the same for ever: waiting would not help."""
    standin.paths["/schemas/ids/8"] = answer
    registry = ask(standin.url)
    for _ in range(2):
        with pytest.raises(Refused, match=f"schema 8 of the registry at {standin.url} .*{why}") as caught:
            registry.get(8)
        assert caught.value.reason == Reason.UNKNOWN_SCHEMA
    assert len(standin.asked) == 1


# -- references ----------------------------------------------------------------------------------------------------------


def test_references_are_followed(standin: StandIn) -> None:
    def refer(name: str, subject: str) -> dict[str, Any]:
        return {"name": name, "subject": subject, "version": 3}

    inner = {"type": "enum", "name": "Band", "namespace": "sky", "symbols": ["g", "r"]}
    middle = {
        "type": "record",
        "name": "sky.Flux",
        "fields": [{"name": "band", "type": "Band"}, {"name": "next", "type": ["null", "Flux"]}],
    }
    fields = [
        {"name": "band", "type": ["null", "sky.Band"]},
        {"name": "fluxes", "type": {"type": "array", "items": "sky.Flux"}},
    ]
    standin.paths |= {
        "/schemas/ids/8": answer_of(
            {"type": "record", "name": "Alert", "fields": fields},
            references=[refer("sky.Flux", "a/flux"), refer("sky.Band", "band")],
        ),
        "/subjects/a%2Fflux/versions/3?deleted=true": answer_of(middle, references=[refer("sky.Band", "band")]),
        "/subjects/band/versions/3?deleted=true": answer_of(inner),
    }
    found = ask(standin.url).get(8)
    assert len(standin.asked) == 3
    assert to_parsing_canonical_form(found) == to_parsing_canonical_form(
        {
            "type": "record",
            "name": "Alert",
            "fields": [
                {"name": "band", "type": ["null", inner]},
                {"name": "fluxes", "type": {"type": "array", "items": middle}},
            ],
        }
    )


def test_a_reference_that_is_gone_is_trouble(standin: StandIn) -> None:
    standin.paths["/schemas/ids/8"] = answer_of(POINT, references=[{"name": "A", "subject": "a", "version": 1}])
    with pytest.raises(TroubleError, match="refers to a version 1, which is not there"):
        ask(standin.url).get(8)


@st.composite
def divided(draw: st.DrawFn) -> tuple[Any, Any, list[Any]]:
    """A schema of nested named types in several namespaces, the same with some of them taken out, and those."""
    count = 0
    taken: list[Any] = []
    defined: list[str] = []

    def types(space: str, depth: int) -> tuple[Any, Any]:
        """A type as it stands in the whole schema, and in the divided one."""
        kind = draw(
            st.sampled_from(
                ["int", "name", "array", "union", "enum", *["record"] * 2] if depth < 4 else ["int", "name"]
            )
        )
        if kind == "name" and defined:
            name = draw(st.sampled_from(defined))
            return name, name
        if kind == "array":
            one, two = types(space, depth + 1)
            return {"type": "array", "items": one}, {"type": "array", "items": two}
        if kind == "union":
            one, two = definition(space, depth + 1)
            return ["null", one], ["null", two]
        if kind in ("enum", "record"):
            return definition(space, depth + 1, kind)
        return "int", "int"

    def definition(space: str, depth: int, kind: str = "record") -> tuple[Any, Any]:
        nonlocal count
        count += 1
        head: dict[str, Any] = {"type": kind, "name": f"T{count}"}
        own = draw(st.sampled_from([None, "", "a", "a.b"]))
        if own is not None:
            space = head["namespace"] = own
        full = f"{space}.T{count}" if space else f"T{count}"
        if kind == "enum":
            one = two = {**head, "symbols": ["x", "y"]}
        else:
            if space:
                defined.append(full)  # a record may be inside itself; a dotless name means another thing in a namespace
            pairs = [types(space, depth) for _ in range(draw(st.integers(0, 3)))]
            one = {**head, "fields": [{"name": f"f{k}", "type": pair[0]} for k, pair in enumerate(pairs)]}
            two = {**head, "fields": [{"name": f"f{k}", "type": pair[1]} for k, pair in enumerate(pairs)]}
        if depth and draw(st.booleans()):
            taken.append({**two, "namespace": space})
            return one, full
        return one, two

    one, two = definition("", 0)
    return one, two, taken


@given(divided())
def test_divided_and_made_whole_again(parts: tuple[Any, Any, list[Any]]) -> None:
    schema, main, taken = parts
    before = json.dumps(taken)
    assert to_parsing_canonical_form(whole(main, taken)) == to_parsing_canonical_form(schema)
    assert json.dumps(taken) == before


# -- credentials ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "settings", "header"),
    [
        ("", {}, None),
        ("me:a%40b@", {}, "Basic bWU6YUBi"),
        ("", {"basic_auth_user_info": "me:a@b"}, "Basic bWU6YUBi"),
        ("", {"bearer_auth_token": "t0ken"}, "Bearer t0ken"),
    ],
)
def test_credentials_are_sent(standin: StandIn, user: str, settings: dict[str, str], header: str | None) -> None:
    assert ask(standin.url.replace("//", f"//{user}"), **settings).get(7) == POINT
    assert standin.headers[0].get("Authorization") == header


def test_credentials_do_not_follow_to_another_server(standin: StandIn) -> None:
    with StandIn().running() as first:

        def elsewhere(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", standin.url + handler.path)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        first.paths["/schemas/ids/7"] = elsewhere
        assert ask(first.url, bearer_auth_token="t0ken").get(7) == POINT
        assert "Authorization" in first.headers[0]
    assert "Authorization" not in standin.headers[0]


def test_no_password_is_ever_shown(standin: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = standin.url.replace("//", "//me:s3cret@")
    standin.instead = [say(401, b"")]
    registry = ask(url, tmp_path)
    with pytest.raises(TroubleError) as refused:
        registry.get(7)
    registry.get(7)
    settings = run_settings(
        brokers="b", topic="t", model="m", catalog="c", registry=url, registry_setting={"bearer.auth.token": "s3cret"}
    )
    with pytest.raises(UserError) as wrong:
        Connection("me:s3cret@nowhere", {})
    files = "".join(str(path) + path.read_text() for path in tmp_path.rglob("*.json"))
    said = [str(refused.value), str(wrong.value), caplog.text, repr(settings), str(settings), files, repr(registry)]
    assert not [text for text in said if "s3cret" in text]
    assert "schema 7 came from" in caplog.text


@pytest.mark.parametrize(
    ("url", "settings", "sentence"),
    [
        ("localhost:8081", {}, "--registry localhost:8081: say the address"),
        ("ftp://host", {}, "say the address"),
        ("http://", {}, "say the address"),
        ("http://host:port", {}, "say the address"),
        ("http://host/?a=b", {}, "say the address"),
        ("http://host", {"ssl.ca.locations": "x"}, "no such setting. Did you mean ssl.ca.location"),
        ("http://host", {"ssl.ca.location": "x"}, "is for https"),
        ("https://host", {"ssl.ca.location": "/nowhere"}, "certificates cannot be used"),
        ("http://host", {"timeout": "soon"}, "say seconds"),
        ("http://host", {"timeout": "nan"}, "say seconds"),
        ("http://me:pw@host", {"bearer.auth.token": "x"}, "more than one place"),
        ("http://host", {"bearer.auth.token": "one\ntwo"}, "is one word"),
    ],
)
def test_a_wrong_setting_is_a_sentence(url: str, settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Connection(url, settings)


def certificates(folder: Path) -> None:
    """A certificate authority, and a server and a client that it signed."""
    subject = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    commands = [["req", "-x509", *subject, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"]]
    for name in ("server", "client"):
        names = ["-addext", "subjectAltName=IP:127.0.0.1"]
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        commands.append(["req", "-x509", *subject, "-subj", f"/CN={name}", *names, *signed])
    for command in commands:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


def test_tls_both_ways(standin: StandIn, tmp_path: Path) -> None:
    """The registry's certificate is checked, and it checks ours."""
    certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    standin.server.socket = context.wrap_socket(standin.server.socket, server_side=True)
    url = standin.url.replace("http:", "https:")
    with pytest.raises(TroubleError, match=r"no secure connection .*ssl\.ca\.location"):
        ask(url).get(7)
    trust = {"ssl_ca_location": str(tmp_path / "ca.pem")}
    with pytest.raises(TroubleError, match="does not give schema 7"):
        ask(url, **trust).get(7)
    ours = {"ssl_certificate_location": str(tmp_path / "client.pem"), "ssl_key_location": str(tmp_path / "client.key")}
    assert ask(url, **trust, **ours).get(7) == POINT


# -- a real one ----------------------------------------------------------------------------------------------------------


def test_a_real_registry(schema_registry: SchemaRegistry, tmp_path: Path) -> None:
    """Registered, got by its id without credentials, with references; unknown ids are surely none."""
    url, clock = schema_registry.url, Clock()
    registry = ask(url, tmp_path, clock)
    first = register(url, "point-value", {**POINT, "namespace": "sky"})
    assert registry.get(first) == {**POINT, "namespace": "sky"}
    assert registry.get(0) is None
    assert registry.get((1 << 31) - 1) is None
    assert registry.get(first + 1) is None
    track = {
        "type": "record",
        "name": "Track",
        "fields": [{"name": "points", "type": {"type": "array", "items": "sky.Point"}}],
    }
    second = register(
        url, "track-value", track, references=[{"name": "sky.Point", "subject": "point-value", "version": 1}]
    )
    assert second == first + 1
    clock.now += client.NONE_S
    found = registry.get(second)
    assert found is not None
    assert found["fields"][0]["type"]["items"]["fields"] == POINT["fields"]
    third = register(
        url, "json-value", {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}, schemaType="JSON"
    )
    with pytest.raises(Refused, match="of type JSON"):
        registry.get(third)
    with pytest.raises(TroubleError, match="404, but not as a registry does"):
        ask(url.replace("/ccompat/v7", "/other")).get(first)
