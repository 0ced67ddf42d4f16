"""The adaptive loop: a process manager that folds the log, decides the next step and appends it as control events.

settings.py       when to retrain, what a candidate must show, how a test runs, how a new champion is guarded
state.py          the state of the loop: a fold of the control stream and nothing else
evidence.py       evidence from the decisions and labels in the log; reads only
policy.py         state + evidence → the next step and its reasons; pure, so a dry run is the same call
candidates.py     retraining: training sets as known at T, candidates, the gate
orchestrator.py   carries out the step; every step is one conditional append
"""
