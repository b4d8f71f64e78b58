"""``python -m benchmarks NAME [--json] [--quick]``"""

import argparse
import importlib
import sys

BENCHMARKS = {
    "pipeline": "messages in Kafka to durable rows with PDFs, beside the plain way",
    "forest": "photo-z inference by a forest, beside every peer that is installed",
    "stamps": "image cutouts of alerts to float32 arrays, beside astropy",
    "science": "accuracy and calibration of the redshifts, missing bands, strange galaxies",
}


def main() -> None:
    """Run one benchmark and print what it found."""
    text = "\n".join(f"  {name:10s} {about}" for name, about in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=f"benchmarks:\n{text}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(BENCHMARKS), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="smaller, for a look; not for figures that are quoted")
    given = parser.parse_args()

    from benchmarks.report import as_json, show

    module = importlib.import_module(f"benchmarks.{given.name}")
    results = module.run(quick=given.quick)
    if given.json:
        sys.stdout.write(as_json(given.name, results) + "\n")
    else:
        show(given.name, results)


if __name__ == "__main__":
    main()
