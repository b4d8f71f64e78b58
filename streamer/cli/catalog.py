"""``slipher catalog``: look at a catalogue, take parts of it out, prove that it is whole, and keep it so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamer.cli import care, options, retire, withdraw
from streamer.cli.console import CATALOG, group, plain_console

if TYPE_CHECKING:
    from streamer.object_rows import ObjectRows
    from streamer.stamps import Stamp

LATER = {"rebind": ("streamer.cli.rebind", "Take a topic that was recreated for the old one's successor.")}
app = group(
    "Look at a catalogue: info, head, show, export, verify; care for it: compact, vacuum, history, migrate, rebind, retire.",
    LATER,  # settings take longer to import than a look at an object takes
)


@app.command()
def info(catalog: Path = CATALOG) -> None:
    """What stands in the catalogue: nights, models, sizes, exceptions."""
    from streamer.catalogue import open_catalogue
    from streamer.cli.overview import overview

    plain_console().print(overview(open_catalogue(catalog)))


@app.command()
def head(
    catalog: Path = CATALOG,
    n: int = typer.Option(10, "-n", min=1, help="How many rows."),
    night: options.OfNight = None,
    model: options.OfColumn = None,
) -> None:
    """The rows computed last."""
    from schemas.errors import UserError
    from streamer.catalogue import open_catalogue
    from streamer.cli.overview import HEAD_COLUMNS, head_table

    rows = open_catalogue(catalog).head(n, model, night, HEAD_COLUMNS)
    if not len(rows):
        raise UserError(f"{catalog} has no rows{_of(night, model)}.")
    plain_console().print(head_table(rows))


@app.command()
def show(
    catalog: Path = CATALOG,
    object_id: str = typer.Argument(..., metavar="OBJECT_ID", help="The survey's identifier.", show_default=False),
    model: options.OfColumn = None,
    limit: int = typer.Option(8, "--limit", min=1, help="Most rows to draw, newest first."),
    blend: options.Blend = None,
    stamp: str | None = typer.Option(
        None,
        "--stamp",
        metavar="WHERE",
        help="Show its stamp in colour: topic, or a Parquet table with object_id and stamp_pixels.",
        show_default=False,
    ),
    brokers: str | None = typer.Option(
        None,
        "--brokers",
        help="Whose topic has the stamp; --stamp topic is then meant.",
        show_default="as settings say",
    ),
    plot: Path | None = typer.Option(
        None, "--plot", metavar="FILE", help="Draw stamp and PDFs: .png, .pdf or .svg.", show_default=False
    ),
) -> None:
    """Everything about one object: its PDFs drawn, points, flags in words, where each row came from.

    Where it has rows of an image model and of a forest, the best of both and why; with --blend the blend of both too.
    """
    from schemas.errors import UserError
    from streamer.catalogue import Catalogue, open_catalogue
    from streamer.cli.object_view import object_view
    from streamer.object_rows import object_rows

    if plot is not None:
        from streamer.comparison_plot import check_place

        check_place(plot)
    if blend is not None:
        from streamer.together import open_together

        catalogue: Catalogue = open_together(catalog, blend)
    else:
        catalogue = open_catalogue(catalog)
    found = object_rows(catalogue, object_id, model)
    if not len(found.rows):
        raise UserError(f"{catalog} has no row of object {object_id}{_of(None, model)}.")
    console = plain_console()
    stamps = _stamps(found, stamp or ("topic" if brokers else ""), brokers, 1 if plot is None else None)
    if stamps and stamps[0]:
        from rich.text import Text

        from streamer.cli.stamp_drawing import stamp_panel
        from streamer.stamp_colours import coloured

        first = stamps[0]
        if isinstance(first, str):
            console.print(Text(f" no stamp: {first}", "yellow"))
        else:
            console.print(
                stamp_panel(first, coloured(first), console.color_system is not None and not console.no_color)
            )
    for part in object_view(found, console.width, limit):
        console.print(part)
    if plot is not None:
        from streamer.object_picture import draw

        draw(found, stamps, plot)
        console.print(str(plot), soft_wrap=True, style="bold")


def _stamps(found: ObjectRows, where: str, brokers: str | None, most: int | None) -> list[Stamp | str]:
    """The stamp of each of the newest `most` messages, or why there is none; "" = nobody asked."""
    if not where:
        return [""] * len(found.messages)
    from schemas.errors import TroubleError, UserError
    from streamer import stamps
    from streamer.object_picture import MOST_MESSAGES

    if where == "topic":
        from streamer.settings import BrokerSettings, RegistrySettings, part

        asked = part(BrokerSettings, {"brokers": brokers} if brokers else {})
        registry = part(RegistrySettings, {})
        kafka = asked.kafka | {"bootstrap.servers": asked.brokers}
    out: list[Stamp | str] = []
    for message in found.messages[: most or MOST_MESSAGES]:
        row = found.records[message.rows[0]]
        try:
            if where == "topic":
                out.append(stamps.of_topic(row, kafka, registry.registry or "", registry.registry_setting))
            else:
                out.append(stamps.of_table(where, row["object_id"], row["survey"]))
        except UserError as error:  # the PDFs are there all the same
            out.append(str(error))
        except TroubleError as error:  # nobody answers: nor would he for the others, and each would be waited for
            out += [str(error)] * (min(len(found.messages), most or MOST_MESSAGES) - len(out))
            break
    return [*out, *([""] * (len(found.messages) - len(out)))]


@app.command()
def export(
    catalog: Path = CATALOG,
    out: Path = typer.Argument(..., metavar="OUT", help="File to write.", show_default=False),
    night: options.OfNight = None,
    model: options.OfColumn = None,
    columns: str | None = typer.Option(None, "--columns", help="Names, with commas between.", show_default="all"),
    form: str | None = typer.Option(
        None, "--format", help="parquet, csv (no PDFs) or qp.", show_default="by the name of OUT"
    ),
    best: bool = typer.Option(
        False,
        "--best",
        help="One row an object's message: the image model's where it is in its domain, else the forest's.",
    ),
    blend: options.Blend = None,
    force: bool = typer.Option(False, "--force", help="Replace OUT if it exists."),
) -> None:
    """Write rows to one file: Parquet with units and PDFs, CSV, or the files of a qp ensemble (OUT is X.pq).

    --blend FILE writes the rows of the blend, --best the best of both models with the reason, both together take the blend first.
    """
    from schemas.errors import UserError
    from streamer import export as exporting
    from streamer.catalogue import Catalogue, open_catalogue

    if best or blend is not None:
        from streamer import together

        if model is not None:
            raise UserError("--model names one model; --best and --blend read two.")
        model = together.BEST if best else together.BLEND
        catalogue: Catalogue = together.open_together(catalog, blend)
    else:
        catalogue = open_catalogue(catalog)
    names = [name.strip() for name in columns.split(",") if name.strip()] if columns else None
    done = exporting.export(catalogue, out, form or exporting.format_of(out), night, model, names, force)
    console = plain_console()
    for path in done.paths:
        console.print(f"{path}  {path.stat().st_size / 1e6:,.2f} MB", soft_wrap=True, style="bold")
    console.print(f"{done.rows:,} rows written.")
    if done.without_pdf:
        console.print(f"{done.without_pdf:,} rows have no PDF and were left out; their flags say why.")


@app.command()
def verify(
    catalog: Path = CATALOG,
    checksums: bool = typer.Option(False, "--checksums", help="Read every page of every file too."),
) -> None:
    """Prove that every offset is there exactly once and that files are what the log says. Exit code 0 if so, 3 if not."""
    from streamer.care.files import verify_files
    from streamer.catalogue import open_catalogue
    from streamer.sink.verify import verify as check

    size = open_catalogue(catalog).info().size
    with care.progress(plain_console(), "reading files", size) as advance:
        files = verify_files(catalog, checksums, advance)
    _verdict(files.lines(), files.ok)
    if not files.ok:  # the accounting reads them
        raise typer.Exit(3)
    report = check(catalog)
    _verdict(report.lines(), report.ok)
    if not report.ok:
        raise typer.Exit(3)


def _verdict(lines: list[str], ok: bool) -> None:
    """Print a report; its last line is the verdict."""
    console = plain_console()
    for line in lines[:-1]:
        console.print(line, soft_wrap=True)
    console.print(lines[-1], soft_wrap=True, style="bold green" if ok else "bold red")


for command in (care.compact, care.vacuum, care.history, care.migrate):
    app.command()(command)
app.command("withdraw")(withdraw.command)
app.command("retire")(retire.command)


def _of(night: str | None, model: str | None) -> str:
    return (f" in the night {night}" if night else "") + (f" by the model {model}" if model else "")
