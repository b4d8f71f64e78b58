"""Words and looks of the report: what stands under each picture, which figures head the page, its colours by day and night."""

TILES = [  # (key, name, format, what it says)
    ("sigma_iqr", "sigma IQR", "{:.4f}", "scatter of e: interquartile range / 1.349"),
    ("bias", "bias", "{:+.5f}", "median of e"),
    ("outliers_15", "|e| > 0.15", "{:.2%}", "catastrophic outliers"),
    ("cde", "CDE loss", "{:.2f}", "how well the PDFs fit; lower is better"),
    ("crps", "CRPS", "{:.4f}", "distance between PDF and truth; lower is better"),
    ("pit_ks", "PIT KS", "{:.4f}", "calibration: greatest distance of the PIT from uniform"),
    ("coverage_68", "in 68 % interval", "{:.1%}", "true redshifts inside the central 68 % interval"),
    ("coverage_95", "in 95 % interval", "{:.1%}", "true redshifts inside the central 95 % interval"),
]

TEXTS = {  # picture: (title, how to read it)
    "redshifts": (
        "Photometric against true redshift",
        "On the solid line z_phot = z; beyond the dashed ones |e| > 0.15. Below: e, its median and the range that holds 68 %.",
    ),
    "distribution": (
        "Redshift distribution",
        "Stacked PDFs should lie on the truth. Point estimates alone need not: they pile up where colours say little. "
        "Where truth and training set differ, the training set does not represent these galaxies.",
    ),
    "calibration": (
        "Calibration of the PDFs",
        "Flat is calibrated. A hill in the middle: PDFs too broad; high ends: too narrow; a slope: biased.",
    ),
    "by_quintile": (
        "Calibration by magnitude",
        "A model can be calibrated for all and wrong for the faint. Left: zero is calibrated, the band is what counting gives in "
        "95 of 100 cases. Middle: with 2 standard errors. Right: on the line, the errors that the PDFs promise are those found.",
    ),
    "trends": (
        "Bias, scatter and outliers",
        "In bins of equal count, with bootstrap errors. Against photometric redshift is what a user can select on. Dashed, for "
        "Rubin's bands: its goals to i = 25.3 (0.003, 0.02, 10 %).",
    ),
}

CSS = """
:root { color-scheme: light dark; --ink: #23272e; --soft: #5c6470; --line: #c9ced6; --paper: #ffffff; --page: #f4f5f7;
  --blue: #0072b2; --red: #c95300; --green: #00805e;
  --bin0: #56b4e9; --bin1: #0072b2; --bin2: #009e73; --bin3: #e69f00; --bin4: #d55e00;
  --good: #00805e; --bad: #b3261e; --unsure: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ec; --soft: #9aa3af; --line: #414853; --paper: #1b1f25; --page: #121519;
  --blue: #4aa8e0; --red: #f2883f; --green: #3cc497;
  --bin0: #8fd0f5; --bin1: #3d95d6; --bin2: #2fbf94; --bin3: #f0b429; --bin4: #f07f3c;
  --good: #3cc497; --bad: #ff8a80; --unsure: #e6b450; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 27px; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 8px; }
.kicker { margin: 0; color: var(--soft); font-size: 13px; }
.sub, figcaption, footer { color: var(--soft); }
.sub { margin: 6px 0 18px; }
figcaption { font-size: 13px; margin-top: 6px; }
footer { font-size: 13px; margin-top: 28px; }
.verdict { margin: 0 0 10px; padding: 10px 14px; border-left: 4px solid; border-radius: 3px; background: var(--paper);
  font-weight: 600; }
.good { border-color: var(--good); } .bad { border-color: var(--bad); color: var(--bad); }
.unsure { border-color: var(--unsure); }
.tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; background: none; padding: 0; border: 0; }
.tile, section, figure { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
.tile { padding: 10px 14px; } .tile p { margin: 0; }
.name, .gate { color: var(--soft); font-size: 13px; }
.figure { font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.figure small { font-size: 13px; font-weight: 400; color: var(--soft); }
section, figure { margin: 14px 0; padding: 16px 18px; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 14px; background: none; border: 0; padding: 0; }
.pair > * { margin: 0; min-width: 0; } .pair figure { margin: 0; } .pair div > figure + figure { margin-top: 14px; }
.pair > div:not(:has(figure)) { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; }
svg { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; width: 100%; }
th, td { text-align: right; padding: 4px 10px; white-space: nowrap; border-bottom: 1px solid var(--line); font-weight: 400; }
th { color: var(--soft); } th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr:last-child td { border-bottom: 0; } .faint { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px; margin: 0; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 760px) { .pair { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .figure { white-space: normal; } .figure small { display: block; } }
@media print { body { background: none; } .tile, section, figure { break-inside: avoid; } }
"""
