"""ELAsTiCC, the simulated Rubin alerts of DESC (v0.9): the one published packet with ugrizY magnitudes of a host, and errors.

The simulation ranks up to two hosts by their distance in units of their size; the first is taken, and the row is
``HOST_AMBIGUOUS`` where there is a second. Magnitudes are taken as observed through the Galaxy's dust, ``mwebv``, like
all fluxes here. Missing values are 999, -9, -99 or -999.

Fields: https://github.com/LSSTDESC/elasticc. Times are MJD in TAI.
"""

from schemas.packets import Host, Identifier, Packet

_BANDS = "ugrizY"


def _host(name: str) -> Host:
    return Host(
        magnitude=tuple(f"diaObject.{name}_mag_{band}" for band in _BANDS),
        magnitude_err=tuple(f"diaObject.{name}_magerr_{band}" for band in _BANDS),
        ra=f"diaObject.{name}_ra",
        dec=f"diaObject.{name}_dec",
    )


PACKET = Packet(
    name="elasticc",
    version="elasticc-1",
    survey="lsst",
    object_id=(Identifier("diaObject.diaObjectId"), Identifier("diaSource.diaObjectId")),
    alert_id=Identifier("alertId"),
    ra="diaSource.ra",
    dec="diaSource.decl",
    time="diaSource.midPointTai",
    hosts=(_host("hostgal"), _host("hostgal2")),
    ebv="diaObject.mwebv",
    fixed="diaObject",
    cutouts=(("template", "cutoutTemplate"), ("difference", "cutoutDifference")),
)
