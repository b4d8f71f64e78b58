"""Numbers as a person says them."""

import math


def duration(seconds: float) -> str:
    """Seconds in words, to two figures: 4.2 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if math.isinf(seconds):
        return "for ever"
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def rate(value: float) -> str:
    """Messages a second, such as 12.3/s or 4,500/s."""
    return f"{value:,.1f}/s" if value < 100 and value % 1 else f"{value:,.0f}/s"


def count(n: int, one: str) -> str:
    """Such as 1 message, 1,200 messages."""
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}s"
