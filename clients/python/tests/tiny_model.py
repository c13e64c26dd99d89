"""A causal language model with the interface of transformers' and a few hundred parameters."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.calls = 0

    def forward(self, hidden_states, attention_mask=None):
        self.calls += 1
        n = hidden_states.shape[1]
        scores = self.q(hidden_states) @ self.k(hidden_states).transpose(1, 2) / hidden_states.shape[2]
        seen = torch.ones(n, n, dtype=torch.bool).tril()[None] & attention_mask[:, None, :].bool()
        # Padded queries see nothing; they must not become NaN, nor be looked at.
        scores = scores.masked_fill(~seen, -1e9)
        mixed = torch.softmax(scores, dim=2) @ self.v(hidden_states)
        return (hidden_states + self.o(torch.tanh(mixed)), None)


class Inner(nn.Module):
    def __init__(self, vocabulary, d, n_layers):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, d)
        self.positions = nn.Embedding(64, d)
        self.layers = nn.ModuleList(Block(d) for _ in range(n_layers))


class TinyModel(nn.Module):
    name_or_path = "tiny"

    def __init__(self, seed=0, vocabulary=40, d=8, n_layers=3):
        super().__init__()
        torch.manual_seed(seed)
        self.model = Inner(vocabulary, d, n_layers)
        self.head = nn.Linear(d, vocabulary)
        self.forwards = 0

    def forward(self, input_ids=None, attention_mask=None):
        assert not torch.is_grad_enabled() and not self.training
        self.forwards += 1
        x = self.model.embed(input_ids) + self.model.positions(torch.arange(input_ids.shape[1]))
        for block in self.model.layers:
            x = block(x, attention_mask=attention_mask)[0]
        return self.head(x)


class TinyTokenizer:
    """A letter a token; 1 begins, 2 is a template's mark."""

    all_special_ids = [1]

    class Mark:
        special = True

    added_tokens_decoder = {2: Mark()}

    def __init__(self, chat_template=None):
        self.chat_template = chat_template

    def __call__(self, text):
        return {"input_ids": [1] + [3 + ord(c) % 37 for c in text]}

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert tokenize and add_generation_prompt
        ids = [1]
        for message in messages:
            ids += [2] + [3 + ord(c) % 37 for c in message["role"][:1] + message["content"]] + [2]
        return ids + [2]


def naive(model, ids, layer, site="resid_post"):
    """One prompt at a time, no hook, no padding: [tokens, d]."""
    with torch.no_grad():
        tokens = torch.tensor([ids])
        x = model.model.embed(tokens) + model.model.positions(torch.arange(len(ids)))
        for i, block in enumerate(model.model.layers):
            if site == "resid_pre" and i == layer:
                return x[0]
            x = block(x, attention_mask=torch.ones_like(tokens))[0]
            if i == layer:
                return x[0]
