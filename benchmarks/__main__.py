"""``python -m benchmarks NAME [--json] [--quick]``"""

import argparse
import importlib
import sys

BENCHMARKS = {
    "pipeline": "messages in Kafka to durable rows with PDFs, beside the plain way",
    "decode": "alerts to columns, beside every peer that is installed, and out of Kafka",
    "fuzz": "mutated Avro messages: what we make of them, and what fastavro makes of them",
    "forest": "photo-z inference by a forest, beside every peer that is installed",
    "stamps": "image cutouts of alerts to float32 arrays, beside astropy",
    "images": "image networks by engine, precision and batch, and a GPU against its limits",
    "images_science": "accuracy of image networks: real quasars, and a simulated sky beside forests that know the same stamps",
    "storage": "bytes of a row on disk, in both forms of its PDF, and what the forms do to its scores",
    "metering": "what it costs a worker to say what it does",
    "large": "a catalogue of ten million rows: show, compact, verify, dead letters, withdraw",
    "watching": "what a watch over 1,000 partitions and three models costs, and how soon `slipher lag` answers",
    "soak": "a night in which everything goes wrong: faults at random over live traffic, then set equality",
    "science": "accuracy and calibration of the redshifts, missing bands, strange galaxies",
}
OPTIONS = {"fuzz": {"count", "seed"}, "large": {"rows"}, "soak": {"minutes", "seed"}, "images_science": {"keep"}}


def main() -> None:
    """Run one benchmark and print what it found."""
    text = "\n".join(f"  {name:14s} {about}" for name, about in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=f"benchmarks:\n{text}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(BENCHMARKS), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="smaller, for a look; not for figures that are quoted")
    parser.add_argument("--count", type=int, help="of fuzz: messages")
    parser.add_argument("--rows", type=int, help="of large: how many")
    parser.add_argument("--seed", type=int, help="of fuzz and soak: where mutations, or faults, come from")
    parser.add_argument("--minutes", type=float, help="of soak: how long faults strike")
    parser.add_argument("--keep", metavar="DIR", help="of images_science: where finished trainings stay, to go on from")
    given = parser.parse_args()
    more = {
        name: value
        for name in ("count", "rows", "seed", "minutes", "keep")
        if (value := getattr(given, name)) is not None
    }
    if foreign := set(more) - OPTIONS.get(given.name, set()):
        parser.error(f"{given.name} has no --{', no --'.join(sorted(foreign))}")

    from benchmarks.report import as_json, show

    module = importlib.import_module(f"benchmarks.{given.name}")
    results = list(module.run(quick=given.quick, **more))
    if given.json:
        sys.stdout.write(as_json(given.name, results) + "\n")
    else:
        show(given.name, results)
    sys.exit(1 if hasattr(module, "failed") and module.failed(results) else 0)


if __name__ == "__main__":
    main()
