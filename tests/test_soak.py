"""What the soak sends is what it takes it for, and its judge sees what is wrong."""

import numpy as np

from benchmarks.soak_messages import UNKNOWN_ID, Forms
from schemas.batch import Messages
from schemas.native_decoder import NativeDecoder
from schemas.surveys.native import avro_schema
from schemas.wire.confluent import KnownSchemas
from tests.streaming import now_mjd

NEW_ID = 77


def test_every_form_becomes_what_it_says() -> None:
    """Rows, refused rows and refused messages of each form, by the decoder that the workers use."""
    forms = Forms(now_mjd(), np.random.default_rng(1))
    n = len(forms.all)
    schemas = KnownSchemas([avro_schema("lsst")], {NEW_ID: avro_schema("lsst")})
    assert schemas.get(UNKNOWN_ID) is None
    messages = Messages(
        [forms.value(k, NEW_ID) for k in range(n)],
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int64),
        np.zeros(n, np.int64),
        {0: n},
    )
    galaxies, refusals = NativeDecoder("lsst", schemas).decode(messages)
    rows = set(zip(galaxies.message.tolist(), galaxies.row.tolist(), strict=True))
    assert rows == {(k, r) for k, form in enumerate(forms.all) for r in range(form.rows) if r != form.bad}
    listed = set(zip(refusals.message.tolist(), refusals.row.tolist(), strict=True))
    bad = {(k, form.bad) for k, form in enumerate(forms.all) if form.bad >= 0}
    assert listed == {(k, -1) for k, form in enumerate(forms.all) if form.rows == 0} | bad
    assert len(set(refusals.reason.tolist())) >= 6  # kinds of trouble
    drawn = [forms.draw(np.random.default_rng(k), new_schema=True) for k in range(5_000)]
    assert {id(g) for g in forms._groups for k in drawn if forms.all[k] in g} == {id(g) for g in forms._groups}
