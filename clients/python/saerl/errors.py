"""What a call can end with other than a result."""

from __future__ import annotations

from typing import Any, Mapping, Optional


class CuratorError(RuntimeError):
    """Any failure of a call to the sidecar."""


class SidecarError(CuratorError):
    """The sidecar answered with an error (docs/protocol.md, section 4)."""

    def __init__(self, reply: Mapping[str, Any]) -> None:
        self.code = str(reply.get("code") or "E_INTERNAL")
        self.message = str(reply.get("message") or "")
        self.field: Optional[str] = reply.get("field")
        self.retryable = bool(reply.get("retryable"))
        after = reply.get("retry_after_ms")
        self.retry_after_ms = float(after) if isinstance(after, (int, float)) and after >= 0 else 0.0
        where = " (%s)" % self.field if self.field else ""
        super().__init__("%s: %s%s" % (self.code, self.message, where))

    def __reduce__(self) -> Any:
        return (SidecarError, ({"code": self.code, "message": self.message, "field": self.field,
                                "retryable": self.retryable,
                                "retry_after_ms": self.retry_after_ms},))


class SidecarAway(CuratorError, TimeoutError):
    """No answer within the deadline, or only "busy"; the message says which."""


class KeyNotAllowed(CuratorError, PermissionError):
    """The sidecar knows our CURVE key, or rather does not: it refused the connection."""


class SpoolFull(CuratorError):
    """Feedback can be neither sent nor kept. Nothing was dropped: the caller still has it."""
