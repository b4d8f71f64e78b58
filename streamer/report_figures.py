"""Which figures of an evaluation are shown, in what order, under what name: on the terminal and in the report."""

# (key, what it is called, format)
FIGURES = [
    ("bias", "bias (median e)", "{:+.5f}"),
    ("sigma_mad", "sigma MAD", "{:.4f}"),
    ("sigma_iqr", "sigma IQR", "{:.4f}"),
    ("outliers_15", "|e| > 0.15", "{:.2%}"),
    ("outliers_05", "|e| > 0.05", "{:.2%}"),
    ("outliers_3sigma", "|e| > max(0.06, 3 sigma)", "{:.2%}"),
    ("mse", "MSE", "{:.3e}"),
    ("cde", "CDE loss", "{:.3f}"),
    ("crps", "CRPS", "{:.4f}"),
    ("brier", "Brier", "{:.4f}"),
    ("pit_ks", "PIT, Kolmogorov-Smirnov", "{:.4f}"),
    ("pit_cvm", "PIT, Cramer-von Mises", "{:.2f}"),
    ("pit_ad", "PIT, Anderson-Darling", "{:.1f}"),
    ("pit_outside", "PIT outside [1e-4, .9999]", "{:.2%}"),
    ("coverage_50", "within 50 % interval", "{:.2%}"),
    ("coverage_68", "within 68 % interval", "{:.2%}"),
    ("coverage_90", "within 90 % interval", "{:.2%}"),
    ("coverage_95", "within 95 % interval", "{:.2%}"),
]
# Columns of the lines by magnitude, redshift, bands: (key, heading, format, whether trainZ stands beside it)
LINES = [
    ("bias", "bias", "{:+.4f}", False),
    ("sigma_iqr", "sigma", "{:.4f}", False),
    ("outliers_15", ">0.15", "{:.1%}", False),
    ("cde", "CDE", "{:.2f}", True),
    ("crps", "CRPS", "{:.4f}", True),
    ("pit_ks", "KS", "{:.3f}", False),
    ("coverage_68", "68 %", "{:.1%}", False),
    ("coverage_95", "95 %", "{:.1%}", False),
]
GROUPS = [
    ("by_magnitude", "by {reference} magnitude, bright to faint"),
    ("by_z_phot", "by photometric redshift ({point})"),
    ("by_mask", "by bands that entered"),
    ("with_bands", "as if only some bands had been observed"),
]


def form(pattern: str, value: float | None) -> str:
    """A figure as text; a dash where there is none."""
    return "–" if value is None else pattern.format(value)
