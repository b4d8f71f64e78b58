"""Arrays in, arrays out: photometry, forests, PDFs, calibration, metrics, and the bundle a model is kept in."""
