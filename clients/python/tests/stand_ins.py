"""The hooks of three trainers, as their sources have them, and loops that call them in their order.

verl 0.9 (commit 1dda039b9), TRL 1.10.0.dev0 (f2cd57710), slime (624b824a8). None of their code is
here: what a trainer does around a hook is told again in a few lines, so that an adapter can be
tested without a GPU. Modules of these names are put into sys.modules.
"""

import collections
import copy
import dataclasses
import enum
import os
import pickle
import sys
import types


def module(name, **contents):
    made = types.ModuleType(name)
    made.__dict__.update(contents)
    for i in range(name.count(".")):
        parent = ".".join(name.split(".")[:i + 1])
        sys.modules.setdefault(parent, types.ModuleType(parent))
    sys.modules[name] = made


class Killed(Exception):
    """The trainer's process is gone."""


# verl: the data set, torchdata's loader and the loop that fetches, trains and saves.


class Columns(list):
    """As datasets.Dataset: a row by number, a column by name."""

    @property
    def column_names(self):
        return list(self[0])

    def __getitem__(self, key):
        if isinstance(key, str):
            return [row[key] for row in list(self)]
        return dict(list.__getitem__(self, key))


class RLHFDataset:
    def __init__(self, data_files, tokenizer, config, processor=None, max_samples=-1):
        self.config, self.prompt_key = config, "prompt"
        rows = config.files[data_files]
        # Overlong prompts go, and the rows behind them are renumbered.
        self.dataframe = Columns(copy.deepcopy(r) for r in rows if len(str(r["prompt"])) < 60)

    def __len__(self):
        return len(self.dataframe)

    def __getitem__(self, item):
        row = self.dataframe[item]
        row["raw_prompt"] = row["prompt"]
        row["extra_info"] = row.get("extra_info") or {}
        return row


class StatefulLoader:
    """num_workers=0, drop_last: the batch's fetch asks __getitems__ if there is one; the state is the
    data set's and how many batches were given; a sampler without a state is fast-forwarded."""

    def __init__(self, dataset, batch_size, shuffle_seed):
        self.dataset, self.batch_size, self.seed = dataset, batch_size, shuffle_seed
        self.yielded, self.resume = 0, None

    def __len__(self):
        return len(self.dataset) // self.batch_size

    def __iter__(self):
        import random

        order = list(range(len(self.dataset)))
        random.Random(self.seed).shuffle(order)
        skip, self.yielded = 0, 0
        if self.resume is not None:
            skip = self.yielded = self.resume["yielded"]
            self.dataset.load_state_dict(self.resume["dataset"])
            self.resume = None
        for i in range(skip, len(self)):
            indices = order[i * self.batch_size:(i + 1) * self.batch_size]
            if hasattr(self.dataset, "__getitems__"):
                rows = self.dataset.__getitems__(indices)
            else:
                rows = [self.dataset[j] for j in indices]
            self.yielded = i + 1
            yield rows
        self.yielded = 0

    def state_dict(self):
        return {"yielded": self.yielded, "dataset": self.dataset.state_dict()}

    def load_state_dict(self, state):
        self.resume = state


class VerlTrainer:
    """The V1 loop: whole batches of one or of gen_batch_size prompts, n rollouts each, scored one by
    one in other processes (rows are pickled), a checkpoint every `save_every` steps."""

    def __init__(self, dataset_cls, config, folder, compute_score, n, batch, gen_batch, save_every):
        self.train = dataset_cls(data_files=config.train_files, tokenizer=None, processor=None,
                                 config=config, max_samples=-1)
        self.val = dataset_cls(data_files=config.val_files, tokenizer=None, processor=None, config=config,
                               max_samples=-1)
        self.loader = StatefulLoader(self.train, gen_batch, 7)
        self.val_loader = StatefulLoader(self.val, 2, 1)
        self.folder, self.compute_score, self.n = folder, compute_score, n
        self.batch, self.gen_batch, self.save_every = batch, gen_batch, save_every
        self.iterator, self.step = None, 0
        saved = sorted(folder.glob("step_*.pt"), key=lambda p: int(p.stem[5:]))
        if saved:
            self.step, state = pickle.loads(saved[-1].read_bytes())
            self.loader.load_state_dict(state)

    def _fetch_one_gen_batch(self):
        try:
            if self.iterator is None:
                self.iterator = iter(self.loader)
            return next(self.iterator)
        except StopIteration:
            self.iterator = iter(self.loader)
            return next(self.iterator)

    def _score(self, row, answer):
        row = pickle.loads(pickle.dumps(row))
        return self.compute_score(data_source="math", solution_str=answer, ground_truth="1",
                                  extra_info={**row["extra_info"], "num_turns": 1})

    def fit(self, until, trained, die_after=None, die_in=None):
        while self.step < until:
            rows = []
            for _ in range(self.batch // self.gen_batch):
                rows += self._fetch_one_gen_batch()
            for i, row in enumerate(rows):
                if die_in == self.step and i == len(rows) // 2:
                    raise Killed
                for k in range(self.n):
                    self._score(row, "%d" % k)
            trained.append((self.step, [row["prompt"] for row in rows]))
            self.step += 1
            if self.step % self.save_every == 0:
                self.folder.joinpath("step_%d.pt" % self.step).write_bytes(
                    pickle.dumps((self.step, self.loader.state_dict())))
            if self.step == die_after:
                raise Killed

    def validate(self):
        rows = [row for batch in self.val_loader for row in batch]
        return [(row["prompt"], self._score(row, "0")) for row in rows]


# TRL: GRPOTrainer's data side.


class TrainerCallback:
    """transformers' has a method for every event; these are the two that matter."""

    def on_train_begin(self, args, state, control, **more):
        pass

    def on_save(self, args, state, control, **more):
        pass


class Accelerator:
    """Ranks are threads; what they share is in `world`."""

    def __init__(self, rank, world):
        self.process_index, self.world, self.num_processes = rank, world, world["n"]
        self.is_main_process = rank == 0

    def wait_for_everyone(self):
        self.world["barrier"].wait(60)

    def gather(self, tensor):
        import torch

        self.world["parts"][self.process_index] = tensor
        self.wait_for_everyone()
        whole = torch.cat([self.world["parts"][r] for r in range(self.num_processes)])
        self.wait_for_everyone()
        return whole


class GRPOTrainer:
    def __init__(self, model, reward_funcs, args, train_dataset, accelerator):
        import torch

        self.model, self.reward_funcs, self.args, self.train_dataset = model, reward_funcs, args, train_dataset
        self.accelerator = accelerator
        self.num_generations, self.num_iterations = args.num_generations, args.num_iterations
        self.reward_weights = torch.tensor(args.reward_weights)
        self.callbacks, self._step, self._buffered_inputs = [], 0, None
        self.state = types.SimpleNamespace(global_step=0)

    def add_callback(self, callback):
        self.callbacks.append(callback)

    def _loader(self):
        """Rank r takes the r-th of every num_processes batches of the sampler, and the loader is one
        batch ahead of the trainer."""
        size = self.args.per_device_train_batch_size * self.args.steps_per_generation
        sampler = iter(self._get_train_sampler(self.train_dataset))
        ahead = collections.deque()
        while True:
            shards = []
            for _ in range(self.accelerator.num_processes):
                indices = [i for _, i in zip(range(size), sampler)]
                if len(indices) == size:
                    shards.append(indices)
            if len(shards) < self.accelerator.num_processes:
                break
            ahead.append([self.train_dataset[i] for i in shards[self.accelerator.process_index]])
            if len(ahead) > 1:
                yield ahead.popleft()
        yield from ahead

    def _prepare_inputs(self, generation_batch):
        generate_every = self.args.steps_per_generation * self.num_iterations
        if self._step % generate_every == 0 or self._buffered_inputs is None:
            self._generate_and_score(generation_batch)
            self._buffered_inputs = generation_batch

    def _generate_and_score(self, inputs):
        prompts = [row["prompt"] for row in inputs]
        completions = ["%d" % i for i in range(len(inputs))]
        rewards = self._calculate_rewards(inputs, prompts, completions, completions)
        assert len(rewards) == len(prompts) * self.accelerator.num_processes
        if self.model.training and self.accelerator.is_main_process:
            self.generated.append(prompts[::self.num_generations])

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        import torch

        rewards = torch.zeros(len(prompts), len(self.reward_funcs))
        for i, function in enumerate(self.reward_funcs):
            got = function(prompts=prompts, completions=completions)
            rewards[:, i] = torch.tensor([float("nan") if r is None else r for r in got])
        return self.accelerator.gather(rewards)

    def evaluate(self, rows):
        self.model.training = False
        self._generate_and_score(rows)
        self.model.training = True

    def train(self, generated, until, resume=None, die_after=None):
        self.generated = generated
        if resume is not None:
            self.state.global_step = resume
            self.args.resume_from_checkpoint = None
        assert resume is None or self.args.ignore_data_skip
        for callback in self.callbacks:
            callback.on_train_begin(self.args, self.state, None)
        while self.state.global_step < until:
            for inputs in self._loader():
                self._prepare_inputs(inputs)
                self._step += 1
                if self._step % self.args.gradient_accumulation_steps:
                    continue
                self.state.global_step += 1
                step = self.state.global_step
                if step % self.args.save_steps == 0:
                    folder = os.path.join(self.args.output_dir, "checkpoint-%d" % step)
                    if self.accelerator.is_main_process:
                        os.makedirs(folder, exist_ok=True)
                    self.accelerator.wait_for_everyone()
                    for callback in self.callbacks:
                        callback.on_save(self.args, self.state, None)
                if step == die_after:
                    raise Killed
                if step == until:
                    return


# slime: data source, sample and the manager that generates, saves and loads.


class Status(enum.Enum):
    PENDING = "pending"
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclasses.dataclass
class Sample:
    prompt: object = ""
    group_index: object = None
    index: object = None
    reward: object = None
    response_length: int = 0
    status: Status = Status.PENDING
    metadata: dict = dataclasses.field(default_factory=dict)

    def get_reward_value(self, args):
        return self.reward if not args.reward_key else self.reward[args.reward_key]


class RolloutDataSourceWithBuffer:
    def __init__(self, args):
        self.args = args
        self.sample_group_index = self.sample_index = 0
        self.metadata, self.buffer = {}, []
        self.dataset = types.SimpleNamespace(
            origin_samples=[Sample(prompt=r["prompt"], metadata=r.get("metadata") or {}) for r in args.rows])

    def _get_samples_from_buffer(self, num_samples):
        taken, self.buffer[:num_samples] = self.buffer[:num_samples], []
        return taken

    def add_samples(self, samples):
        for group in samples:
            assert len(group) == self.args.n_samples_per_prompt
            self.buffer.append(group)

    def _path(self, folder, rollout_id):
        return os.path.join(folder, "global_dataset_state_dict_%s.pt" % rollout_id)

    def save(self, rollout_id):
        state = {"sample_group_index": self.sample_group_index, "sample_index": self.sample_index,
                 "metadata": self.metadata}
        with open(self._path(self.args.save, rollout_id), "wb") as file:
            pickle.dump(state, file)

    def load(self, rollout_id=None):
        path = self._path(self.args.load, rollout_id)
        if not os.path.exists(path):
            return
        with open(path, "rb") as file:
            state = pickle.load(file)
        self.sample_group_index, self.sample_index = state["sample_group_index"], state["sample_index"]
        self.metadata = state["metadata"]

    def __len__(self):
        return len(self.dataset.origin_samples)


def slime_rollout(args, rollout_id, data_source, process, keep, abort):
    """One generate_rollout: over-sampling, a dynamic filter, partial rollouts that are put back."""
    data, everything, pending = [], [], []
    while len(data) < args.rollout_batch_size:
        while len(pending) + len(data) < args.rollout_batch_size:
            pending += data_source.get_samples(args.over_sampling_batch_size)
        group = pending.pop(0)
        for sample in group:
            sample.reward, sample.status, sample.response_length = 1.0, Status.COMPLETED, 5
        everything.append(group)
        if keep(group):
            data.append(group)
    for group in pending:
        for sample in group[:1]:
            sample.status = Status.ABORTED
    process(args, everything, data_source)
    if abort:
        data_source.add_samples(pending)
    return data, everything


def install():
    module("verl.utils.dataset.rl_dataset", RLHFDataset=RLHFDataset)
    module("transformers", TrainerCallback=TrainerCallback)
    module("slime.rollout.data_source", RolloutDataSourceWithBuffer=RolloutDataSourceWithBuffer)
