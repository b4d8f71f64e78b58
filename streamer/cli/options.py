"""Options that several commands share: those that say what messages are and how rows are made of them."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path | None, typer.Option(help="Model bundle, from `slipher train`.", envvar="SLIPHER_MODEL")]
Catalog = Annotated[
    Path | None, typer.Option(help="Catalogue directory; made where it does not exist.", envvar="SLIPHER_CATALOG")
]
Brokers = Annotated[
    str | None,
    typer.Option(help="Bootstrap servers. Default: the broker of `slipher broker start`.", envvar="SLIPHER_BROKERS"),
]
Alerts = Annotated[
    str | None,
    typer.Option(
        help="What the messages are: native (default), or a survey's own packets, such as lsst, ztf, elasticc."
    ),
]
Framing = Annotated[str | None, typer.Option(help="auto (default), confluent-avro, container, avro, arrow or json.")]
Schema = Annotated[
    list[str] | None,
    typer.Option(
        "--schema",
        help="Avro schema: FILE of messages without any header (--framing avro), or ID=FILE of an id in Confluent's "
        "header, beside or instead of a registry; may be repeated.",
    ),
]
DustMap = Annotated[Path | None, typer.Option(help="HEALPix map of E(B-V), FITS, where the packets carry none.")]
DustColumn = Annotated[str | None, typer.Option(help="Its column, where that is not clear.")]
Registry = Annotated[
    str | None,
    typer.Option(
        help="Schema registry, http://HOST:PORT. Passwords are best in the environment.", envvar="SLIPHER_REGISTRY"
    ),
]
RegistrySetting = Annotated[
    list[str] | None,
    typer.Option(
        help="Credentials for the registry, key=value as in Confluent's clients: basic.auth.user.info, "
        "bearer.auth.token, ssl.ca.location ...; may be repeated."
    ),
]
Pdf = Annotated[
    str | None,
    typer.Option(
        help="How PDFs are stored: plain, a list of numbers, or compact, a byte a point.", envvar="SLIPHER_PDF"
    ),
]
CommitRows = Annotated[int | None, typer.Option(help="Commit after so many rows ...")]
CommitSeconds = Annotated[float | None, typer.Option(help="... or so many seconds.")]
Patience = Annotated[float | None, typer.Option(help="Seconds the broker may take to answer at the start.")]
RefusedLimit = Annotated[
    float | None, typer.Option(help="Stop where a greater part of the messages is refused; 1 = never.")
]
Kafka = Annotated[list[str] | None, typer.Option(help="Further librdkafka settings, key=value; may be repeated.")]
