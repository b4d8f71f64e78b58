"""The producer's side of a schema registry: a schema becomes an id that every reader of the registry can look up."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from schemas.errors import TroubleError, UserError
from streamer.registry.client import insist
from streamer.registry.connection import Away, Connection, Missing, Rejected


def register(connection: Connection, subject: str, schema: Mapping[str, Any]) -> int:
    """The id of `schema` under `subject`; the same schema always gets the same one.

    Raises
    ------
    UserError
        The registry does not want it there: it breaks the compatibility that the subject promises, say.
    TroubleError
        The registry does not answer as one, or does not let us.
    """
    path = f"/subjects/{quote(subject, safe='')}/versions"
    where = f"The schema registry at {connection.address}"
    try:
        answer = insist(lambda left: connection.post(path, {"schema": json.dumps(schema)}, left), connection.timeout)
    except Rejected as rejected:
        raise UserError(f"{where} does not take the schema under {subject}: {rejected}. Take another topic.") from None
    except Missing:
        raise TroubleError(f"{where} knows no way to register a schema under {subject}.") from None
    except Away as away:
        raise TroubleError(f"{where} does not register the schema: {away}") from None
    number = answer.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 32:
        raise TroubleError(f"{where} registers the schema without saying its id.")
    return number
