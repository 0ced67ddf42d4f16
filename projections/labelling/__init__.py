"""Labels: was this payment fraud? The single answer that all readers share, and its parts. Pure, except `reader`.

    verdicts      one record per verdict (`VerdictRecord`), and all verdicts on one payment (`Claims`), keyed by account
                  and transaction
    quality       quality control: which verdicts are accepted
    reliability   the estimated reliability of each rater
    consensus     the label that follows from the accepted verdicts
    view          the three combined: the label of every payment with a verdict (`LabelView`)
    reader        the same for a log as it grows
    sources       statistics of sources and analysts: volume, delay, agreement
    maturity      how late verdicts arrive

A rater is a source, or for analysts the individual person.

All readers get labels from a `LabelView`: training, guard and evidence, performance drift, shadow, what-if, blast
radius, experiments, queries, reference tables. Verdicts on a payment are ordered by the time at which they were
*given*, not delivered; verdicts of the same millisecond stay in log order. Readers differ in two parameters only:

    known_until      log time; verdicts recorded later are ignored. For training sets "as known at T", and for an
                     experiment's account, whose outcome is final at its maturity
    reliabilities    "learned" from all verdicts, or "fixed", because an experiment's outcome must not change with what
                     is learned later

and in how they treat a payment without an accepted verdict: `pending` until it is mature (older than the label
maturity), then `presumed_legitimate`.
"""
