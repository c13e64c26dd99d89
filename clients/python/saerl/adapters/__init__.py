"""One file a trainer (docs/trainers.md), and what they share. Settings come from the environment,
because trainers build their parts themselves, in processes of their own:

    SAERL_ENDPOINT  SAERL_RUN                       required
    SAERL_SPOOL  SAERL_ON_FAILURE  SAERL_TIMEOUT_S  as the arguments of saerl.Curator
    SAERL_SERVER_KEY  SAERL_SECRET_KEY              CURVE: Z85 or files
    SAERL_LENGTH                                    rows that the whole run draws (verl)
"""

from __future__ import annotations

import base64
import logging
import os
import uuid
from typing import Any, Dict, List, Mapping, Optional, Sequence

from saerl import Batch, Curator, CuratorError, SidecarAway

log = logging.getLogger("saerl")


def from_environment(**more: Any) -> Curator:
    env = os.environ
    missing = [name for name in ("SAERL_ENDPOINT", "SAERL_RUN") if not env.get(name)]
    if missing:
        raise CuratorError("%s is not set" % " and ".join(missing))
    settings: Dict[str, Any] = {
        "spool": env.get("SAERL_SPOOL"), "on_failure": env.get("SAERL_ON_FAILURE", "error"),
        "timeout_s": float(env.get("SAERL_TIMEOUT_S", "120")),
        "server_key": env.get("SAERL_SERVER_KEY"), "secret_key": env.get("SAERL_SECRET_KEY"), **more}
    return Curator(env["SAERL_ENDPOINT"], env["SAERL_RUN"], **settings)


class Rows:
    """Which of the trainer's rows is a sid? Trainers filter and renumber; prompts tell.

      n        the trainer's rows
      prompts  their prompts as the recipe's data set has them, if the trainer still knows
      sids     or their rows in that data set, where a column says so
    """

    def __init__(self, curator: Curator, n: int, prompts: Optional[Sequence[Any]] = None,
                 sids: Optional[Sequence[int]] = None) -> None:
        if sids is None and prompts is not None:
            sids = curator.attach(prompts=prompts).row.tolist()
        elif sids is None:
            told = (curator.info or curator.hello()).dataset
            if not told or told["rows"] != n:
                raise CuratorError("the trainer has %d rows, the sidecar's data set %s: give each row "
                                   "its row number there, as metadata or column 'sid'"
                                   % (n, told["rows"] if told else "none"))
            sids = range(n)
        self._index: Dict[int, int] = {}
        for index, sid in enumerate(sids):
            if sid >= 0:
                self._index.setdefault(int(sid), index)
        if not self._index:
            raise CuratorError("none of the trainer's %d prompts is in the sidecar's data set; is it "
                               "the recipe's input.data, and fields.prompt the same?" % n)

    def of(self, batch: Batch) -> List[int]:
        try:
            return [self._index[sid] for sid in batch.sid.tolist()]
        except KeyError as error:
            raise CuratorError("batch %d has data-set row %s, which is not among the trainer's rows: "
                               "filter the data before the recipe reads them, not in the trainer"
                               % (batch.seq, error)) from None


class Position:
    """Where the trainer is in the sidecar's batches, for its checkpoints."""

    def __init__(self, curator: Curator) -> None:
        self.curator, self.seq, self._kept = curator, 0, 0

    def next(self, n: int) -> Batch:
        batch = self.curator.fetch(self.seq, n)
        self.seq += 1
        return batch

    def save(self, seq: Optional[int] = None) -> Dict[str, Any]:
        """A snapshot to be stored with the trainer's, JSON; `seq`: the first batch that a run from
        there still has to train, if the loader is ahead of it."""
        seq = self.seq if seq is None else seq
        state: Optional[str] = None
        try:
            # Only what the checkpoint before had trained is retired: rewards may still be on the way.
            # A tag of its own: two checkpoints at one batch may differ in their feedback.
            saved = self.curator.save("seq-%d-%s" % (seq, uuid.uuid4().hex[:12]), inline=True,
                                      consumed_seq=min(self._kept, seq))
            state = base64.b64encode(saved.state or b"").decode("ascii")
            self._kept = seq
        except SidecarAway as error:
            if self.curator.on_failure != "passthrough":
                raise
            log.error("saerl: a checkpoint without the curriculum's state: %s", error)
        return {"seq": seq, "state": state, "local": self.curator.local_state()}

    def load(self, saved: Optional[Mapping[str, Any]], restore: bool = True) -> None:
        """restore: go back in the sidecar, too; of several processes one does."""
        if not saved:
            return
        if restore and saved["state"] is not None:
            self.curator.restore(state=base64.b64decode(saved["state"]))
        self.curator.load_local_state(saved["local"])
        self.seq = self._kept = int(saved["seq"])
