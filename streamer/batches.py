"""Parts of a batch of messages: those of some partitions, or its two halves."""

import numpy as np

from schemas.batch import Messages


def only(messages: Messages, partitions: set[int]) -> Messages:
    """`messages` of `partitions`."""
    if set(messages.ends) <= partitions:
        return messages
    keep = np.isin(messages.partition, sorted(partitions))
    return Messages(
        [p for p, k in zip(messages.payloads, keep, strict=True) if k],
        messages.partition[keep],
        messages.offset[keep],
        messages.timestamp_ms[keep],
        {p: end for p, end in messages.ends.items() if p in partitions},
        tuple(g for g in messages.gaps if g[0] in partitions),
        {p: start for p, start in messages.starts.items() if p in partitions},
    )


def halves(messages: Messages) -> tuple[Messages, Messages]:
    """The first and the second half of the messages: where a partition stands in both, the second goes on from the first.

    What holds no message (gaps, jumps in offsets) goes with the first half that has messages of the partition, or else the
    first.
    """
    cut = len(messages.payloads) // 2
    first = {int(p) for p in np.unique(messages.partition[:cut])}
    later, where = np.unique(messages.partition[cut:], return_index=True)
    goes_on = {int(p): int(messages.offset[cut + k]) for p, k in zip(later, where, strict=True)}
    ends = {p: goes_on.get(p, end) for p, end in messages.ends.items() if p in first or p not in goes_on}
    starts = {p: start for p, start in messages.starts.items() if p in ends}
    rest = {p: messages.ends[p] for p in goes_on}
    return (
        Messages(
            messages.payloads[:cut],
            messages.partition[:cut],
            messages.offset[:cut],
            messages.timestamp_ms[:cut],
            ends,
            tuple(g for g in messages.gaps if g[0] in ends),
            starts,
        ),
        Messages(
            messages.payloads[cut:],
            messages.partition[cut:],
            messages.offset[cut:],
            messages.timestamp_ms[cut:],
            rest,
            tuple(g for g in messages.gaps if g[0] not in ends),
            {p: goes_on[p] if p in ends else start for p, start in messages.starts.items() if p in rest},
        ),
    )
