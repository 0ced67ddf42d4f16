"""Two versions of a program as a person writes them, and the flags of two people."""

from __future__ import annotations

ANN = ("--actor", "ann", "--reason", "fewer false alarms")


BOB = ("--actor", "bob", "--reason", "looked at it")


ONE = """# ours
[program]
name = "cards"
version = "1.0.0"
uses = ["standard@1"]

[features]
declines = "count(account, '10m', decision=='decline')"

[[rules]]
code = "DECLINES"
when = "declines > 3"
effect = "review"
"""


TWO = ONE.replace("1.0.0", "2.0.0").replace("> 3", "> 5")
