"""Options of the command line that are settings.

A setting is declared once, as a field of a class in streamer/settings.py. Its name gives the flag (``--commit-rows``) and the
variable (``SLIPHER_COMMIT_ROWS``), its type what is accepted, its description and default the help. A command takes all options
of a class by one word, and hands them on by one word:

    @options.of(RunSettings, but=("start",))
    def command(given: options.Given, until_end: ... = False) -> None:
        settings = run_settings(**given)

So a new option is a new field and nothing else: every command that takes its class has it. ``Named`` in the field's annotation
gives it another flag, or a section in the file (``Annotated[int, Named(key="commit.rows")]``); a class of new fields joins
``EVERY`` there. A command that takes few settings by hand has ``config: options.Config = None`` beside them. Options that are no
settings, such as ``--until-end``, stand in the command's own signature.
"""

import inspect
import types
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from streamer.settings import Settings


def _use(path: Path | None) -> Path | None:
    if path is not None:
        from streamer.configuration import toml_file
        from streamer.settings import use_storage

        toml_file.use(path)
        use_storage()
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="File of settings; flags and SLIPHER_... hold before it. Default: the one that SLIPHER_CONFIG names, else "
        "slipher.toml in this directory, where it is.",
        show_default=False,
        is_eager=True,  # before what is read by it
        callback=_use,
    ),
]
OfTopic = Annotated[
    str | None, typer.Option("--topic", help="Only this topic.", show_default="all that the catalogue reads")
]
OfModel = Annotated[
    str | None,
    typer.Option(
        "--model", help="Only this model, by its name or processing id.", show_default="all that write the catalogue"
    ),
]
OfNight = Annotated[
    str | None,
    typer.Option("--night", metavar="DATE", help="Only this observing night, YYYY-MM-DD.", show_default=False),
]
OfColumn = Annotated[
    str | None, typer.Option("--model", help="Only this model, by the name in the column model.", show_default=False)
]
Blend = Annotated[
    Path | None,
    typer.Option("--blend", metavar="FILE", help="A blend of both models, from `slipher blend`.", show_default=False),
]
Device = Annotated[
    str, typer.Option("--device", help="Of image networks: auto (a GPU if there is one), cuda, cpu, onnx or openvino.")
]
Given = dict[str, Any]  # settings that flags gave, by their names: what the functions of streamer.settings take


def of(what: "type[Settings]", but: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting of `what`.

    Parameters
    ----------
    what
        Whose fields are the options.
    but
        Names of fields that this command does not take as options.

    Returns
    -------
    decorator
        The options stand where the command has its parameter ``given``, and come to it as that.
    """
    taken = [(name, field) for name, field in what.model_fields.items() if name not in but]
    fields = dict(sorted(taken, key=lambda item: not item[1].is_required()))  # what must be given stands first

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == "given":
                parameters += [_parameter(what, name, field) for name, field in fields.items()]
                parameters.append(
                    inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config)
                )
            else:
                parameters.append(
                    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
                )

        @wraps(command)
        def wrapped(context: typer.Context, config: Path | None, **values: Any) -> None:
            given = {name: values.pop(name) for name in fields}
            command(**values, given=_given(what, context, given))

        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
        return wrapped

    return decorate


def _parameter(what: "type[Settings]", name: str, field: "FieldInfo") -> inspect.Parameter:
    from streamer.settings import flag_of

    plain = _plain(field.annotation)
    repeated = plain in (list, dict)
    option = typer.Option(
        None,
        flag_of(what, name),
        help=f"{field.description}{_default(field)}",
        envvar=None if repeated else f"SLIPHER_{name.upper()}",  # of several values it is JSON: only we can read it
        show_default=False,
    )
    annotation: Any = list[str] | None if repeated else Union[plain, None]  # noqa: UP007  # of a type not known here
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def _default(field: "FieldInfo") -> str:
    """The default in words, where it is one value."""
    from pydantic_core import PydanticUndefined

    default = field.default
    if default in (PydanticUndefined, None, ""):
        return ""
    return f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."


def _plain(annotation: Any) -> Any:
    """The type that the command line knows: str, int, float, bool, Path, or list or dict for what is repeated."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _plain(next(some for some in get_args(annotation) if some is not type(None)))
    if origin is Literal:
        return str
    plain = origin or annotation
    return plain if plain in (str, int, float, bool, Path, list, dict) else str


def _given(what: "type[Settings]", context: typer.Context, values: dict[str, Any]) -> Given:
    """What flags gave. What typer found in the environment is left to the settings, which know that it comes from there."""
    from streamer.settings import flag_of, key_values, named

    given = {}
    for name, value in values.items():
        source = context.get_parameter_source(name)
        if value is None or value == [] or (source is not None and source.name == "ENVIRONMENT"):
            continue
        field = what.model_fields[name]
        if _plain(field.annotation) is dict:
            value = key_values(value, flag_of(what, name), named(field).such_as)
        given[name] = value
    return given
