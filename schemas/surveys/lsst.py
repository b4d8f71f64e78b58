"""Rubin's alert packets, v7.0 to v11.1.

They carry the transient's own flux in difference images and no photometry of a host: v7 named three nearby objects of a
catalogue, v8 and later not even these. So every row says ``NO_HOST_PHOTOMETRY`` until host photometry comes from a
cross-match or from a cutout. A source without ``diaObject`` belongs to a solar-system object.

Fields: https://github.com/lsst/alert_packet. Times are MJD in TAI, at the middle of the exposure.
"""

from schemas.packets import Identifier, Packet

PACKET = Packet(
    name="lsst",
    version="lsst-1",
    survey="lsst",
    object_id=(
        Identifier("diaObject.diaObjectId"),
        Identifier("diaSource.ssObjectId"),
        Identifier("diaSource.diaSourceId"),  # a source that is not tied to an object yet
    ),
    alert_id=Identifier("diaSource.diaSourceId"),
    ra="diaSource.ra",
    dec="diaSource.dec",
    time="diaSource.midpointMjdTai",
    fixed="diaObject",
    cutouts=(
        ("science", "cutoutScience"),
        ("template", "cutoutTemplate"),
        ("difference", "cutoutDifference"),
    ),
)
