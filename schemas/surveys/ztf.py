"""ZTF's public alerts, schema 1.8 and 3.0 to 4.02: hosts are the three nearest Pan-STARRS1 sources within 30 arcsec.

A source is a galaxy where its star/galaxy score (Tachibana & Miller 2018, PASP 130, 128001; 1 = star) is below 0.5. The
nearest galaxy within 10 arcsec is the host; a star within 1.5 arcsec is what varied, and then there is no host. PS1's
magnitudes come without errors: those of the 3pi survey's depth stand for them (Chambers et al. 2016, arXiv:1612.05560,
table 11), and the row says ``NOMINAL_ERRORS``. There is no y band, no E(B-V), and -999 is a missing value.

Fields: https://github.com/ZwickyTransientFacility/ztf-avro-alert. Times are JD in UTC.
"""

from schemas.packets import Choice, Host, Identifier, NominalErrors, Packet


def _neighbour(k: int) -> Host:
    return Host(
        magnitude=(*(f"candidate.s{band}mag{k}" for band in "griz"), ""),
        magnitude_err=("",) * 5,
        separation=f"candidate.distpsnr{k}",
        star=f"candidate.sgscore{k}",
    )


PACKET = Packet(
    name="ztf",
    version="ztf-1",
    survey="ps1",
    object_id=(Identifier("objectId", "string"),),
    alert_id=Identifier("candid"),
    ra="candidate.ra",
    dec="candidate.dec",
    time="candidate.jd",
    epoch=-2400000.5,
    hosts=(_neighbour(1), _neighbour(2), _neighbour(3)),
    choice=Choice(radius=10.0, star=0.5, star_radius=1.5),
    errors=NominalErrors(floor=0.015, depth=(23.3, 23.2, 23.1, 22.3, 21.4)),
    moving=("candidate.ssdistnr", 5.0),
    cutouts=(
        ("science", "cutoutScience.stampData"),
        ("template", "cutoutTemplate.stampData"),
        ("difference", "cutoutDifference.stampData"),
    ),
)
