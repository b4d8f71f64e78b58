"""``slipher catalog rebind``: a person decides about a topic that was recreated."""

from __future__ import annotations

from pathlib import Path

import typer

from streamer.cli import options
from streamer.cli.console import CATALOG, plain_console
from streamer.settings import BrokerSettings, settings


@options.of(BrokerSettings)
def command(
    given: options.Given,
    catalog: Path = CATALOG,
    topic: str = typer.Option(..., "--topic", help="Name of the topic that was recreated.", show_default=False),
    model: options.OfColumn = None,
    every: bool = typer.Option(False, "--all", help="For every model that reads it."),
) -> None:
    """Take a topic that was recreated for the old one's successor: the next start reads all of it.

    Until then workers that meet it stop with exit code 3: its offsets begin again, and would be taken for old ones. Rows of
    the old topic stay. A worker that still runs stops by itself.
    """
    from schemas.errors import UserError
    from streamer import rebind as binding

    if (model is None) != every:
        raise UserError("Say for whom: --model MODEL, or --all for every model that reads the topic.")
    reached = settings(BrokerSettings, given)
    done = binding.rebind(catalog, topic, model, reached.brokers, reached.kafka)
    for who in done:
        what = "is read anew, from its beginning" if who.changed else "meant this topic already"
        plain_console().print(f"{who.model}: {topic} ({who.topic_id}) {what}", soft_wrap=True)
