"""What both sides of the pipeline benchmark are given: models of the same galaxies, and topics of galaxies not trained on."""

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import joblib  # comes with scikit-learn
import numpy as np

from benchmarks import plain
from models import bundle as bundles
from models import training
from models.forest.estimator import ForestEstimator
from schemas import dc2, photometry_table
from schemas.bands import band_set
from schemas.night import mjd_of, rollover
from schemas.table_alerts import Form, payloads
from streamer.demo.sky import Night, observe
from streamer.publish import make_topic, publish
from streamer.run import now_ms

SURVEY = "lsst"
DUST_LAW = "SF11"
PARTITIONS = 8
ARROW_ROWS = 2_000  # galaxies of an Arrow message
WARM_UP_ROWS = 2_000
SEED = 1


class Feed(NamedTuple):
    """A topic, and a few messages like those in it."""

    topic: str
    form: Form
    rows: int
    warm_up: list[bytes]


def train(ours: Path, peer: Path, tell: training.Progress) -> None:
    """Write our bundle to `ours`, and the peer's model of the same rows, trees and leaf size to `peer`."""
    bands = band_set(SURVEY)
    known = photometry_table.read(dc2.training(), bands, want_redshift=True).with_redshift()
    settings = training.ForestSettings(dust_law=DUST_LAW)
    bundle = training.fit(known.flux, known.flux_err, known.band_state, known.ebv, known.z, bands, settings, tell)
    bundles.write(bundle, ours)
    tell("the plain forest", 1.0)
    # As ours: every galaxy as it is, and in copies with bands taken away.
    rng, masks = np.random.default_rng(SEED), training.known_masks(len(bands.bands))
    flux = [known.flux]
    for _ in range(settings.copies):
        kept = rng.choice(masks, len(known))[:, None] >> np.arange(len(bands.bands), dtype=np.uint32) & 1
        flux.append(np.where(kept == 1, known.flux, np.nan))
    copies = len(flux)
    card: dict[str, Any] = bundle.card
    system = plain.System(
        bands.bands, bands.bands.index(bands.reference), np.array(card["softening"]), np.array(card["dust"])
    )
    trained = plain.train(
        np.concatenate(flux),
        np.tile(known.ebv, copies),
        np.tile(known.z, copies),
        system,
        card["settings"]["trees"],
        card["settings"]["min_leaf"],
        ForestEstimator(bundle).grid,
    )
    joblib.dump(trained, peer)


def night(rows: int) -> Night:
    """Validation galaxies drawn again, with noise and dust."""
    bands = band_set(SURVEY)
    validation = photometry_table.read(dc2.validation(), bands, want_redshift=True).with_redshift()
    mjd = float(mjd_of(now_ms(), rollover(SURVEY).scale))
    return observe(validation, bands, DUST_LAW, rows, mjd, np.random.default_rng(SEED))


def feed(drawn: Night, form: Form, rows: int, brokers: str) -> Feed:
    """Publish the first `rows` galaxies of `drawn` in `form` to a topic of their own."""
    kafka = {"bootstrap.servers": brokers}
    topic = f"galaxies-{form}"
    make_topic(topic, PARTITIONS, kafka)
    table = drawn.table.take(np.arange(rows))
    bands = band_set(SURVEY)
    messages = WARM_UP_ROWS if form == "avro" else WARM_UP_ROWS // ARROW_ROWS
    warm_up = list(islice(payloads(table, bands, drawn.mjd, form, ARROW_ROWS), messages))
    publish(payloads(table, bands, drawn.mjd[:rows], form, ARROW_ROWS), topic, kafka)
    return Feed(topic, form, rows, warm_up)
