"""The numbers by which `core.program.layout` tells compiled code what to do: `Layout.table`, int64 (rows, COLUMNS).

Row 0 says where each section begins, in the order below, where the last ends, how many buckets the longest ring has,
and how many inputs, inputs of verdicts and outputs there are. Compiled code reads the table as one flat array: a row is
named by the place of its first number. The columns of a section's rows follow. "END" is the row after the last; "INPUT"
and the gates' columns are rows of the inputs, −1 for none; "OWN" is one of the payment that reads.
"""

from __future__ import annotations

# Kinds of cells, their parts, and what is read from them.
RING, LATEST, EARLIEST, DECAYED, TYPICAL, RECENT = range(6)
SUM, MIN, MAX, MOMENTS, DISTINCT, VALUE = range(6)
READ_COUNT, READ_SUM, READ_MEAN, READ_MIN, READ_MAX, READ_STD, READ_DISTINCT = range(7)
READ_SINCE, READ_VALUE, READ_DECAYED, READ_TYPICAL, READ_NEW = range(7, 12)

OTHER, STRING, NUMBER = range(3)
"""Forms of words: the bits of a float64, a hash, or anything else."""

CLOCKS, GATES, KEYS, GROUPS, CELLS, PARTS, READS, SHARES, END, LONGEST, INPUTS, VERDICT_INPUTS, OUTPUTS = range(13)
COLUMNS = 13
CLOCK_WORDS = 3
"""Of scratch for each clock: the current bucket's begin, epoch and place in the ring."""

CLOCK_WIDTH, CLOCK_BUCKETS = range(2)
GATE_CONDITION, GATE_PRESENCE, GATE_VERDICTS = range(3)  # inputs, or −1
KEY_OWN, KEY_INPUT, KEY_FORM = range(3)
(
    GROUP_VERDICTS, GROUP_KEYS, GROUP_KEYS_END, GROUP_BASE, GROUP_ENTRIES, GROUP_WORDS, GROUP_EVENTS, GROUP_CELLS,
    GROUP_CELLS_END, GROUP_SHARES, GROUP_SHARES_END,
) = range(11)  # fmt: skip
(
    CELL_KIND, CELL_GATE, CELL_HEAD, CELL_BODY, CELL_STRIDE, CELL_CLOCK, CELL_NUMBER, CELL_PARTS, CELL_PARTS_END,
    CELL_READS, CELL_READS_END,
) = range(11)  # fmt: skip
PART_KIND, PART_INPUT, PART_OFFSET, PART_FORM = range(4)
OUT_FUNCTION, OUT_OFFSET, OUT_PLACE, OUT_FORM, OUT_OWN = range(5)
SHARE_PART, SHARE_WHOLE, SHARE_PLACE = range(3)  # cells, counted from the first
