"""Image cutouts of alerts: gzip or plain FITS to float32 images with variances and PSFs, a status each."""

from schemas.cutouts.planes import Planes
from schemas.cutouts.stamps import MOST_BYTES, Cutouts, decode, decode_bytes
from schemas.cutouts.status import CutoutStatus

__all__ = ["MOST_BYTES", "CutoutStatus", "Cutouts", "Planes", "decode", "decode_bytes"]
