"""Two models over one night: how rows are paired, and every figure against counting by hand."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import ROWS
from schemas.errors import UserError
from schemas.flags import Flag
from streamer.catalogue import Catalogue, open_catalogue
from streamer.comparison import compare, match, pdf_distances
from tests.catalogue_builder import GRID, MODELS_HERE, NIGHTS, Built, append, build, gaussians, model_name, night_rows
from tests.test_cli_catalog import run, said

A, B = (model_name(*m) for m in MODELS_HERE)
NIGHT = NIGHTS[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("compare") / "catalogue", rows_a_night=120, compact=("image",))


@pytest.fixture(scope="module")
def catalogue(built: Built) -> Catalogue:
    return open_catalogue(built.path)


def set_column(rows: pa.Table, name: str, values: object) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), ROWS.field(name), pa.array(values, ROWS.field(name).type))


def test_figures_against_counting_by_hand(built: Built, catalogue: Catalogue) -> None:
    figures = compare(catalogue, A, B, NIGHT).figures()
    of = {
        m: {r["kafka_offset"]: r for r in built.rows.to_pylist() if r["model"] == m and r["night"] == NIGHT}
        for m in (A, B)
    }
    pairs = [(of[A][o], of[B][o]) for o in of[A]]
    assert figures["rows"] == {"both": 120, "by_identity": 120, "by_object": 0, "only_a": 0, "only_b": 0}
    shift = [(b["z_median"] - a["z_median"]) / (1 + a["z_median"]) for a, b in pairs if a["z_median"] is not None]
    assert figures["redshifts"] == {"both": len(shift), "gained": 0, "lost": 0}
    bias = np.median(shift)
    assert figures["shift"] == pytest.approx(
        {
            "bias": bias,
            "sigma_mad": 1.4826 * np.median(np.abs(shift - bias)),
            "outliers_15": np.mean(np.abs(shift) > 0.15),
        },
        abs=1e-6,
    )
    for line in figures["flags"]:
        flag = Flag[line["flag"]]
        assert line["gained"] == sum(bool(b["flags"] & ~a["flags"] & flag) for a, b in pairs)
        assert line["lost"] == sum(bool(a["flags"] & ~b["flags"] & flag) for a, b in pairs)
    by_size = sorted(-abs(s) for s in shift)[:10]
    assert [-abs(m["shift"]) for m in figures["movers"]] == pytest.approx(by_size, abs=1e-6)
    first = figures["movers"][0]
    a, b = of[A][first["offset"]], of[B][first["offset"]]
    assert (first["object_id"], first["z_a"], first["z_b"]) == (a["object_id"], a["z_median"], b["z_median"])
    step = GRID[1] - GRID[0]
    ks = max(np.abs(np.cumsum(np.subtract(a["pdf"], b["pdf"])) * step))
    assert first["ks"] == pytest.approx(ks, abs=0.02)  # B's PDFs are stored a byte a point
    assert figures["pdf"]["pairs"] == len(shift)


def test_few_pdfs_still_tell_those_of_the_movers(catalogue: Catalogue) -> None:
    every, few = compare(catalogue, A, B, NIGHT), compare(catalogue, A, B, NIGHT, movers=3, pdfs=20)
    assert len(few.distances.pair) <= 20
    for told, known in zip(few.figures()["movers"], every.figures()["movers"][:3], strict=True):
        assert told == known
    at = {int(k): float(ks) for k, ks in zip(every.distances.pair, every.distances.ks, strict=True)}
    assert [at[int(k)] for k in few.distances.pair] == pytest.approx(few.distances.ks.tolist(), nan_ok=True)


def test_redshifts_and_flags_gained_and_lost_and_rows_of_one_side(tmp_path: Path) -> None:
    path = build(tmp_path / "catalogue", nights=()).path
    rng = np.random.default_rng(1)
    z, ids = np.full(50, 0.5), [f"o{i}" for i in range(50)]
    one, two = (night_rows(rng, z, ids, NIGHT, *m) for m in MODELS_HERE)  # the same two rows have no redshift in both
    nothing = set_column(set_column(one.slice(0, 1), "z_median", [None]), "pdf", [None])
    one = pa.concat_tables([nothing, one.slice(1, 44)])
    dark = set_column(two.slice(20, 1), "flags", [int(Flag.OUT_OF_DISTRIBUTION)])
    two = pa.concat_tables(
        [two.slice(0, 20), set_column(set_column(dark, "z_median", [None]), "pdf", [None]), two.slice(21)]
    )
    append(path / "rows", one)
    append(path / "rows", two)
    figures = compare(open_catalogue(path), A, B).figures()
    assert figures["night"] == NIGHT
    assert figures["rows"] == {"both": 45, "by_identity": 45, "by_object": 0, "only_a": 0, "only_b": 5}
    assert (figures["redshifts"]["gained"], figures["redshifts"]["lost"]) == (1, 1)
    flags = {line["flag"]: line for line in figures["flags"]}
    assert flags["OUT_OF_DISTRIBUTION"] == {"flag": "OUT_OF_DISTRIBUTION", "a": 0, "b": 1, "gained": 1, "lost": 0}


@given(st.data())
def test_rows_are_paired_by_message_then_by_object(data: st.DataObject) -> None:
    def some() -> pa.Table:
        places = data.draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), unique=True, max_size=9))
        objects = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(places), max_size=len(places)))
        columns = [[str(t) for t, _ in places], [0] * len(places), [o for _, o in places], [0] * len(places)]
        times = data.draw(st.lists(st.sampled_from([1.0, 2.0, None]), min_size=len(places), max_size=len(places)))
        columns += [objects, times, [0.5] * len(places), [0] * len(places)]
        names = ["topic_id", "kafka_partition", "kafka_offset", "kafka_row", "object_id", "mjd", "z_median", "flags"]
        return pa.table([pa.array(c, ROWS.field(n).type) for n, c in zip(names, columns, strict=True)], names=names)

    a, b = some(), some()
    pairs = match(a, b)

    def key(row: dict[str, object]) -> tuple[object, object]:
        return row["topic_id"], row["kafka_offset"]

    left, right = {key(r): r for r in a.to_pylist()}, {key(r): r for r in b.to_pylist()}
    same = set(left) & set(right)
    found = list(zip(map(key, pairs.a.to_pylist()), map(key, pairs.b.to_pylist()), strict=True))
    assert sorted(found[: pairs.by_identity]) == sorted((k, k) for k in same)
    expected = set()
    for name in "xyz":
        rest = [
            sorted(
                (r for k, r in side.items() if k not in same and r["object_id"] == name),
                key=lambda r: (r["mjd"] is None, r["mjd"] or 0.0, r["kafka_offset"]),
            )
            for side in (left, right)
        ]
        expected |= {(r["mjd"], s["mjd"], r["object_id"]) for r, s in zip(*rest, strict=False)}
    by_object = zip(
        pairs.a.slice(pairs.by_identity).to_pylist(), pairs.b.slice(pairs.by_identity).to_pylist(), strict=True
    )
    assert {(r["mjd"], s["mjd"], r["object_id"]) for r, s in by_object if r["object_id"] == s["object_id"]} == expected


def test_distances_of_pdfs_that_are_known() -> None:
    other = np.linspace(0, 4, 201)
    centre = np.array([0.8, 1.0, 1.5])
    here = gaussians(centre, np.full(3, 0.1)).astype(np.float32)
    moved = gaussians(centre + 0.2, np.full(3, 0.1)).astype(np.float32)
    ks, area = pdf_distances(here, GRID, moved, GRID)
    assert ks == pytest.approx(2 * 0.8413447 - 1, abs=1e-3)  # two normals two sigma apart cross in the middle
    assert area == pytest.approx(0.2, abs=1e-3)
    coarse = np.exp(-0.5 * ((other - centre[:, None]) / 0.1) ** 2).astype(np.float32)
    ks, area = pdf_distances(here, GRID, coarse, other)
    assert (ks < 0.005).all()
    assert (area < 0.002).all()
    nothing = np.full((3, 301), np.nan, np.float32)
    assert np.isnan(pdf_distances(here, GRID, nothing, GRID)).all()


def test_the_command_says_it_in_80_columns_and_as_json(built: Built) -> None:
    text = said("compare", built.path, A, B, "--night", NIGHT)
    for word in ("rows in both", "120", "sigma MAD", "multimodal_pdf", "moved most"):
        assert word in text
    told = json.loads(said("compare", built.path, A, B, "--json", "--movers", 2))
    assert told["night"] == NIGHTS[-1]
    assert len(told["movers"]) == 2


def test_the_picture(built: Built, tmp_path: Path) -> None:
    said("compare", built.path, A, B, "--night", NIGHT, "--plot", tmp_path / "moved.png")
    assert (tmp_path / "moved.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["moved.png"]
    assert "ends in .png" in str(run("compare", built.path, A, B, "--plot", tmp_path / "x.doc").exception)
    assert "no directory" in str(run("compare", built.path, A, B, "--plot", tmp_path / "no" / "x.png").exception)


def test_what_cannot_be_compared_is_a_sentence(catalogue: Catalogue) -> None:
    with pytest.raises(UserError, match="name two models"):
        compare(catalogue, A, A)
    with pytest.raises(UserError, match=f"no rows of the model nobody: there are {A}, {B}"):
        compare(catalogue, A, "nobody")
    with pytest.raises(UserError, match="in the night 1999-01-01: there are none"):
        compare(catalogue, A, B, "1999-01-01")
