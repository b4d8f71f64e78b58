"""The file of settings: which value holds and where it came from, mistakes with line and nearest key, secrets masked."""

import contextlib
import io
import json
import logging
import os
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from schemas.errors import UserError
from streamer.cli.main import build
from streamer.configuration import secrets, toml_file
from streamer.configuration.example import example, listed, markdown_row
from streamer.configuration.origins import misspelt, origins
from streamer.settings import RunSettings, WireSettings, fields, keys, part, run_settings, settings, use_storage

HOUSE = Path(__file__).parent.parent
FILE = """
# a night
brokers = "file:1"
topic = "alerts"
model = "m.slipher"
catalog = "c"
start = 2026-01-31T21:00:00Z
schema = [
  "a.avsc",
  "7=b.avsc",
]

[kafka]
security.protocol = "SASL_SSL"
"client.id" = "file"
session.timeout.ms = 6000
enable.ssl.certificate.verification = false

[commit]
rows = 11
"""


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory and an environment of its own."""
    for name in list(os.environ):
        if name.startswith(("SLIPHER_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("streamer.broker.resident.running", lambda: None)


def write(text: str, name: str = "slipher.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    error: UserError | None


def slipher(*words: str) -> Done:
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.argv", ["slipher", *words])  # the command tree imports only what is called
        try:
            build()(list(words))
        except SystemExit as end:
            return Done(int(end.code or 0), out.getvalue(), None)
        except UserError as error:
            return Done(error.exit_code, out.getvalue(), error)
    raise AssertionError("a command ends with an exit code")


def test_flags_before_environment_before_file_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write(FILE)
    made = run_settings()
    assert (made.brokers, made.commit_rows, made.commit_seconds) == ("file:1", 11, 5.0)
    assert (made.start, made.schema_file) == ("2026-01-31T21:00:00+00:00", ["a.avsc", "7=b.avsc"])
    assert made.kafka == {
        "security.protocol": "SASL_SSL",
        "client.id": "file",
        "session.timeout.ms": "6000",
        "enable.ssl.certificate.verification": "false",
    }
    monkeypatch.setenv("SLIPHER_COMMIT_ROWS", "22")
    monkeypatch.setenv("SLIPHER_TOPIC", "")  # as of a compose file whose variable is not set: as if it were not there
    monkeypatch.setenv("SLIPHER_KAFKA", '{"client.id": "environment"}')
    made = run_settings()
    assert (made.commit_rows, made.topic, made.kafka["client.id"]) == (22, "alerts", "environment")
    assert made.kafka["security.protocol"] == "SASL_SSL"  # of a section, each key for itself
    made = run_settings(commit_rows=33, kafka={"client.id": "flag"})
    assert (made.commit_rows, made.kafka["client.id"]) == (33, "flag")
    assert {(o.key, o.kind, o.where) for o in origins({"commit_rows": 33})} >= {
        ("commit.rows", "flag", "--commit-rows"),
        ("kafka.client.id", "environment", "SLIPHER_KAFKA"),
        ("topic", "file", "slipher.toml:4"),
        ("schema", "file", "slipher.toml:8"),
        ("kafka.client.id", "environment", "SLIPHER_KAFKA"),
        ("kafka.session.timeout.ms", "file", "slipher.toml:16"),
        ("commit.seconds", "default", ""),
    }


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert toml_file.which() is None
    write('topic = "here"\n')
    other = write('topic = "there"\n', "other.toml").absolute()
    assert part(WireSettings, {"brokers": "b"}).brokers == "b"
    assert origin("topic") == "here"
    monkeypatch.setenv("SLIPHER_CONFIG", str(other))
    assert origin("topic") == "there"
    for words in (("--config", "other.toml", "config", "show"), ("config", "show", "--config", "other.toml")):
        monkeypatch.delenv("SLIPHER_CONFIG", raising=False)
        code, said, _ = slipher(*words, "--json")
        assert code == 0
        assert next(o for o in json.loads(said) if o["key"] == "topic")["value"] == "there"
    monkeypatch.setenv("SLIPHER_CONFIG", str(tmp_path / "nothing.toml"))
    with pytest.raises(UserError, match=r"nothing.toml cannot be read: No such file"):
        run_settings()


def origin(key: str) -> object:
    return next(o.value for o in origins({}) if o.key == key)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ncomit.rows = 3", r"slipher.toml:2: there is no setting comit.rows. Did you mean commit.rows\?"),
        ("commit_rows = 3", r"slipher.toml:1: there is no setting commit_rows. Did you mean commit.rows\?"),
        ("[kafak]\na = 1", r"slipher.toml:2: there is no setting kafak.a. "),
        ("[dust]\nmpa = 'x'", r"slipher.toml:2: there is no setting dust.mpa. Did you mean dust.map\?"),
        ("zzz = 1", "there is no setting zzz. `slipher config init` writes all"),
        ("[commit]\n\nrows = 'many'", "slipher.toml:3: commit.rows: input should be a valid integer"),
        ("[commit]\nrows = 0", "slipher.toml:2: commit.rows: input should be greater than or equal to 1"),
        ("alerts = true\ntopic = 3", "slipher.toml:1: alerts: input should be a valid string; slipher.toml:2: topic: "),
        ("pdf = 'small'", "slipher.toml:1: pdf: input should be 'plain' or 'compact'"),
        (
            "[kafka]\nx = 'y'\nenable.auto.commit = true",
            "slipher.toml:3: .* is slipher's own .* exactly-once rests on it",
        ),
        ("[kafka]\ngroup.id = 'g'", "slipher.toml:2: .* group.id is a setting of its own: group"),
        ("[kafka]\nx = [1]", "slipher.toml:2: kafka.x: one value is wanted"),
        ("kafka = 'x'", "there is no setting kafka. "),
        ("[kafka\nx = 1", "slipher.toml is no TOML: .*line 1"),
    ],
)
def test_mistakes_in_the_file(text: str, said: str) -> None:
    write(text)
    with pytest.raises(UserError, match=said):
        run_settings(brokers="b", topic="t", model="m", catalog="c")
    assert slipher("config", "show").code == 2


def test_mistakes_elsewhere_name_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPHER_COMMIT_SECONDS", "-1")
    with pytest.raises(UserError, match=r"--model: field required; --commit-rows: input.*; SLIPHER_COMMIT_SECONDS: in"):
        run_settings(brokers="b", topic="t", catalog="c", commit_rows=0)
    monkeypatch.delenv("SLIPHER_COMMIT_SECONDS")
    monkeypatch.setenv("SLIPHER_KAFKA", "{")
    with pytest.raises(UserError, match="kafka"):
        run_settings(brokers="b", topic="t", catalog="c", model="m")
    with pytest.raises(UserError, match="SLIPHER_KAFKA is no JSON"):
        origins({})
    monkeypatch.delenv("SLIPHER_KAFKA")
    monkeypatch.setenv("SLIPHER_COMIT_ROWS", "1")
    monkeypatch.setenv("SLIPHER_METRICS_SERVICE_HOST", "10.0.0.1")  # of Kubernetes: let pass
    monkeypatch.setenv("SLIPHER_MONITOR_TOKEN", "x")  # no setting, and none that is misspelt
    assert misspelt() == [("SLIPHER_COMIT_ROWS", "SLIPHER_COMMIT_ROWS")]


WORDLIKE = " #=[]\"'\\.é\nxyz09-_"
KEYS = st.lists(st.text("abcdefz_-", min_size=1, max_size=5), min_size=1, max_size=3).map(tuple)
VALUES = st.one_of(
    st.integers(-9, 9),
    st.booleans(),
    st.text(WORDLIKE, max_size=9),
    st.lists(st.integers(0, 9), max_size=3),
    st.just("a\nb\nc"),
)


@settings_of_hypothesis(max_examples=40)
@given(st.dictionaries(KEYS, VALUES, max_size=6), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_the_line_of_each_value(content: dict[tuple[str, ...], object], blanks: list[int]) -> None:
    """Written one after the other, over several lines or one, each is found where it was written."""
    rows: list[str] = []
    wanted: dict[tuple[str, ...], int] = {}
    for (path, value), blank in zip(content.items(), blanks, strict=False):
        if any(path[: len(p)] == p or p[: len(path)] == path for p in wanted):
            continue  # a value cannot be a table too
        rows += ["", "# of no account"][:blank]
        wanted[path] = len(rows) + 1
        some = json.dumps(value)
        if isinstance(value, list) and value:
            some = "[\n" + ",\n# beside\n".join(map(str, value)) + ",\n]"
        elif value == "a\nb\nc":
            some = '"""a\nb\nc"""'
        rows += (".".join(json.dumps(word) for word in path) + " = " + some).split("\n")
    text = "\n".join(rows)
    tomllib.loads(text)
    assert toml_file.lines(text) == wanted


WORDS = st.text("abcdefghijkmnopqrstuvwxyz0123456789!%/@:", min_size=6, max_size=20).map(lambda w: "Q" + w + "Q")
SECRET_KEYS = [
    *("sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password", "sasl.oauthbearer.client.secret"),
    *("sasl.oauthbearer.config", "sasl.jaas.config", "basic.auth.user.info", "bearer.auth.token"),
    *(
        "aws_secret_access_key",
        "aws_session_token",
        "aws_sse_customer_key_base64",
        "aws_access_key_id",
        "AWS_SECRET_ACCESS_KEY",
    ),
]
SHOWN_KEYS = [
    *("security.protocol", "sasl.mechanism", "sasl.username", "ssl.ca.location", "ssl.key.location", "client.id"),
    *("sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.method", "aws_region", "sasl.password.file"),
]


@settings_of_hypothesis(max_examples=40)
@given(st.sampled_from(SECRET_KEYS), WORDS)
def test_secrets_are_never_shown(key: str, word: str) -> None:
    holds = settings(
        WireSettings,
        {
            "brokers": "b",
            "registry": f"https://user:{word}@host:1/x",
            "kafka": {key: word},
            "registry_setting": {key: word},
        },
    )
    assert holds.kafka[key] == word
    record = logging.makeLogRecord({"msg": "%s %r", "args": (holds, holds)})
    for text in (repr(holds), str(holds), f"{holds}", record.getMessage(), str(secrets.shown({key: word}))):
        assert word not in text
        assert secrets.MASK in text
    told = origins({"kafka": {key: word}, "registry": f"http://{word}@h", "storage": {key: word}})
    assert word not in str(told)


@settings_of_hypothesis(max_examples=40)
@given(st.sampled_from(SHOWN_KEYS), WORDS)
def test_what_is_no_secret_is_shown(key: str, word: str) -> None:
    assert secrets.shown(word, key) == word


def test_errors_do_not_say_the_secret() -> None:
    write("[kafka]\nsasl.password = ['hunter2']\n")
    with pytest.raises(UserError) as caught:
        run_settings()
    assert "hunter2" not in str(caught.value)
    write("")
    with pytest.raises(ValueError, match="kafka") as wrong:
        RunSettings(brokers="b", topic="t", model="m", catalog="c", kafka=["hunter2"])
    assert "hunter2" not in str(wrong.value)


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    held = tmp_path / "password"
    held.write_text("hunter2\n")
    write(f'[kafka]\nsasl.password.file = "{held}"\nsasl.oauthbearer.assertion.private.key.file = "k"\n')
    made = part(WireSettings, {"brokers": "b"})
    assert made.kafka == {"sasl.password": "hunter2", "sasl.oauthbearer.assertion.private.key.file": "k"}
    assert ("kafka.sasl.password.file", str(held)) in [(o.key, o.value) for o in origins({})]
    twice = {"sasl.password": "x", "sasl.password.file": str(held)}
    with pytest.raises(UserError, match=r"sasl.password is given, and sasl.password.file too"):
        settings(WireSettings, {"brokers": "b", "kafka": twice})
    name = tmp_path / "name"
    name.write_text("anna")
    both = {"sasl.username.file": str(name), "sasl.password.file": str(held)}
    assert settings(WireSettings, {"brokers": "b", "kafka": both}).kafka["sasl.username"] == "anna"
    held.write_text("")
    with pytest.raises(UserError, match="is empty"):
        part(WireSettings, {"brokers": "b"})
    held.unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
        part(WireSettings, {"brokers": "b"})


def test_of_a_secret_and_its_file_the_stronger_place_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = tmp_path / "password"
    held.write_text("of the file\n")
    plain, by_file = {"sasl.password": "plain"}, {"sasl.password.file": str(held)}

    def password(flags: dict[str, str]) -> str:
        shown = [o.key for o in origins({"kafka": flags} if flags else {}) if "password" in o.key]
        assert len(shown) == 1
        found = settings(WireSettings, {"brokers": "b", "kafka": flags or None}).kafka
        assert found.keys() == {"sasl.password", "client.id"}
        assert found["client.id"] == "me"  # the rest of the section is not touched
        assert shown == ["kafka.sasl.password" if found["sasl.password"] == "plain" else "kafka.sasl.password.file"]
        return found["sasl.password"]

    write(f'[kafka]\nsasl.password.file = "{held}"\nclient.id = "me"\n')
    assert password({}) == "of the file"
    assert password(plain) == "plain"
    monkeypatch.setenv("SLIPHER_KAFKA", json.dumps(plain))
    assert password({}) == "plain"
    assert password(by_file) == "of the file"
    write('[kafka]\nsasl.password = "plain"\nclient.id = "me"\n')
    monkeypatch.setenv("SLIPHER_KAFKA", json.dumps(by_file))
    assert password({}) == "of the file"
    assert password(plain) == "plain"


def test_options_of_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("deep")
    write(f'[storage]\naws_region = "file"\naws_endpoint_url = "file"\naws_secret_access_key.file = "{key}"\n')
    monkeypatch.setenv("AWS_REGION", "environment")
    with monkeypatch.context() as inner:
        for name in ("AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"):
            inner.setenv(name, "")
            inner.delenv(name)
        use_storage()
        now = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        assert now == {"AWS_REGION": "environment", "AWS_ENDPOINT_URL": "file", "AWS_SECRET_ACCESS_KEY": "deep"}
        use_storage({"aws_region": "flag"})
        assert os.environ["AWS_REGION"] == "flag"
        write('[storage]\naws_profile = "other"\n')  # another file: what the first set is gone
        inner.setenv("AWS_PROFILE", "")
        inner.delenv("AWS_PROFILE")
        use_storage()
        assert "AWS_ENDPOINT_URL" not in os.environ
        assert os.environ.pop("AWS_PROFILE") == "other"
        write("")
        use_storage()


def test_the_example_holds_every_key_and_changes_nothing() -> None:
    assert slipher("config", "init")[0] == 0
    text = Path("slipher.toml").read_text()
    assert text == example()
    assert {o.kind for o in origins({})} == {"default", "missing"}
    assert slipher("config", "init").code == 2  # it is not overwritten
    bare = "\n".join(line.removeprefix("# ") for line in text.split("\n") if re.match(r"# [\w.]+ = |\[", line))
    flat = {".".join(path) for path in toml_file.lines(bare)}
    for key in keys().values():
        assert key.key in flat or (key.table and any(name.startswith(f"{key.key}.") for name in flat)), key.key


@pytest.mark.parametrize("path", sorted((HOUSE / "docker").rglob("*.toml")), ids=str)
def test_the_files_for_containers_hold_settings(path: Path) -> None:
    assert toml_file.read(path, keys()).values["brokers"]


def test_the_document_lists_every_setting() -> None:
    text = (HOUSE / "docs" / "configuration.md").read_text()
    assert len(listed()) == len(fields())
    table = [line for line in text[text.index("## All settings") :].splitlines() if line.startswith("| `")]
    assert table == [markdown_row(entry) for entry in listed()], "`slipher config keys --markdown` writes this table"
    assert slipher("config", "keys", "--markdown").out.splitlines() == table


def test_show(monkeypatch: pytest.MonkeyPatch) -> None:
    write(FILE + '[registry]\nurl = "https://u:hunter2@h:1"\nbearer.auth.token = "hunter2"\n')
    monkeypatch.setenv("COLUMNS", "160")
    code, said, _ = slipher("config", "show", "--commit-rows", "5")
    assert code == 0
    assert "hunter2" not in said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    assert rows["commit.rows"] == ["5", "--commit-rows"]
    assert rows["kafka.client.id"] == ["file", "slipher.toml:15"]
    assert rows["registry.bearer.auth.token"] == ["********", "slipher.toml:23"]
    assert rows["registry.url"] == ["https://********@h:1", "slipher.toml:22"]
