"""GRPO on the tasks of DIR; the sidecar at ENDPOINT chooses every batch.

    train.py DIR ENDPOINT OUT --steps N [--resume] [--checkpoint-every N]

OUT gets checkpoint.pt and, at the end, result.json: the hash of the weights, the ids of every batch,
the accuracy before and after. With --resume training goes on from the checkpoint, if there is one,
and ends at the same result to the last bit.

What a checkpoint has to hold for that: the model, the optimizer, the state of the random generator,
the number of the next batch, and the sidecar's own state of that moment (SAVE with inline). On
resume RESTORE gives that state back: batches and feedback of the steps that were lost are dropped
there, and the same ones come again.
"""

import argparse
import hashlib
import io
import json
import os
import random

import numpy
import torch

import model as models
import tasks
from saerl import Curator

PROMPTS, ROLLOUTS = 12, 8  # a batch
LEARNING_RATE, CLIP = 3e-4, 0.2
RUN = "grpo-example"


def evaluate(model, held_out):
    """Share of right answers, sampled; the same dice each time."""
    generator = torch.Generator().manual_seed(99)
    return models.rollouts(model, held_out, 2, generator)[3].mean(1)


def grpo_step(model, optimizer, prompts, answers, rewards):
    """One step on the clipped objective with advantages relative to each prompt's own group
    (Shao et al. 2024, arXiv 2402.03300), no KL term."""
    spread = rewards.std(1, unbiased=False, keepdim=True)
    advantage = ((rewards - rewards.mean(1, keepdim=True)) / (spread + 1e-4)).view(-1, 1)
    logp, mask = models.answer_logprobs(model, prompts, answers)
    ratio = (logp - logp.detach()).exp()  # on policy: 1, with the gradient of log p
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
    loss = -((gain * mask).sum(1) / mask.sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def answer_hash(text):
    """What FEEDBACK calls the answer: 0 where there is none."""
    if text is None:
        return 0
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


def spearman(x, y):
    def ranks(v):
        _, inverse, counts = numpy.unique(v, return_inverse=True, return_counts=True)
        return (numpy.cumsum(counts) - (counts - 1) / 2)[inverse]

    return float(numpy.corrcoef(ranks(x), ranks(y))[0, 1])


class Training:
    def __init__(self, folder, endpoint, out):
        self.out = out
        self.warm = torch.load(os.path.join(folder, "warm.pt"))
        self.model, self.reader = models.Model(), models.Model()
        self.model.load_state_dict(self.warm)
        self.reader.load_state_dict(self.warm)
        self.reader.requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.generator = torch.Generator().manual_seed(11)
        self.seq, self.sids, self.accuracy = 0, [], None
        with open(os.path.join(folder, "pool.jsonl")) as lines:
            rows = [json.loads(line) for line in lines]
        self.pool = [(r["prompt"], r["answer"], r["level"]) for r in rows]
        # A trainer's own order of its data is its own affair: this one has shuffled it.
        random.Random(5).shuffle(self.pool)
        with open(os.path.join(folder, "held_out.json")) as file:
            self.held_out = [tuple(t) for t in json.load(file)]
        self.curator = Curator(endpoint, RUN, client="trainer-0")
        # Ours to the sidecar's: sids are rows of the recipe's data set.
        rows = self.curator.attach(prompts=[t[0] for t in self.pool]).row
        self.by_sid = {int(sid): task for sid, task in zip(rows, self.pool)}

    def begin(self):
        """Accuracy of the warm model, and how well the sidecar foresees it: prompts it has never
        seen, scored by the activations that a hook on the frozen reader gives."""
        right = evaluate(self.model, self.held_out)
        self.accuracy = float(right.mean())
        act = models.activations(self.reader, [t[0] for t in self.held_out])
        scores = self.curator.score(range(len(act)), act=[a.numpy() for a in act])
        print("held out: %.3f right; predicted difficulty against share wrong: Spearman %.2f"
              % (self.accuracy, spearman(scores.difficulty, 1 - right.numpy())), flush=True)

    def save(self):
        """The sidecar first: a checkpoint never names a snapshot that does not exist."""
        saved = self.curator.save("seq-%d" % self.seq, consumed_seq=self.seq, inline=True)
        buffer = io.BytesIO()
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "seq": self.seq,
                "sids": self.sids,
                "accuracy": self.accuracy,
                "curator": saved.state,
            },
            buffer,
        )
        path = os.path.join(self.out, "checkpoint.pt")
        with open(path + ".new", "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)

    def load(self):
        """True if there was a checkpoint."""
        path = os.path.join(self.out, "checkpoint.pt")
        if not os.path.exists(path):
            return False
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.seq, self.sids, self.accuracy = state["seq"], state["sids"], state["accuracy"]
        restored = self.curator.restore(state=state["curator"])
        if restored.next_seq != self.seq:
            raise SystemExit("train.py: the sidecar is at batch %d, the checkpoint at %d"
                             % (restored.next_seq, self.seq))
        print("resumed at %d; the sidecar dropped %d batches" % (self.seq, restored.dropped_tail),
              flush=True)
        return True

    def step(self):
        batch = self.curator.fetch(self.seq, PROMPTS)
        sids = batch.sid.tolist()
        chosen = [self.by_sid[sid] for sid in sids]
        prompts, answers, texts, rewards = models.rollouts(
            self.model, chosen, ROLLOUTS, self.generator)
        lengths = (answers != tasks.PAD).sum(1)
        self.curator.feedback(
            self.seq,
            numpy.repeat(batch.sid, ROLLOUTS),
            rewards.view(-1).numpy(),
            rollout=numpy.tile(numpy.arange(ROLLOUTS, dtype=numpy.int32), PROMPTS),
            length=lengths.numpy().astype(numpy.int32),
            answer=numpy.array([answer_hash(t) for t in texts], dtype=numpy.uint64),
            policy_version=self.seq,
        )
        grpo_step(self.model, self.optimizer, prompts, answers, rewards)
        self.sids.append(sids)
        print("step %d reward %.3f, groups with a gradient %d of %d%s"
              % (self.seq, rewards.mean(), (rewards.std(1) > 0).sum(), PROMPTS,
                 ", fallback" if batch.fallback else ""), flush=True)
        self.seq += 1

    def result(self):
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
        after = float(evaluate(self.model, self.held_out).mean())
        print("held out: %.3f right, from %.3f" % (after, self.accuracy), flush=True)
        return {"weights": digest.hexdigest(), "sids": self.sids,
                "accuracy": [self.accuracy, after]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("endpoint")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--checkpoint-every", type=int, default=5)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    models.deterministic()
    os.makedirs(options.out, exist_ok=True)
    training = Training(options.folder, options.endpoint, options.out)
    if not (options.resume and training.load()):
        training.begin()
    while training.seq < options.steps:
        training.step()
        if training.seq % options.checkpoint_every == 0:
            training.save()
    with open(os.path.join(options.out, "result.json"), "w") as file:
        json.dump(training.result(), file)
    training.curator.close()


if __name__ == "__main__":
    main()
