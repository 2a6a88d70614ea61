"""What a group can be doing, as its `status.json` says."""

COMPILING, TRAINING, SCORING = "compiling", "training", "scoring"
FINISHED, FAILED = "finished", "failed"
STOPPED, PREEMPTED = "stopped", "preempted"  # by Ctrl-C, by SIGTERM
