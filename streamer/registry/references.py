"""Makes one schema of a schema and those it refers to: a registry keeps named types apart, a decoder wants them in place."""

from typing import Any

_DEFINED = ("record", "error", "enum", "fixed")
Named = dict[str, dict[str, Any]]


def whole(schema: Any, referred: list[Any]) -> Any:
    """`schema` with the types of `referred` written out where they are first used.

    Parameters
    ----------
    schema
        JSON, which may name types it does not define.
    referred
        The schemas that define them, each after those it refers to itself.
    """
    named: Named = {}
    for part in referred:
        _flat(part, "", named)
    return _written_out(_flat(schema, "", named), named, set())


def _flat(schema: Any, space: str, named: Named) -> Any:
    """`schema` with each definition moved to `named`, its full name in its place."""
    if isinstance(schema, str):
        full = f"{space}.{schema}" if space and "." not in schema else schema
        return full if full in named else schema
    if isinstance(schema, list):
        return [_flat(branch, space, named) for branch in schema]
    if not isinstance(schema, dict):
        return schema  # no schema: the compiler says so
    if schema.get("type") not in _DEFINED:
        inner = {key: _flat(schema[key], space, named) for key in ("type", "items", "values") if key in schema}
        return {**schema, **inner}
    name = str(schema.get("name", ""))
    given, _, _ = name.rpartition(".")
    space = given or (schema.get("namespace", space) or "")
    full = name if given or not space else f"{space}.{name}"
    mine = {key: value for key, value in schema.items() if key != "namespace"} | {"name": full}
    if not space:
        mine["namespace"] = ""  # else it would take that of the record it is written into
    if named.setdefault(full, mine) is mine and isinstance(fields := schema.get("fields"), list):
        mine["fields"] = [_field(field, space, named) for field in fields]
    return full


def _field(field: Any, space: str, named: Named) -> Any:
    return (
        {**field, "type": _flat(field["type"], space, named)} if isinstance(field, dict) and "type" in field else field
    )


def _written_out(schema: Any, named: Named, done: set[str]) -> Any:
    """`schema` with each name replaced, the first time, by what it means."""
    if isinstance(schema, str):
        if schema not in named or schema in done:
            return schema
        done.add(schema)
        return _written_out(named[schema], named, done)
    if isinstance(schema, list):
        return [_written_out(branch, named, done) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in _DEFINED:
        fields = schema.get("fields")
        if not isinstance(fields, list):
            return schema
        return {**schema, "fields": [_inside(field, named, done) for field in fields]}
    return {
        key: _written_out(value, named, done) if key in ("type", "items", "values") else value
        for key, value in schema.items()
    }


def _inside(field: Any, named: Named, done: set[str]) -> Any:
    return {**field, "type": _written_out(field["type"], named, done)} if "type" in field else field
