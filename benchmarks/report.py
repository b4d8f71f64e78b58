"""What every benchmark prints: a table for people, or one JSON object for programs."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Result:
    """One case: ours beside its peers, of the same run."""

    case: str
    ours: float
    unit: str
    peers: dict[str, float] = field(default_factory=dict)
    spread: float | None = None  # half the range over the median, of the repeats
    higher_is_better: bool = True
    peer_spreads: dict[str, float] = field(default_factory=dict)  # as `spread`, of the peers
    ratios: dict[str, float] = field(default_factory=dict)  # ours against each peer, median of those of the repeats
    ratio_spreads: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours against the best peer; above 1 we are better. None without a peer."""
        if not self.peers:
            return None
        best = max(self.peers.values()) if self.higher_is_better else min(self.peers.values())
        return self.ours / best if self.higher_is_better else best / self.ours


def machine() -> dict[str, Any]:
    """What ran it."""
    model, flags = platform.processor(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), model)
        flags = next((line.split(":")[1] for line in text.splitlines() if line.startswith("flags")), "")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "avx512": "avx512f" in flags.split(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def middle(values: Sequence[float]) -> tuple[float, float]:
    """(median, half the range over the median) of repeats."""
    median = statistics.median(values)
    return median, (max(values) - min(values)) / 2 / median if median else 0.0


def compared(case: str, unit: str, rates: dict[str, list[float]], ours: str = "slipher") -> Result:
    """A case of which every repeat measured ours and each peer: ratios are within a repeat, so a slow moment is both's."""
    peers = {who: values for who, values in rates.items() if who != ours}
    ratios = {who: middle([o / p for o, p in zip(rates[ours], values, strict=True)]) for who, values in peers.items()}
    median, spread = middle(rates[ours])
    return Result(
        case,
        median,
        unit,
        {who: middle(values)[0] for who, values in peers.items()},
        spread,
        peer_spreads={who: middle(values)[1] for who, values in peers.items()},
        ratios={who: ratio for who, (ratio, _) in ratios.items()},
        ratio_spreads={who: margin for who, (_, margin) in ratios.items()},
    )


def as_json(name: str, results: Sequence[Result]) -> str:
    """The one object that ``--json`` prints."""
    rows = [{**asdict(r), "ratio": r.ratio} for r in results]
    return json.dumps({"benchmark": name, "machine": machine(), "results": rows}, indent=2)


def show(name: str, results: Sequence[Result]) -> None:
    """The same as a table."""
    from rich.console import Console
    from rich.table import Table

    about = machine()
    vectors = "with" if about["avx512"] else "without"
    table = Table(title=f"{name} — {about['cpu']}, {about['cores']} cores {vectors} AVX-512, Python {about['python']}")
    table.add_column("case")
    table.add_column("slipher", justify="right")
    table.add_column("", justify="right")
    table.add_column("unit")
    table.add_column("peers")
    table.add_column("ratio", justify="right")
    for r in results:
        peers = "\n".join(
            f"{peer} {number(value)}{_margin(r.peer_spreads.get(peer))}{_against(r, peer)}"
            for peer, value in r.peers.items()
        )
        table.add_row(r.case, number(r.ours), _margin(r.spread), r.unit, peers, f"{r.ratio:.1f}x" if r.ratio else "")
    Console().print(table)


def _against(result: Result, peer: str) -> str:
    return f", {number(result.ratios[peer])}x{_margin(result.ratio_spreads[peer])}" if peer in result.ratios else ""


def _margin(spread: float | None) -> str:
    return f" ±{spread:.0%}" if spread is not None else ""


def number(value: float) -> str:
    """Whole where it is large, else three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
