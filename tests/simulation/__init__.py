"""The system under a simulated clock, log server, broker, network and disk, scheduled by one seeded scheduler.

`world` schedules processes and counts the calls that they make to their surroundings: each is a point at which a fault
may strike. `logs`, `broker` with `clients`, and `disk` are the surroundings; `seams` puts them in the place of the real
ones. `faults` plans what goes wrong, `stage` carries it out, `oracle` says what must hold, `runs` runs one seed.

    python -m tests.simulation --seed 17 --trace
"""
