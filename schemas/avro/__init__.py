"""Avro at memory speed: a writer's schema compiled to a program that one kernel runs over a batch of records."""

from schemas.avro.buffers import Buffers, buffers
from schemas.avro.columns import Ragged, Spans, blobs, strings
from schemas.avro.container import Container, Containers, Records
from schemas.avro.program import CONTINUE, Decoded, Program, compile_schema
from schemas.avro.resolve import NULL_INTEGER, REQUIRED, Kind, LacksField, Want
from schemas.avro.schema import SchemaError, parse
from schemas.avro.schema_files import read_schema
from schemas.avro.status import Status

__all__ = [
    "CONTINUE",
    "NULL_INTEGER",
    "REQUIRED",
    "Buffers",
    "Container",
    "Containers",
    "Decoded",
    "Kind",
    "LacksField",
    "Program",
    "Ragged",
    "Records",
    "SchemaError",
    "Spans",
    "Status",
    "Want",
    "blobs",
    "buffers",
    "compile_schema",
    "parse",
    "read_schema",
    "strings",
]
