"""What goes wrong with a request, in OpenAI's words and shape."""

from __future__ import annotations

from typing import Any

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class Problem(Exception):
    """An answer other than the one that was asked for: an HTTP ``status``, one clear ``message``,
    the field it is about (``param``) and a ``code`` for programs. ``retry_after`` is in seconds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The JSON object that tells of it."""
        kind = KINDS.get(self.status, KINDS[400] if self.status < 500 else KINDS[500])
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}

    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to it."""
        found = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return found | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def invalid(message: str, param: str | None = None, code: str | None = None) -> Problem:
    """A request that cannot be answered as it stands."""
    return Problem(400, message, param=param, code=code)


def too_slow(seconds: float) -> Problem:
    """The time limit of a request is over."""
    return Problem(
        504,
        f"the request took longer than this server's limit of {seconds:g} s; ask for fewer tokens",
        code="time_limit",
    )


def broken() -> Problem:
    """A defect of ours; what it was stands in the log."""
    return Problem(500, "the server failed at this request; its log says why", code="server_error")
