"""Bytes of a message for the terminal, with the one at which trouble was met."""

from rich.text import Text

_BYTES_A_LINE = 16


def hexdump(payload: bytes, most: int, mark: int) -> Text:
    """Offset, hexadecimal and ASCII; the byte `mark` stands in brackets, and the view begins near it when it is far."""
    start = 0 if mark < most else (mark - most // 2) // _BYTES_A_LINE * _BYTES_A_LINE
    end = min(start + most, len(payload))
    text = Text()
    for at in range(start, end, _BYTES_A_LINE):
        line = payload[at : min(at + _BYTES_A_LINE, end)]
        text.append(f"{at:08x}", "dim").append(" ")
        for k in range(_BYTES_A_LINE):
            here, after = at + k == mark, at + k == mark + 1 and k > 0
            text.append("[" if here else "]" if after else " ", "bold red")
            text.append(f"{line[k]:02x}" if k < len(line) else "  ", "bold red" if here else "")
        text.append("]" if at + _BYTES_A_LINE - 1 == mark else " ", "bold red")
        text.append(" ").append("".join(chr(b) if 32 <= b < 127 else "·" for b in line), "cyan").append("\n")
    if end < len(payload):
        text.append(f"{len(payload) - end:,} bytes more", "dim")
    text.rstrip()
    return text
