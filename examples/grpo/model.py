"""A small transformer over characters, its sampling, and a hook on its residual stream."""

import torch
from torch import nn
from torch.nn import functional

import tasks

D_MODEL, N_BLOCKS, N_HEADS = 80, 3, 4
READ_BLOCK = 1  # the residual stream after this block is what the SAE reads
HOOK = "blocks.%d.hook_resid_post" % READ_BLOCK


def deterministic():
    """One thread and no algorithm whose order of additions may change: the same bits every time."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)
        self.qkv, self.out = nn.Linear(D_MODEL, 3 * D_MODEL), nn.Linear(D_MODEL, D_MODEL)
        self.up, self.down = nn.Linear(D_MODEL, 4 * D_MODEL), nn.Linear(4 * D_MODEL, D_MODEL)

    def forward(self, x, mask):
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, N_HEADS, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5 + mask
        x = x + self.out((weights.softmax(-1) @ v).transpose(1, 2).reshape(n, length, D_MODEL))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """tokens [n, length] to logits [n, length, vocabulary]. Prompts are padded on the left."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(tasks.VOCABULARY, D_MODEL)
        self.place = nn.Embedding(tasks.PROMPT_MAX + tasks.ANSWER_MAX, D_MODEL)
        self.blocks = nn.ModuleList(Block() for _ in range(N_BLOCKS))
        self.norm, self.head = nn.LayerNorm(D_MODEL), nn.Linear(D_MODEL, tasks.VOCABULARY)

    def forward(self, tokens):
        length = tokens.shape[1]
        order = torch.arange(length)
        seen = (order[:, None] >= order) & (tokens != tasks.PAD)[:, None, :]
        seen |= torch.eye(length, dtype=torch.bool)  # a pad sees itself: no row without an entry
        mask = torch.zeros(seen.shape).masked_fill(~seen, -1e9)[:, None]
        x = self.token(tokens) + self.place(order)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


def prompt_tokens(prompts):
    rows = [tasks.encode(p) for p in prompts]
    return torch.tensor([[tasks.PAD] * (tasks.PROMPT_MAX - len(r)) + r for r in rows])


def answer_tokens(answers):
    rows = [tasks.encode(a) + [tasks.END] for a in answers]
    return torch.tensor([r + [tasks.PAD] * (tasks.ANSWER_MAX - len(r)) for r in rows])


def answer_logprobs(model, prompts, answers):
    """log p [n, ANSWER_MAX] of the answers' tokens, and 1 where there is one."""
    logits = model(torch.cat([prompts, answers], 1))[:, tasks.PROMPT_MAX - 1 : -1]
    chosen = logits.log_softmax(-1).gather(-1, answers[..., None])[..., 0]
    return chosen, (answers != tasks.PAD).float()


@torch.no_grad()
def sample(model, prompts, generator):
    """Answers [n, ANSWER_MAX] at temperature 1; PAD after the end mark."""
    tokens = prompts
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(tasks.ANSWER_MAX):
        logits = model(tokens)[:, -1]
        logits[:, tasks.PAD] = -1e9
        next_token = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        next_token = next_token.masked_fill(ended, tasks.PAD)
        tokens = torch.cat([tokens, next_token[:, None]], 1)
        ended |= next_token == tasks.END
        if ended.all():
            break
    return functional.pad(tokens[:, tasks.PROMPT_MAX :],
                          (0, tasks.PROMPT_MAX + tasks.ANSWER_MAX - tokens.shape[1]),
                          value=tasks.PAD)


def rollouts(model, chosen, n, generator):
    """n answers to each of `chosen` [(prompt, answer, level)]: token tensors, texts and rewards."""
    prompts = prompt_tokens([t[0] for t in chosen]).repeat_interleave(n, 0)
    answers = sample(model, prompts, generator)
    texts = [tasks.decode(row) for row in answers.tolist()]
    rewards = [tasks.verify(chosen[i // n][1], text) for i, text in enumerate(texts)]
    return prompts, answers, texts, torch.tensor(rewards).view(len(chosen), n)


@torch.no_grad()
def activations(reader, prompts):
    """What a forward hook on a frozen reader sees: for each prompt [its tokens, D_MODEL]."""
    caught = []
    handle = reader.blocks[READ_BLOCK].register_forward_hook(lambda _m, _i, out: caught.append(out))
    tokens = prompt_tokens(prompts)
    reader(tokens)
    handle.remove()
    return [row[keep] for row, keep in zip(caught[0], tokens != tasks.PAD)]
