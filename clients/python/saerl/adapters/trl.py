"""TRL's GRPOTrainer, and Unsloth's: the sampler asks the sidecar, the main process tells rewards.

    class Trainer(Curated, GRPOTrainer): pass
    trainer = Trainer(..., curator=Curator(endpoint, run), train_dataset=dataset)

Every rank's sampler fetches the same batch under the same number, and they must agree: with more
than one process on_failure="passthrough" is refused. A data set of the recipe's rows in its order
needs nothing; one that was filtered since needs its prompts unchanged, or a column `sid`.
"""

from __future__ import annotations

import collections
import json
import os
from typing import Any, Deque, Iterator

import numpy as np
import torch
from transformers import TrainerCallback

from saerl import Batch, CuratorError
from saerl.adapters import Position, Rows

STATE = "saerl.json"  # in the checkpoint's folder


class CuratedSampler(torch.utils.data.Sampler):  # type: ignore[misc]
    def __init__(self, position: Position, rows: Rows, n: int, batch: int, generations: int,
                 repeat: int) -> None:
        self.position, self.rows, self.batch = position, rows, batch
        self.n_batches, self.generations, self.repeat = n // batch, generations, repeat
        self.out: Deque[Batch] = collections.deque()  # asked for, not yet generated from

    def __len__(self) -> int:
        return self.n_batches * self.batch * self.generations * self.repeat

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.n_batches):
            batch = self.position.next(self.batch)
            if len(batch.sid) < self.batch:
                return  # serve.epochs is reached
            self.out.append(batch)
            for index in self.rows.of(batch) * self.repeat:
                yield from [index] * self.generations


class Curated:
    """Mixed in before GRPOTrainer."""

    def __init__(self, *args: Any, curator: Any, **more: Any) -> None:
        self.position = Position(curator)
        super().__init__(*args, **more)
        me: Any = self
        if me.accelerator.num_processes > 1 and curator.on_failure == "passthrough":
            raise CuratorError("with several processes on_failure must be 'error': ranks would train "
                               "on different prompts of one group")
        me.args.ignore_data_skip = True  # we resume by number; skipping would fetch what is trained
        me.add_callback(_Checkpoints(self))
        self.trained: Any = None  # the batch that completions are of

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        me: Any = self
        dataset = me.train_dataset if dataset is None else dataset
        names = dataset.column_names
        rows = Rows(self.position.curator, len(dataset), dataset["prompt"] if "sid" not in names else None,
                    dataset["sid"] if "sid" in names else None)
        self.sampler = CuratedSampler(
            self.position, rows, len(dataset), me.args.generation_batch_size // me.num_generations,
            me.num_generations, me.num_iterations * me.args.steps_per_generation)
        return self.sampler

    def _calculate_rewards(self, inputs: Any, *args: Any, **more: Any) -> Any:
        me: Any = self
        rewards = super()._calculate_rewards(inputs, *args, **more)  # type: ignore[misc]
        if me.model.training:
            # One generation a batch, in the order of the sampler, which is ahead of us. The rewards
            # are gathered: rows of all ranks, each prompt's generations side by side.
            self.trained = self.sampler.out.popleft()
            if me.accelerator.is_main_process:
                weights = me.reward_weights.to(rewards.device)
                total = (rewards * weights).nansum(dim=1).cpu().numpy()
                total[rewards.isnan().all(dim=1).cpu().numpy()] = np.nan  # no reward at all: refused
                sid = np.repeat(self.trained.sid, me.num_generations)
                rollout = np.tile(np.arange(me.num_generations), len(self.trained.sid))
                self.position.curator.feedback(self.trained.feedback_seq, sid, total, rollout=rollout)
        return rewards


class _Checkpoints(TrainerCallback):  # type: ignore[misc]
    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        me, last = self.trainer, self.trainer.trained
        if not me.accelerator.is_main_process or last is None:
            return
        # A batch serves several steps; one in the middle of them is generated anew on resume.
        whole = me._step % (me.args.steps_per_generation * me.num_iterations) == 0
        folder = os.path.join(args.output_dir, "checkpoint-%d" % state.global_step)
        saved = me.position.save(last.seq + 1 if whole else last.seq)
        with open(os.path.join(folder, STATE + ".partial"), "w", encoding="utf-8") as file:
            json.dump(saved, file)
        os.replace(os.path.join(folder, STATE + ".partial"), os.path.join(folder, STATE))

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 0:
            return
        folders = [args.resume_from_checkpoint, os.path.join(args.output_dir, "checkpoint-%d" % state.global_step)]
        paths = [os.path.join(f, STATE) for f in folders if isinstance(f, str)]
        path = next((p for p in paths if os.path.exists(p)), None)
        if path is None:
            raise CuratorError("no %s in the checkpoint (%s)" % (STATE, ", ".join(paths)))
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
        self.trainer.position.load(saved, restore=self.trainer.accelerator.is_main_process)
        self.trainer.accelerator.wait_for_everyone()  # before anybody fetches from the branch that is left
