"""What a run loses if it is killed some seconds after SIGTERM.

On SIGTERM, training saves after the current call. Pods on spot nodes of Google Kubernetes Engine
are killed 15 seconds later (docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms).
"""

SHORTEST_SECONDS = 15.0


def loss(save_seconds: float, call_seconds: float, every_seconds: float) -> str:
    """Returns a line for the user on what is lost; "" if everything is saved in time.

    Args:
      save_seconds: measured time of an earlier save.
      call_seconds: duration of a call to the devices.
      every_seconds: time between checkpoints.
    """
    needed = call_seconds + save_seconds
    if needed <= SHORTEST_SECONDS:
        return ""
    return (
        f"saving takes {needed:.0f} s from SIGTERM ({call_seconds:.0f} s for the current call, "
        f"{save_seconds:.0f} s for the checkpoint): a kill after {SHORTEST_SECONDS:.0f} s, as on "
        f"spot nodes of GKE, loses up to {every_seconds + save_seconds:.0f} s of training"
    )
