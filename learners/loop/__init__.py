"""The adaptive loop: a process manager that folds the log, decides what comes next, and says it as control events.

settings.py       when to retrain, what a candidate must show, how a test runs, what a new champion is watched for
state.py          where the loop stands: a fold of the control stream and nothing else
evidence.py       what the decisions and labels in the log say; reads only
policy.py         state + evidence → the next step and why; pure, so a dry run is the same call
candidates.py     a retraining: training sets as known at T, candidates, the gate
orchestrator.py   carries the step out; every step is one conditional append
"""
