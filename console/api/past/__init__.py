"""What the API keeps in memory so that a question about a past moment needs no fold of the log (ADR 27).

    seals.py     when every batch was recorded, and how far it reached: finds a moment's cut
    control.py   the control stream's events that a read model takes
    labels.py    verdicts, and since when they and their payments are known: labels as of any moment
    accounts.py  what concerns accounts one by one: alerts, verdicts and acts; the case queue as of any of them
    statistics.py  throughput, counted from the index's columns
    states.py    answers from these; whatever they don't hold is folded from the log, as ever

Each is a function of a prefix of the log, follows it, and gives exactly what a replay from the beginning would
(`tests/unit/console/api/test_past.py`). Nothing here is stored.
"""
