"""A prompt's identity: its canonical bytes, and the 64-bit XXH3 of them (docs/formats.md, Key)."""

from __future__ import annotations

import json
from typing import Any, Iterable, List, Mapping, Sequence, Union

Prompt = Union[str, Sequence[Mapping[str, Any]]]


def canonical_prompt(prompt: Prompt) -> bytes:
    """A string's UTF-8 bytes; of a chat each message's role, 0x1F, content, 0x1E.

    Parts of a content are joined: a part's `text`, else its compact JSON. null is empty.
    """
    if isinstance(prompt, str):
        return prompt.encode("utf-8")
    if not isinstance(prompt, Iterable):  # an array of messages is no Sequence
        raise TypeError("prompt: %s, expected a string or a list of messages" % type(prompt).__name__)
    out: List[str] = []
    for i, message in enumerate(prompt):
        if not isinstance(message, Mapping):
            raise TypeError("prompt: message %d is %s, expected an object with role and content"
                            % (i, type(message).__name__))
        out += [str(message.get("role") or ""), "\x1f"]
        content = message.get("content")
        if isinstance(content, str):
            out.append(content)
        elif isinstance(content, (list, tuple)):
            out += [_part(part) for part in content]
        elif content is not None:
            raise TypeError("prompt: message %d: content is %s, expected a string, a list or null"
                            % (i, type(content).__name__))
        out.append("\x1e")
    return "".join(out).encode("utf-8")


def _part(part: Any) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        part = part["text"]
    if isinstance(part, str):
        return part
    return json.dumps(part, ensure_ascii=False, separators=(",", ":"))


def prompt_key(prompt: Prompt) -> int:
    """The key that the sidecar and the run's files use. Needs the module xxhash.

    Where that is missing, Curator.attach(prompts=...) sends the texts instead, and
    no hash is needed.
    """
    try:
        import xxhash
    except ImportError:
        raise ImportError("prompt_key needs the module xxhash (python3-xxhash, or pip install "
                          "xxhash); attach(prompts=...) does not") from None
    key: int = xxhash.xxh3_64_intdigest(canonical_prompt(prompt))
    return key
