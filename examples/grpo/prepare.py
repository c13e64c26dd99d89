"""Everything a run starts from: a warm model, an SAE, a pool of tasks, a recipe.

    prepare.py DIR

The model is first taught by a demonstrator that errs in half of its answers. It then knows the
tasks and is sure of nothing: reinforcement learning has something to gain. A copy of it, never
changed again, is the reader whose activations the sidecar encodes.
"""

import json
import os
import random
import struct
import sys

import torch

import model as models
import tasks

SEED = 1
WARM_STEPS, WARM_BATCH, ERRING = 350, 48, 0.5
POOL, LABELLED, HELD_OUT, ROLLOUTS = 1500, 300, 200, 8
D_SAE, K, SAE_STEPS, SAE_BATCH = 512, 8, 400, 256

RECIPE = """\
# The pool of this example: difficulty from the rewards of 300 rows, no quality filter (nothing here
# is damaged), and a choice that follows the rewards that come in while training goes on.
version: 1
name: grpo
seed: 7
input:
  data: [pool.jsonl]
  fields: {id: id, prompt: prompt, answer: answer, rewards: rewards}
  activations: [activations.safetensors]
sae: {path: sae}
clustering: {clusters: 5}
difficulty: {fit_labels: field}
batches: {size: 12, grouping: spread}
online: {target: nearest, target_rate: 0.5, refit_every: 5, zero_variance_backoff: true}
"""


def write_safetensors(path, tensors, metadata=None):
    header, parts, at = {}, [], 0
    if metadata:
        header["__metadata__"] = metadata
    for name, tensor in tensors.items():
        dtype = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(raw)],
        }
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def warm_up(rng):
    """The first model: supervised, on answers that are right half of the time."""
    torch.manual_seed(SEED)
    model = models.Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(WARM_STEPS):
        chosen = [tasks.draw(rng) for _ in range(WARM_BATCH)]
        written = [tasks.damage(rng, a) if rng.random() < ERRING else a for _, a, _ in chosen]
        prompts = models.prompt_tokens([c[0] for c in chosen])
        logp, mask = models.answer_logprobs(model, prompts, models.answer_tokens(written))
        loss = -(logp * mask).sum() / mask.sum()
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, 2 * (1 - step / WARM_STEPS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def train_sae(x):
    """TopK SAE (Gao et al. 2024) of activations x [n, d]: the k largest pre-activations stay."""
    generator = torch.Generator().manual_seed(SEED)
    d = x.shape[1]
    b_dec = x.mean(0).clone()
    w_dec = torch.nn.functional.normalize(torch.randn(D_SAE, d, generator=generator), dim=1)
    w_enc, b_enc = w_dec.t().clone(), torch.zeros(D_SAE)
    parameters = [w_enc, b_enc, w_dec, b_dec]
    for p in parameters:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    for _ in range(SAE_STEPS):
        batch = x[torch.randint(len(x), (SAE_BATCH,), generator=generator)]
        before = (batch - b_dec) @ w_enc + b_enc
        top, at = before.relu().topk(K, 1)
        codes = torch.zeros_like(before).scatter(1, at, top)
        loss = ((codes @ w_dec + b_dec - batch) ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            w_dec /= w_dec.norm(dim=1, keepdim=True)
    explained = 1 - loss.item() / ((x - x.mean(0)) ** 2).sum(1).mean().item()
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    return {name: p.detach() for name, p in zip(names, parameters)}, explained


def write_sae(folder, weights):
    os.makedirs(folder, exist_ok=True)
    config = {
        "architecture": "topk",
        "d_in": models.D_MODEL,
        "d_sae": D_SAE,
        "k": K,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"hook_name": models.HOOK},
    }
    with open(os.path.join(folder, "cfg.json"), "w") as out:
        json.dump(config, out, indent=1)
    write_safetensors(os.path.join(folder, "sae_weights.safetensors"), weights)


def prepare(folder):
    models.deterministic()
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(SEED)
    model = warm_up(rng)
    held_out = tasks.draw_distinct(rng, HELD_OUT)
    pool = tasks.draw_distinct(rng, POOL, known=[t[0] for t in held_out])

    generator = torch.Generator().manual_seed(SEED)
    rewards = models.rollouts(model, pool[:LABELLED], ROLLOUTS, generator)[3].tolist()
    with open(os.path.join(folder, "pool.jsonl"), "w") as out:
        for i, (prompt, answer, level) in enumerate(pool):
            row = {"id": i, "prompt": prompt, "answer": answer, "level": level}
            if i < LABELLED:
                row["rewards"] = rewards[i]
            out.write(json.dumps(row) + "\n")
    with open(os.path.join(folder, "held_out.json"), "w") as out:
        json.dump(held_out, out)

    x = models.activations(model, [t[0] for t in pool])
    offsets = torch.tensor([0] + [len(r) for r in x]).cumsum(0)
    write_safetensors(
        os.path.join(folder, "activations.safetensors"),
        {"activations": torch.cat(x), "offsets": offsets},
        {"hook": models.HOOK},
    )
    weights, explained = train_sae(torch.cat(x))
    write_sae(os.path.join(folder, "sae"), weights)
    with open(os.path.join(folder, "recipe.yaml"), "w") as out:
        out.write(RECIPE)
    torch.save(model.state_dict(), os.path.join(folder, "warm.pt"))
    mean = sum(map(sum, rewards)) / (LABELLED * ROLLOUTS)
    n = sum(p.numel() for p in model.parameters())
    print("prepared: %d parameters, %.2f of sampled answers right, SAE explains %.2f of the variance"
          % (n, mean, explained), flush=True)


if __name__ == "__main__":
    prepare(sys.argv[1])
