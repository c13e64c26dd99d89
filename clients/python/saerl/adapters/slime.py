"""slime: a DataSource, and the function that sees every group, dropped ones included.

    --data-source-path saerl.adapters.slime.CuratedDataSource
    --rollout-all-samples-process-path saerl.adapters.slime.send_feedback

Prompts are found by metadata `sid` (the row in the recipe's data set) where rows have it, by their
text where slime applied no chat template, else by position in a data set of the same size.
"""

from __future__ import annotations

import collections
import copy
import itertools
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from slime.rollout.data_source import RolloutDataSourceWithBuffer

from saerl.adapters import Position, Rows, from_environment

KEY = "saerl"  # in a sample's metadata: seq, sid, rollout


class CuratedDataSource(RolloutDataSourceWithBuffer):  # type: ignore[misc]
    def __init__(self, args: Any) -> None:
        super().__init__(args)
        self.position = Position(from_environment())
        rows = self.dataset.origin_samples
        sids = [s.metadata.get("sid") for s in rows]
        known = all(sid is not None for sid in sids)
        plain = not known and not args.apply_chat_template
        self.rows = Rows(self.position.curator, len(rows), [s.prompt for s in rows] if plain else None,
                         sids if known else None)

    def get_samples(self, num_samples: int) -> List[List[Any]]:
        groups: List[List[Any]] = self._get_samples_from_buffer(num_samples)
        if len(groups) < num_samples:
            batch = self.position.next(num_samples - len(groups))
            groups += [self._group(batch.feedback_seq, sid, row)
                       for sid, row in zip(batch.sid.tolist(), self.rows.of(batch))]
        return groups

    def _group(self, seq: int, sid: int, row: int) -> List[Any]:
        group = []
        for rollout in range(self.args.n_samples_per_prompt):
            sample = copy.deepcopy(self.dataset.origin_samples[row])
            sample.group_index, sample.index = self.sample_group_index, self.sample_index
            sample.metadata = {**(sample.metadata or {}), KEY: [seq, sid, rollout, row]}
            self.sample_index += 1
            group.append(sample)
        self.sample_group_index += 1
        return group

    def save(self, rollout_id: int) -> None:
        # slime forgets the groups that were begun and put back; their prompts are out, so keep them.
        begun = [next(_flat(group)).metadata.get(KEY) for group in self.buffer]
        self.metadata[KEY] = {**self.position.save(), "begun": [b for b in begun if b]}
        super().save(rollout_id)
        del self.metadata[KEY]

    def load(self, rollout_id: Any = None) -> None:
        super().load(rollout_id)
        saved = self.metadata.pop(KEY, None)
        self.position.load(saved)
        for seq, sid, _, row in saved["begun"] if saved else []:
            self.buffer.append(self._group(seq, sid, row))


def _flat(samples: Iterable[Any]) -> Iterator[Any]:
    for sample in samples:
        if isinstance(sample, list):
            yield from _flat(sample)
        else:
            yield sample


def send_feedback(args: Any, all_samples: List[Any], data_source: Any) -> None:
    told: Dict[int, List[Tuple[int, int, float, int]]] = collections.defaultdict(list)
    for sample in _flat(all_samples):
        if KEY in sample.metadata and sample.reward is not None and sample.status.value != "aborted":
            seq, sid, rollout, _ = sample.metadata[KEY]
            told[seq].append((sid, rollout, sample.get_reward_value(args), sample.response_length))
    for seq, rows in sorted(told.items()):
        sid, rollout, reward, length = itertools.zip_longest(*rows)
        data_source.position.curator.feedback(seq, sid, reward, rollout=rollout, length=length)
