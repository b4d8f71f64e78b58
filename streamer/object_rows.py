"""All that is known of one object, by message: rows of every model, the blend of two, the best of them and why."""

from typing import Any, NamedTuple

import pyarrow as pa

from streamer.best import Message, messages
from streamer.catalogue import Catalogue


class ObjectRows(NamedTuple):
    """An object's rows.

    Attributes
    ----------
    rows
        As stored, newest first.
    records
        The same as dicts, and behind them those of the blend, one for each message that has one.
    known
        The models, by processing id; a blend's too.
    messages
        Which of the records belong together, newest first; `Message.rows` are places in `records`.
    """

    rows: pa.Table
    records: list[dict[str, Any]]
    known: dict[str, dict[str, Any]]
    messages: list[Message]


def object_rows(catalogue: Catalogue, object_id: str, model: str | None = None) -> ObjectRows:
    """The rows of an object; none where there are none.

    Parameters
    ----------
    catalogue
        With a blend if it is a `streamer.together.Together` that has one.
    object_id
        The survey's.
    model
        Only rows of this model.
    """
    rows, models = catalogue.find(object_id, model), catalogue.models()
    known = {row["processing_id"]: row for row in models.to_pylist()}
    records = rows.to_pylist()
    pool = getattr(catalogue, "pool", None)
    if pool is None or not len(rows):
        return ObjectRows(rows, records, known, messages(rows, models))
    from streamer.together import Together

    assert isinstance(catalogue, Together), "only that has a pool"
    found = messages(rows, models, catalogue.both, blend=True)
    for k, message in enumerate(found):
        if message.judged is None or message.judged.choice != "blend":
            continue
        pair = (rows.slice(at, 1) for at in (message.forest, message.images))
        made = catalogue.blend_of(*pair).to_pylist()[0]
        found[k] = message._replace(rows=[*message.rows, len(records)])
        records.append(made)
        known[made["processing_id"]] = {
            "processing_id": made["processing_id"],
            "model": made["model"],
            "bands": pool.card["images"].get("bands") or next(iter(known.values()))["bands"],
            "z_grid": pool.grid.tolist(),
            "bundle_sha256": pool.card["sha256"],
            "decoder": f"made now: {1 - pool.weight:.3g} forest + {pool.weight:.3g} images",
        }
    return ObjectRows(rows, records, known, found)
