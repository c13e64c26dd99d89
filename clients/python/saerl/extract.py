"""Activations of prompts, from any causal language model of PyTorch with the usual interface.

    extract(model, tokenizer, prompts, layer=12, out="acts/")        files for a recipe, resumable
    stream(model, tokenizer, prompts, 12, curator, sids)             to a sidecar
    python3 -m saerl.extract --model NAME --data train.jsonl --prompt-field problem --layer 12 -o acts/

A forward hook takes the residual stream after (resid_post) or before (resid_pre) one block; the
blocks behind it are not run. Row i of the files belongs to prompt i; every token is there, and
`keep` is 0 on special ones. A row of zeros or one that is not finite is an error that names the
prompt: it comes from a broken model or a dtype too narrow, and an SAE would make codes of it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import sys
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from . import tensorfile
from .client import Curator, Submitted
from .prompts import Prompt, canonical_prompt
from .wire import Array, wire_array

INDEX = "index.json"
BATCH_TOKENS = 8192  # padding included
SHARD_PROMPTS = 1024

# Where models keep their blocks.
LAYER_PATHS = ("model.layers", "model.language_model.layers", "language_model.model.layers",
               "transformer.h", "gpt_neox.layers", "model.decoder.layers", "transformer.blocks",
               "backbone.layers", "decoder.layers", "layers", "h")


class ExtractError(RuntimeError):
    pass


class Encoded(NamedTuple):
    ids: List[int]
    keep: List[bool]


class _Stop(Exception):
    """The hook has what it wants; the rest of the model need not run."""


def _walk(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = root[int(name)] if name.isdigit() else getattr(root, name)
    return root


def find_block(model: Any, layer: Optional[int], hook: Optional[str]) -> Any:
    """The module that is hooked: by its path, or block `layer` of the list of blocks."""
    if hook is not None:
        try:
            return _walk(model, hook)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise ExtractError("the model has no module '%s'" % hook) from None
    if layer is None:
        raise ExtractError("expected a layer or a hook")
    for path in LAYER_PATHS:
        try:
            blocks = _walk(model, path)
            n = len(blocks)
        except (AttributeError, IndexError, KeyError, TypeError):
            continue
        if not -n <= layer < n:
            raise ExtractError("layer %d: %s has %d layers" % (layer, path, n))
        return blocks[layer]
    raise ExtractError("no list of blocks under any of %s; give hook='path.of.the.block'"
                       % ", ".join(LAYER_PATHS))


class Reader:
    """A model, its tokenizer and the place that is read."""

    def __init__(self, model: Any, tokenizer: Any, layer: Optional[int] = None, *,
                 hook: Optional[str] = None, site: str = "resid_post", dtype: str = "auto",
                 chat: str = "auto", max_tokens: Optional[int] = None,
                 batch_tokens: int = BATCH_TOKENS) -> None:
        if site not in ("resid_post", "resid_pre"):
            raise ExtractError("site '%s', expected resid_post or resid_pre" % site)
        if chat not in ("auto", "always", "never"):
            raise ExtractError("chat '%s', expected auto, always or never" % chat)
        self.model, self.tokenizer, self.site = model, tokenizer, site
        self.block = find_block(model, layer, hook)
        self.max_tokens, self.batch_tokens = max_tokens, batch_tokens
        parameter = next(iter(model.parameters()))
        self.device = parameter.device
        own = str(parameter.dtype).split(".")[-1]
        self.dtype = own if dtype == "auto" else dtype
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise ExtractError("dtype '%s', expected float32, float16 or bfloat16" % self.dtype)
        has_template = bool(getattr(tokenizer, "chat_template", None))
        if chat == "always" and not has_template:
            raise ExtractError("chat 'always', but the tokenizer has no chat template")
        self.chat = has_template and chat != "never"
        special = set(getattr(tokenizer, "all_special_ids", None) or [])
        added = getattr(tokenizer, "added_tokens_decoder", None) or {}
        special |= {i for i, token in added.items() if getattr(token, "special", False)}
        self.special = special

    def encode(self, prompt: Prompt) -> Encoded:
        if self.chat:
            messages: List[Any] = list(prompt) if not isinstance(prompt, str) else [
                {"role": "user", "content": prompt}]
            got = self.tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
        elif isinstance(prompt, str):
            got = self.tokenizer(prompt)
        else:
            raise ExtractError("a chat prompt, but no chat template in use")
        if not isinstance(got, (list, tuple)):  # BatchEncoding
            got = got["input_ids"]
        if got and isinstance(got[0], (list, tuple)):
            got = got[0]
        ids = [int(i) for i in got][:self.max_tokens]
        return Encoded(ids, [i not in self.special for i in ids])

    def _forward(self, batch: Sequence[List[int]]) -> Any:
        """[n, longest, d] of the padded batch, on the model's device."""
        import torch

        longest = max(len(ids) for ids in batch)
        tokens = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for i, ids in enumerate(batch):
            tokens[i, :len(ids)] = torch.tensor(ids, dtype=torch.long)
            mask[i, :len(ids)] = 1
        taken: List[Any] = []

        def post(_module: Any, _args: Any, output: Any) -> None:
            taken.append(output[0] if isinstance(output, (tuple, list)) else output)
            raise _Stop

        def pre(_module: Any, args: Any, kwargs: Optional[Dict[str, Any]] = None) -> None:
            taken.append(args[0] if args else (kwargs or {})["hidden_states"])
            raise _Stop

        if self.site == "resid_post":
            handle = self.block.register_forward_hook(post)
        else:
            try:
                handle = self.block.register_forward_pre_hook(pre, with_kwargs=True)
            except TypeError:  # before torch 2.0, where blocks were called with positions
                handle = self.block.register_forward_pre_hook(pre)
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                self.model(input_ids=tokens.to(self.device), attention_mask=mask.to(self.device))
        except _Stop:
            pass
        finally:
            handle.remove()
            self.model.train(training)
        if not taken:
            raise ExtractError("the hooked block was never called")
        x = taken[0]
        if x.dim() != 3 or x.shape[0] != len(batch) or x.shape[1] != longest:
            raise ExtractError("the hook saw %s, expected [%d, %d, d]"
                               % (list(x.shape), len(batch), longest))
        return x

    def activations(self, encoded: Sequence[Encoded], names: Sequence[str]) -> List[Array]:
        """[tokens, d] of each, in the order given; bfloat16 as its bits."""
        import torch

        out: List[Optional[Array]] = [None] * len(encoded)
        for group in self._batches(encoded):
            x = self._forward([encoded[i].ids for i in group]).to(getattr(torch, self.dtype))
            finite = torch.isfinite(x).all(dim=2).cpu().numpy()
            alive = (x != 0).any(dim=2).cpu().numpy()
            x = x.cpu()
            for j, i in enumerate(group):
                n = len(encoded[i].ids)
                bad = np.flatnonzero(~(finite[j, :n] & alive[j, :n]))
                if len(bad):
                    raise ExtractError("%s: token %d of %d is %s" % (
                        names[i], bad[0], n, "all zeros" if finite[j, bad[0]] else
                        "not finite as %s; the model's own dtype, or float32, may hold it" % self.dtype))
                out[i] = wire_array(x[j, :n])
        width = next((len(a[0]) for a in out if a is not None and len(a)), 0)
        kind = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}[self.dtype]
        return [np.zeros((0, width), kind) if a is None else a for a in out]

    def _batches(self, encoded: Sequence[Encoded]) -> Iterator[List[int]]:
        """Indices by length, so that little is padding; the same for the same prompts."""
        order = sorted((i for i in range(len(encoded)) if encoded[i].ids),
                       key=lambda i: (len(encoded[i].ids), i))
        group: List[int] = []
        for i in order:
            if group and (len(group) + 1) * len(encoded[i].ids) > self.batch_tokens:
                yield group
                group = []
            group.append(i)
        if group:
            yield group

    def fingerprint(self) -> str:
        """Of the weights: a bit of each. Tells a checkpoint from its neighbour."""
        import torch

        digest = hashlib.blake2b(digest_size=16)
        for name, parameter in self.model.named_parameters():
            head = parameter.detach().reshape(-1)[:64].to(torch.float32).cpu().numpy()
            digest.update(("%s %s " % (name, list(parameter.shape))).encode() + head.tobytes())
        return digest.hexdigest()


def _prompts_hash(prompts: Sequence[Prompt]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for prompt in prompts:
        raw = canonical_prompt(prompt)
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def _write_json(path: str, value: Any) -> None:
    with open(path + ".partial", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".partial", path)


def _open_index(out: str, wanted: Dict[str, Any]) -> Dict[str, Any]:
    """The index of an earlier run of the same, or a new one."""
    path = os.path.join(out, INDEX)
    if not os.path.exists(path):
        if any(name.endswith(".safetensors") for name in os.listdir(out)):
            raise ExtractError("'%s' has safetensors files but no %s: not a folder of this command"
                               % (out, INDEX))
        fresh: Dict[str, Any] = {**wanted, "parts": []}
        _write_json(path, fresh)  # before the first part, which it vouches for
        return fresh
    with open(path, encoding="utf-8") as file:
        index: Dict[str, Any] = json.load(file)
    for key, value in wanted.items():
        if index.get(key) != value:
            raise ExtractError("'%s' is of another extraction: %s is %r there, %r here; use another "
                               "folder or remove it" % (out, key, index.get(key), value))
    for part in index["parts"]:
        file_path = os.path.join(out, part["file"])
        size = os.path.getsize(file_path) if os.path.exists(file_path) else None
        if size != part["bytes"]:
            raise ExtractError("'%s': %s bytes, the index says %d" % (file_path, size, part["bytes"]))
    return index


class _Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first, self.begin = total, done, time.monotonic()
        self.tty = sys.stderr.isatty()

    def show(self, done: int) -> None:
        if not self.tty:
            return
        rate = (done - self.first) / max(time.monotonic() - self.begin, 1e-9)
        left = (self.total - done) / rate if rate > 0 else 0
        filled = 30 * done // max(self.total, 1)
        sys.stderr.write("\r[%s%s] %d/%d prompts, %.1f/s, %d s left " % (
            "#" * filled, "." * (30 - filled), done, self.total, rate, left))
        if done == self.total:
            sys.stderr.write("\n")
        sys.stderr.flush()


def extract(model: Any, tokenizer: Any, prompts: Sequence[Prompt], layer: Optional[int] = None, *,
            out: str, hook: Optional[str] = None, site: str = "resid_post", dtype: str = "auto",
            chat: str = "auto", max_tokens: Optional[int] = None, batch_tokens: int = BATCH_TOKENS,
            shard_prompts: int = SHARD_PROMPTS, model_name: Optional[str] = None,
            hook_name: Optional[str] = None) -> List[str]:
    """Write part-00000.safetensors, ... into folder `out`; their paths, in order.

    Interrupted, it goes on with the next part when called again with the same arguments, and the
    files are the same bytes as without the interruption; a folder of other prompts, another model
    or another hook is refused.

      hook        path of the hooked module, in place of `layer`
      dtype       of the files: auto (the model's), float32, float16, bfloat16
      chat        auto: the chat template where the tokenizer has one
      model_name  metadata; default the model's name_or_path
      hook_name   metadata, compared with the SAE's own letter by letter; default
                  blocks.LAYER.hook_resid_post, or the path
    """
    reader = Reader(model, tokenizer, layer, hook=hook, site=site, dtype=dtype, chat=chat,
                    max_tokens=max_tokens, batch_tokens=batch_tokens)
    if model_name is None:
        model_name = str(getattr(model, "name_or_path", "") or type(model).__name__)
    if hook_name is None:
        hook_name = hook if hook is not None else "blocks.%d.hook_%s" % (layer or 0, site)
    os.makedirs(out, exist_ok=True)
    index = _open_index(out, {
        "format": "saerl.extract", "version": 1, "model": model_name, "weights": reader.fingerprint(),
        "hook": hook_name, "module": hook if hook is not None else layer, "site": site,
        "dtype": reader.dtype, "chat": reader.chat, "max_tokens": max_tokens,
        "batch_tokens": batch_tokens, "shard_prompts": shard_prompts, "prompts": len(prompts),
        "prompts_hash": _prompts_hash(prompts),
    })
    parts: List[Dict[str, Any]] = index["parts"]
    done = sum(part["prompts"] for part in parts)
    progress = _Progress(len(prompts), done)
    while done < len(prompts):
        shard = prompts[done:done + shard_prompts]
        encoded = [reader.encode(p) for p in shard]
        names = ["prompt %d" % (done + i) for i in range(len(shard))]
        arrays = reader.activations(encoded, names)
        offsets = np.zeros(len(shard) + 1, np.int64)
        np.cumsum([len(a) for a in arrays], out=offsets[1:])
        if offsets[-1] == 0:
            raise ExtractError("prompts %d to %d have no tokens at all" % (done, done + len(shard) - 1))
        keep = np.array([k for e in encoded for k in e.keep], np.uint8)
        name = "part-%05d.safetensors" % len(parts)
        size = tensorfile.write(
            os.path.join(out, name),
            {"activations": [a for a in arrays if len(a)], "offsets": [offsets], "keep": [keep]},
            {"model": model_name, "hook": hook_name})
        done += len(shard)
        parts.append({"file": name, "bytes": size, "prompts": len(shard), "tokens": int(offsets[-1])})
        _write_json(os.path.join(out, INDEX), index)
        progress.show(done)
    return [os.path.join(out, part["file"]) for part in parts]


def stream(model: Any, tokenizer: Any, prompts: Sequence[Prompt], layer: Optional[int],
           curator: Curator, sids: Sequence[int], *, hook: Optional[str] = None,
           site: str = "resid_post", dtype: str = "auto", chat: str = "auto",
           max_tokens: Optional[int] = None, batch_tokens: int = BATCH_TOKENS,
           chunk_prompts: int = 128, text: bool = False) -> Submitted:
    """SUBMIT the activations of prompts to a sidecar, under the sids given; `text`: the prompts too."""
    if len(prompts) != len(sids):
        raise ExtractError("%d prompts, %d sids" % (len(prompts), len(sids)))
    reader = Reader(model, tokenizer, layer, hook=hook, site=site, dtype=dtype, chat=chat,
                    max_tokens=max_tokens, batch_tokens=batch_tokens)
    accepted = rejected = credit = 0
    reasons: List[Array] = [np.zeros(0, np.uint8)]
    for begin in range(0, len(prompts), chunk_prompts):
        chunk = prompts[begin:begin + chunk_prompts]
        encoded = [reader.encode(p) for p in chunk]
        names = ["sid %d" % sid for sid in sids[begin:begin + len(chunk)]]
        told = curator.submit(
            sids[begin:begin + len(chunk)], act=reader.activations(encoded, names),
            keep=[np.array(e.keep, np.uint8) for e in encoded],
            text=[canonical_prompt(p).decode("utf-8") for p in chunk] if text else None)
        accepted, rejected = accepted + told.accepted, rejected + told.rejected
        credit = told.credit
        reasons.append(told.reason)
    return Submitted(accepted, rejected, credit, np.concatenate(reasons))


def read_prompts(path: str, field: str, limit: Optional[int] = None) -> List[Prompt]:
    """A field of every row of a JSONL file (.gz too); a dotted path goes into objects."""
    prompts: List[Prompt] = []
    opened = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
    with opened as file:
        for number, line in enumerate(file, 1):
            if limit is not None and len(prompts) >= limit:
                break
            try:
                value = json.loads(line)
                for name in field.split("."):
                    value = value[name]
            except (ValueError, KeyError, TypeError) as error:
                raise ExtractError("%s:%d: no field '%s' (%s: %s)"
                                   % (path, number, field, type(error).__name__, error)) from None
            if not isinstance(value, (str, list)):
                raise ExtractError("%s:%d: '%s' is %s, expected a string or a chat list"
                                   % (path, number, field, type(value).__name__))
            prompts.append(value)
    return prompts


def _load(name: str, device: str, dtype: str) -> Tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ExtractError("the command needs torch and transformers (pip install torch "
                           "transformers): %s" % error) from None
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        name, torch_dtype="auto" if dtype == "auto" else getattr(torch, dtype))
    return model.to(device), transformers.AutoTokenizer.from_pretrained(name)


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m saerl.extract",
        description="Activations of the prompts of a JSONL file, as files for a saerl recipe.")
    parser.add_argument("--model", required=True, help="name or folder, as transformers takes it")
    parser.add_argument("--data", required=True, help="JSONL (.gz too), the recipe's input.data")
    parser.add_argument("--prompt-field", default="prompt", help="dotted path (default: prompt)")
    parser.add_argument("--layer", type=int, help="block whose residual stream is read")
    parser.add_argument("--hook", help="path of the module, in place of --layer: model.layers.12")
    parser.add_argument("--site", default="resid_post", choices=["resid_post", "resid_pre"])
    parser.add_argument("--hook-name", help="what the SAE calls the hook, for the files' metadata")
    parser.add_argument("-o", "--out", required=True, help="folder for the files")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "float16", "bfloat16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--chat", default="auto", choices=["auto", "always", "never"])
    parser.add_argument("--max-tokens", type=int, help="cut longer prompts")
    parser.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS)
    parser.add_argument("--shard-prompts", type=int, default=SHARD_PROMPTS)
    parser.add_argument("--limit", type=int, help="the first rows only")
    options = parser.parse_args(argv)
    if (options.layer is None) == (options.hook is None):
        parser.error("expected either --layer or --hook")
    try:
        prompts = read_prompts(options.data, options.prompt_field, options.limit)
        model, tokenizer = _load(options.model, options.device, options.dtype)
        paths = extract(model, tokenizer, prompts, options.layer, out=options.out, hook=options.hook,
                        site=options.site, dtype=options.dtype, chat=options.chat,
                        max_tokens=options.max_tokens, batch_tokens=options.batch_tokens,
                        shard_prompts=options.shard_prompts, model_name=options.model,
                        hook_name=options.hook_name)
    except (ExtractError, OSError) as error:
        print("saerl.extract: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("saerl.extract: interrupted; the same command goes on with the next part", file=sys.stderr)
        return 130
    print("\n".join(paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
