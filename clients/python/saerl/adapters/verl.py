"""verl from 0.8 on, also 0.7: batches through data.custom_cls, rewards through the reward function.

    data.custom_cls.path=pkg://saerl.adapters.verl  data.custom_cls.name=CuratedDataset
    data.dataloader_num_workers=0                   (a worker would fetch ahead, and fork)
    reward.custom_reward_function.path=my_reward.py:
        from saerl.adapters.verl import with_feedback
        compute_score = with_feedback(my_compute_score)

Batches come through __getitems__, which the loader calls once a batch; the indices it asks for do
not matter. The loader keeps state_dict() in its own data.pt.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import random
import threading
from typing import Any, Callable, Dict, List, Optional

from verl.utils.dataset.rl_dataset import RLHFDataset

from saerl import Curator
from saerl.adapters import Position, Rows, from_environment


class CuratedDataset(RLHFDataset):  # type: ignore[misc]
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.position: Optional[Position] = None  # the validation set is built from this class, too
        if more["data_files"] == more["config"].train_files:
            self.position = Position(from_environment())
            self.rows = Rows(self.position.curator, super().__len__(), self.dataframe[self.prompt_key])

    def __len__(self) -> int:
        # One epoch for the whole run: verl forgets the loader's state at the end of an epoch.
        length = os.environ.get("SAERL_LENGTH")
        return int(length) if self.position and length else int(super().__len__())

    def __getitems__(self, indices: List[int]) -> List[Dict[str, Any]]:
        if self.position is None:
            return [self[i] for i in indices]
        batch = self.position.next(len(indices))
        if len(batch.sid) < len(indices):
            raise StopIteration  # serve.epochs is reached; a batch must be whole
        rows = [self[i] for i in self.rows.of(batch)]
        for i, (row, sid) in enumerate(zip(rows, batch.sid.tolist())):
            row["extra_info"] = {**row["extra_info"], "saerl": [batch.feedback_seq, sid]}
            if batch.n_rollouts is not None:
                row["__rollout_n__"] = int(batch.n_rollouts[i])
        return rows

    def state_dict(self) -> Dict[str, Any]:
        return self.position.save() if self.position else {}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        if self.position:
            self.position.load(state)


_curator: Optional[Curator] = None
_lock = threading.Lock()


def _send(extra_info: Any, score: Any) -> None:
    global _curator
    seq, sid = (extra_info or {}).get("saerl") or (-1, 0)
    if seq < 0:
        return  # a validation row, or a batch that came without the sidecar
    with _lock:
        if _curator is None:
            _curator = from_environment()
    reward = score["score"] if isinstance(score, dict) else score
    # verl does not say which of the group's rollouts this is, and several processes score a group.
    # Chosen once, before the first try, the number makes repetitions harmless all the same.
    _curator.feedback(seq, [sid], [reward], rollout=[random.SystemRandom().getrandbits(31)])


def with_feedback(compute_score: Callable[..., Any]) -> Callable[..., Any]:
    """`compute_score`, async or not, that also tells the sidecar."""
    if inspect.iscoroutinefunction(compute_score):
        @functools.wraps(compute_score)
        async def scored_async(*args: Any, extra_info: Any = None, **more: Any) -> Any:
            score = await compute_score(*args, extra_info=extra_info, **more)
            await asyncio.get_running_loop().run_in_executor(None, _send, extra_info, score)
            return score

        return scored_async

    @functools.wraps(compute_score)
    def scored(*args: Any, extra_info: Any = None, **more: Any) -> Any:
        score = compute_score(*args, extra_info=extra_info, **more)
        _send(extra_info, score)
        return score

    return scored
