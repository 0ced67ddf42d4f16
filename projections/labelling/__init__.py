"""Was this payment fraud? The one answer, and everything that it is made from. Pure, but for `reader`.

    verdicts      what was said: one record a verdict (`Said`), made from its event in one place, and all that was said
                  of one payment (`Claims`), keyed by account and transaction
    quality       which verdicts count
    reliability   how far each voice is to be believed
    consensus     what the verdicts that count amount to
    view          the three put together: the label of every payment that somebody judged (`LabelView`)
    reader        the same of a log as it grows
    sources       who says what, how soon and how right
    maturity      how late verdicts come

Whoever needs a label asks a `LabelView`: training, guard and evidence, drift's performance, shadow, what-if, blast
radius, experiments, queries, reference tables. What is said of a payment is taken in the order in which it was *said*,
whatever the order in which it was delivered; words of the same millisecond stay in log order. Readers differ in two
parameters only:

    known_until      log time: what was recorded later is not there. Training sets "as known at T"; an experiment's
                     account, whose outcome is final at its maturity
    reliabilities    "learned" from all verdicts, or "fixed": an experiment's outcome must not change with what is
                     learned later

and in what they make of a payment of which nobody said anything that counts: `pending` until it is mature (older than
the maturity delay), then `presumed_legitimate`.
"""
