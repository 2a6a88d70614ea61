"""What a group can be doing, as its `status.json` says."""

COMPILING, TRAINING, SCORING = "compiling", "training", "scoring"
FINISHED, FAILED, PREEMPTED = "finished", "failed", "preempted"
