"""Numbers as a person says them."""


def duration(seconds: float) -> str:
    """Such as 8 s, 12 min, 3.5 h, 2 d."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    for unit, length, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * length:
            amount = seconds / length
            return f"{amount:.1f} {unit}" if unit == "h" and amount < 10 else f"{amount:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} d"


def rate(value: float) -> str:
    """Messages a second, such as 12.3/s or 4,500/s."""
    return f"{value:,.1f}/s" if value < 100 and value % 1 else f"{value:,.0f}/s"


def count(n: int, one: str) -> str:
    """Such as 1 message, 1,200 messages."""
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}s"
