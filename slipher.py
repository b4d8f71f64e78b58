"""slipher in a notebook: load a model, give it a table, get redshifts.

import slipher

model = slipher.load("lsst.slipher")
redshifts = model.estimate(table)      # a dict of arrays, NumPy, pandas, polars, Arrow, astropy: columns as for `slipher train`
redshifts.z_best, redshifts.pdf, redshifts.flags.has("OUT_OF_DISTRIBUTION")
redshifts.to_pandas(), redshifts.to_qp()

rows = slipher.open_catalogue("/data/catalog").head(100)     # what a stream has written: see docs/catalogue.md
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.batch import BandState, Estimates, Float32, Float64
from schemas.errors import SlipherError, UserError
from schemas.flags import DESCRIPTIONS, Flag, names

if TYPE_CHECKING:
    import pyarrow as pa

    from models.estimator import Estimator
    from streamer.catalogue import Catalogue

__all__ = ["Flag", "Flags", "Model", "Redshifts", "SlipherError", "UserError", "load", "open_catalogue"]

BLOCK = 100_000  # rows estimated at once


def load(path: str | os.PathLike[str]) -> Model:
    """The model in the bundle at `path`.

    Raises
    ------
    UserError
        If the file is missing, is no bundle, is damaged, or is newer than this version of slipher.
    """
    from models import estimator

    return Model(estimator.load(Path(path)))


def open_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """The catalogue that `slipher run` writes in the directory `path`, as of now; ``UserError`` if there is none."""
    from streamer.catalogue import open_catalogue as opened

    return opened(path)


class Model:
    """A trained photo-z model."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator

    @property
    def name(self) -> str:
        """Kind, survey and the first 8 digits of the bundle's hash."""
        return f"{self._estimator.kind}-{self.survey}-{self.sha256[:8]}"

    @property
    def card(self) -> dict[str, Any]:
        """The model card: training set, settings, metrics on galaxies it was not trained on."""
        return self._estimator.card

    @property
    def survey(self) -> str:
        """The survey it was trained for."""
        return self._estimator.survey

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands it wants, blue to red."""
        return self._estimator.bands

    @property
    def z_grid(self) -> Float64:
        """Redshifts at which PDFs are given, float64[G]."""
        return self._estimator.grid

    @property
    def sha256(self) -> str:
        """Content hash of the bundle."""
        return self._estimator.sha256

    def __repr__(self) -> str:
        n = self.card.get("training", {}).get("n", 0)
        return f"<slipher model {self.name}: bands {' '.join(self.bands)}, trained on {n:,} galaxies>"

    def estimate(self, table: Any, *, nan_is_not_observed: bool = False) -> Redshifts:
        """Redshifts of n galaxies, in the order of `table`.

        Parameters
        ----------
        table
            A dict of arrays, a NumPy structured array, a pandas, polars, Arrow or astropy table, or the path of a file that
            `slipher train` would open. Columns per band b: ``flux_b`` and ``flux_err_b`` (nJy, or the unit the table says), or
            ``mag_b`` and ``mag_err_b`` (AB); optionally ``ebv`` (mag), ``object_id``, ``ra``, ``dec``.
        nan_is_not_observed
            A magnitude of 99, -99 or NaN, or a flux of NaN, says that the band was not observed; otherwise that the galaxy was
            too faint in it.

        Raises
        ------
        UserError
            If a column is missing or holds something else than it should. A row that cannot be estimated is no error: it has
            NaN everywhere and a flag.
        """
        from models.table_checks import check_stamps, check_units
        from schemas import photometry_table, tables
        from schemas.bands import of_card

        missing = BandState.NOT_OBSERVED if nan_is_not_observed else BandState.NON_DETECTED
        file = isinstance(table, str | os.PathLike)
        images = self._estimator.kind == "images"
        columns = tables.read(Path(table), stamps=images) if file else tables.of(table)
        name = str(table) if file else "The table"
        found = photometry_table.find(columns, of_card(self.card), name, missing=missing)
        check_units(found, self.card, name)
        if images:
            check_stamps(found, self.card, name)
        parts = []
        for first in range(0, len(found), BLOCK):
            some = found.take(np.arange(first, min(first + BLOCK, len(found))))
            parts.append(self._estimator.estimate(some.galaxies(self.bands, self.survey)))
        whole = parts[0] if len(parts) == 1 else Estimates(*map(np.concatenate, zip(*parts, strict=True)))
        beside = {"object_id": np.array(found.object_id, object)}
        beside |= {name: values for name in ("ra", "dec") if np.isfinite(values := getattr(found, name)).any()}
        return Redshifts(self, whole, beside)


class Flags:
    """The flags of n rows: an array of bit fields that knows its names."""

    def __init__(self, values: npt.NDArray[np.uint32]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Any:
        """Flags of some rows; of one row a `Flag`, which prints its names."""
        some = self.values[rows]
        return Flags(some) if isinstance(some, np.ndarray) else Flag(int(some))

    def __iter__(self) -> Iterator[Flag]:
        return (Flag(int(value)) for value in self.values)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts().items())
        return f"<flags of {len(self):,} rows: {counts or 'none set'}>"

    def has(self, *flags: Flag | str) -> npt.NDArray[np.bool_]:
        """Rows with any of `flags`, bool[n]: ``has("BROAD_PDF", "MULTIMODAL_PDF")``.

        Raises
        ------
        UserError
            If there is no such flag.
        """
        unknown = [flag for flag in flags if isinstance(flag, str) and flag not in Flag.__members__]
        if unknown:
            raise UserError(f"There is no flag {', '.join(unknown)}: there are {', '.join(Flag.__members__)}.")
        bits = np.uint32(sum({int(Flag[flag]) if isinstance(flag, str) else int(flag) for flag in flags}))
        any_of: npt.NDArray[np.bool_] = (self.values & bits) != 0
        return any_of

    @property
    def names(self) -> list[list[str]]:
        """Names of the flags of each row."""
        return [names(int(value)) for value in self.values]

    def counts(self) -> dict[str, int]:
        """Rows with each flag that is set anywhere."""
        of = {flag.name: int(self.has(flag).sum()) for flag in Flag if flag.name}
        return {name: count for name, count in of.items() if count}

    @staticmethod
    def describe() -> dict[str, str]:
        """What each flag means, in words."""
        return {flag.name: text for flag, text in DESCRIPTIONS.items() if flag.name}


class Redshifts:
    """What a model says of n galaxies: each column an attribute, float32[n], NaN where there is no redshift.

    Attributes
    ----------
    pdf
        p(z) on `z_grid`, float32[n, G].
    z_grid
        Redshifts, float64[G].
    flags
        `Flags`.
    model
        The model that made it.
    """

    def __init__(self, model: Model, estimates: Estimates, beside: dict[str, np.ndarray]) -> None:
        self.model = model
        self.pdf: Float32 = estimates.pdf
        self.flags = Flags(estimates.flags)
        held = {"odds": "odds_0p03"}  # the name that the catalogue's column has
        rest = {held.get(k, k): v for k, v in estimates._asdict().items() if k not in ("pdf", "flags")}
        self._columns: dict[str, np.ndarray] = {**beside, **rest}

    @property
    def z_grid(self) -> Float64:
        """Redshifts at which `pdf` is given, float64[G]."""
        return self.model.z_grid

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns; each is an attribute too."""
        return (*self._columns, "flags", "pdf")

    def __getattr__(self, name: str) -> np.ndarray:
        columns = self.__dict__.get("_columns", {})
        if name not in columns:
            raise AttributeError(f"there is no column {name}: there are {', '.join((*columns, 'flags', 'pdf'))}")
        found: np.ndarray = columns[name]
        return found

    def __getitem__(self, name: str) -> Any:
        if name not in self.columns:
            raise KeyError(f"there is no column {name}: there are {', '.join(self.columns)}")
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.columns]

    def __len__(self) -> int:
        return len(self.pdf)

    def __repr__(self) -> str:
        known = int(np.isfinite(self.pdf[:, 0]).sum())
        return (
            f"<redshifts of {len(self):,} galaxies, {known:,} known, by {self.model.name}: {', '.join(self.columns)}>"
        )

    def to_arrow(self, pdf: bool = True) -> pa.Table:
        """A pyarrow Table with units and descriptions as in the catalogue; null where there is no redshift.

        The grid of the PDFs is in the schema's metadata, JSON under ``slipher.z_grid``.
        """
        import pyarrow as pa

        from consumers.pdf_column import pdf_column
        from schemas.catalogue import ROWS

        arrays, fields = [], []
        for name in self.columns:
            field = ROWS.field(name)
            if name == "pdf":
                if not pdf:
                    continue
                array = pdf_column(self.pdf.copy())
            else:
                values = self.flags.values if name == "flags" else self._columns[name]
                floating = values.dtype.kind == "f"
                array = pa.array(values, mask=~np.isfinite(values) if floating else None).cast(field.type)
                field = field.with_nullable(floating)
            arrays.append(array)
            fields.append(field)
        about = {"slipher.z_grid": json.dumps(self.z_grid.tolist()), "slipher.model": self.model.name}
        return pa.table(arrays, schema=pa.schema(fields, metadata=about))

    def to_pandas(self, pdf: bool = False) -> Any:
        """A pandas DataFrame, NaN where there is no redshift; PDFs, if wanted, as one array a row.

        Raises
        ------
        UserError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UserError("to_pandas() needs pandas, which is not installed: pip install pandas.") from error
        columns: dict[str, Any] = {**self._columns, "flags": self.flags.values}
        return pandas.DataFrame(columns | ({"pdf": list(self.pdf)} if pdf else {}))

    def to_qp(self) -> Any:
        """A ``qp.Ensemble`` on `z_grid`. Rows without a PDF are left out: ``ancil["row"]`` says which row each one is.

        Raises
        ------
        UserError
            If qp is not installed, or no row has a PDF.
        """
        try:
            import qp
        except ImportError as error:
            raise UserError("to_qp() needs qp, which is not installed: pip install qp-prob.") from error
        known = np.flatnonzero(np.isfinite(self.pdf[:, 0]))
        if not len(known):
            raise UserError("None of these rows has a PDF: there is no ensemble to make.")
        data = {"xvals": self.z_grid, "yvals": self.pdf[known].astype(np.float64)}
        beside = {name: values[known] for name, values in self._columns.items() if values.dtype.kind in "iuf"}
        ids = {"object_id": self._columns["object_id"][known].astype(str)}
        return qp.Ensemble(
            qp.interp, data=data, ancil={"row": known, **ids, **beside, "flags": self.flags.values[known]}
        )
