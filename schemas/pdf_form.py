"""The forms in which PDFs are stored; beside the tables, for settings and help need the names and not Arrow."""

from typing import Literal

PdfForm = Literal["plain", "compact"]  # which of the columns pdf and pdf_u8 a processing fills
