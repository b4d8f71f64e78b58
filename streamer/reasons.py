"""Why an offset gave no row, in a sentence each: what the exceptions ledger's reasons mean to a person."""

from schemas.batch import Reason

MEANING: dict[str, str] = {
    Reason.NO_MESSAGE.name: "the log holds nothing there: a transaction marker, aborted or compacted away",
    Reason.EMPTY.name: "a message without a galaxy: a tombstone, or no rows",
    Reason.RETENTION_GAP.name: "expired before it was read: lost by the broker's retention",
    Reason.WITHDRAWN.name: "its rows stood here, and a person took them out for good",
    Reason.BAD_FRAMING.name: "no header of a framing we know",
    Reason.UNKNOWN_SCHEMA.name: "a schema id that nobody can resolve",
    Reason.LACKS_FIELD.name: "the writer's schema lacks a field that a galaxy needs",
    Reason.CORRUPT.name: "the body does not follow its schema",
    Reason.TOO_LARGE.name: "more bytes, or more rows, than the bound",
    Reason.WRONG_SURVEY.name: "another survey's message",
    Reason.BAD_POSITION.name: "right ascension or declination is no position on the sky",
    Reason.BAD_OBJECT_ID.name: "a row without an object id",
}
