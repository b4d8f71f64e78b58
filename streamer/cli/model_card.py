"""A model card drawn for a person: what went in, what comes out, how good it is."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from models.bundle import Bundle

METRICS = [  # (key, what it is called, format); the lower the better but for coverage
    ("cde", "CDE loss", "{:.3f}"),
    ("crps", "CRPS", "{:.4f}"),
    ("bias", "bias (median e)", "{:+.5f}"),
    ("sigma_mad", "sigma MAD", "{:.4f}"),
    ("sigma_iqr", "sigma IQR", "{:.4f}"),
    ("outliers_15", "|e| > 0.15", "{:.2%}"),
    ("outliers_05", "|e| > 0.05", "{:.2%}"),
    ("mse", "MSE", "{:.3e}"),
    ("pit_ks", "PIT, KS distance", "{:.4f}"),
    ("pit_outside", "PIT outside [1e-4, .9999]", "{:.2%}"),
    ("coverage_68", "within 68 % interval", "{:.2%}"),
    ("coverage_95", "within 95 % interval", "{:.2%}"),
]


def metrics_table(held_out: dict[str, Any]) -> Table:
    """Held-out metrics next to those of trainZ, e = (z_median - z) / (1 + z)."""
    table = Table(title=f"{held_out.get('n', 0):,} galaxies not trained on", title_justify="left")
    table.add_column("")
    table.add_column("this model", justify="right")
    table.add_column("trainZ (the n(z) for all)", justify="right", style="dim")
    for key, name, form in METRICS:
        if key in held_out:
            table.add_row(name, form.format(held_out[key]), form.format(held_out["trainz"][key]))
    return table


def model_card(bundle: Bundle) -> list[Any]:
    """The parts of the card, top to bottom."""
    card = bundle.card
    training = card["training"]
    table = Table(
        show_header=False, title=f"{card['kind']}-{card['survey']}-{card['sha256'][:8]}", title_justify="left"
    )
    low, high = training["z_range"]
    rows = {
        "sha256": card["sha256"],
        "bands": f"{' '.join(card['bands'])}, reference {card['reference']}",
        "dust": f"{card['dust_law']}: " + " ".join(f"{value:g}" for value in card["dust"]),
        "softening, nJy": " ".join(f"{value:.3g}" for value in card["softening"]),
        "redshift grid": f"0 to {card['grid']['z_max']:g}, {card['grid']['points']} points",
        "trained on": f"{training['n']:,} galaxies, z {low:.3f} to {high:.3f}, sha256 {training['sha256'][:12]}",
        **(_of_images(bundle) if card["kind"] == "images" else _of_forest(bundle)),
        "magnitudes": "  ".join(f"{b} {_range(card['magnitude_range'][b])}" for b in card["bands"]),
        "libraries": ", ".join(f"{name} {version}" for name, version in card["libraries"].items()),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    parts: list[Any] = [table]
    if card["held_out"]:
        parts.append(metrics_table(card["held_out"]))
        quintiles = Table(title="by reference magnitude, bright to faint", title_justify="left")
        for heading in ("galaxies", "CDE", "CRPS", "PIT KS"):
            quintiles.add_column(heading, justify="right")
        for row in card["held_out"]["quintiles"]:
            quintiles.add_row(f"{row['n']:,}", f"{row['cde']:.3f}", f"{row['crps']:.4f}", f"{row['pit_ks']:.4f}")
        parts.append(quintiles)
    return parts


def _of_forest(bundle: Bundle) -> dict[str, str]:
    card, settings = bundle.card, bundle.card["settings"]
    return {
        "forest": f"{settings['trees']} {settings['kind']}, {settings['min_leaf']} galaxies a leaf, "
        f"{len(bundle.tensors['feature']):,} nodes, seed {settings['seed']}",
        "band masks": f"{len(card['masks'])} known"
        + (", by copies with bands taken away" if settings["masks"] else ""),
        "networks": _networks(bundle),
        "aimed at": _target(card),
        "noisy copies": "yes" if settings.get("augment") else "no",
        "PDF": f"smoothing {card['smoothing']:g} (1 + z), power {card['alpha']:g}, {len(bundle.tensors['slope'])} PIT maps",
    }


def _of_images(bundle: Bundle) -> dict[str, str]:
    card, training, of = bundle.card, bundle.card["training"], bundle.card["architecture"]
    weights = sum(array.size for name, array in bundle.tensors.items() if name.startswith("network.0."))
    stamps = card.get("stamps") or {}
    scale = f", {stamps['scale']:g} arcsec each" if stamps.get("scale") else ""
    graphs = any(name.startswith("onnx.") for name in bundle.tensors)
    return {
        "networks": f"{card['networks']} {of['kind']} of {weights:,} numbers, see {of['sees']}, seed {card['settings']['seed']}",
        "stamps": f"{of['size']} x {of['size']} pixels{scale}",
        "training": f"{training['n_held_out']:,} of the galaxies held out, CRPS "
        + " ".join(f"{crps:.5f}" for crps in training["crps"])
        + f", {' '.join(f'{steps:,}' for steps in training['steps'])} steps, {sum(training['seconds']):,.0f} s on "
        + str(training["device"])
        + (f" in {training['precision']}" if "precision" in training else ""),
        "PDF": f"power {card['alpha']:g}; recalibration: {recalibration(card)}",
        "runs by": ", ".join(
            ["torch", *["kernels on a core with AVX-512"] * (of["kind"] == "lean"), *["ONNX Runtime"] * graphs]
        ),
    }


def recalibration(card: dict[str, Any]) -> str:
    """What was done to the PDFs of image networks, by the number of bands missing."""
    told = card.get("recalibration")
    if not told:
        return "maps by magnitude"
    parts = [
        f"{line['maps']} ({line['gain']:+.4f} ± {line['error']:.4f} in log density)" for line in told if "maps" in line
    ]
    if len(set(parts)) == 1:
        return parts[0]
    return "; ".join(f"{'all bands' if k == 0 else f'{k} missing'}: {part}" for k, part in enumerate(parts))


def _networks(bundle: Bundle) -> str:
    mixed = bundle.card.get("networks")
    if not mixed:
        return ""
    count, inputs, width = bundle.tensors["networks.first"].shape
    numbers = sum(array.size for name, array in bundle.tensors.items() if name.startswith("networks."))
    return (
        f"{count} of {inputs} inputs and 3 x {width}, {numbers:,} numbers; geometric mean with the forest's PDF, "
        f"weight {mixed['weight']:g}, power {mixed['power']:g}"
    )


def _target(card: dict[str, Any]) -> str:
    target = card.get("target")
    if not target:
        return ""
    return f"{target['n']:,} galaxies; the training galaxies are worth {target['effective']:,.0f} of equal weight"


def _range(ends: list[float | None]) -> str:
    low, high = ends
    return "none" if low is None or high is None else f"{low:.1f} to {high:.1f}"
