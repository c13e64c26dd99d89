"""The trainer's side of the saerl sidecar.

    from saerl import Curator

    with Curator("ipc:///tmp/saerl/saerl.sock", run="math-v1") as curator:
        batch = curator.next_batch(128)
        rewards = train_on(batch.sid)
        curator.feedback(batch.seq, batch.sid, rewards)
"""

from .client import (Attached, Batch, Curator, Feedback, Hello, Ping, Plan, Restored, Saved, Scores,
                     Submitted)
from .errors import CuratorError, KeyNotAllowed, SidecarAway, SidecarError, SpoolFull
from .prompts import canonical_prompt, prompt_key

__version__ = "0.1.0"

__all__ = [
    "Attached", "Batch", "Curator", "CuratorError", "Feedback", "Hello", "KeyNotAllowed", "Ping",
    "Plan", "Restored", "Saved", "Scores", "SidecarAway", "SidecarError", "SpoolFull", "Submitted",
    "canonical_prompt", "prompt_key",
]
