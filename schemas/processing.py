"""The identity of a processing: the same id means the same rows from the same messages, for ever."""

import hashlib
import json
from typing import Any, NamedTuple


class Processing(NamedTuple):
    """What determines a row, and its name."""

    id: str  # 16 hex digits
    model: str  # kind-survey-first 8 of the id: the partition column, so of letters, digits and - alone
    kind: str
    survey: str
    bundle_sha256: str
    decoder: str
    settings: dict[str, Any]


def processing(kind: str, survey: str, bundle_sha256: str, decoder: str, settings: dict[str, Any]) -> Processing:
    """Name a processing by the hash of all that changes rows.

    Parameters
    ----------
    kind
        Kind of estimator, such as ``forest``.
    survey
        Photometric system.
    bundle_sha256
        Content hash of the model bundle.
    decoder
        Decoder and version: a mended decoder is a new processing, its rows stand beside the old ones.
    settings
        Only those that change rows.
    """
    text = json.dumps([kind, survey, bundle_sha256, decoder, settings], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Processing(
        digest, f"{kind.replace('+', '-')}-{survey}-{digest[:8]}", kind, survey, bundle_sha256, decoder, settings
    )
