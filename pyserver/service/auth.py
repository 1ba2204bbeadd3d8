"""Who may call: whoever shows the token, as `authorization: Bearer <token>`."""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from pyserver.errors import StemlineError
from pyserver.service.errors import Scope, Within

# A client must be able to check the server before it hands its token over.
FREE = frozenset({"/stems.v1.ServerService/GetInfo"})


class MissingToken(StemlineError):
    reason = "MISSING_TOKEN"


class WrongToken(StemlineError):
    reason = "WRONG_TOKEN"


def check(header: str | bytes | None, token: str) -> None:
    """Raises unless `header` carries `token`; takes as long for a nearly right token as for a wrong one."""
    if header is None:
        raise MissingToken("this server wants a token: send `authorization: Bearer <token>`, see its token file")
    sent = header.encode() if isinstance(header, str) else header
    scheme, _, given = sent.partition(b" ")
    if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), token.encode("ascii")):
        raise WrongToken("this is not the token of this server; read it again from the server's token file")


def token_required(token: str) -> Within:
    """The interceptor that lets only holders of `token` through."""

    @asynccontextmanager
    async def scope(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
        metadata = dict(context.invocation_metadata() or ())
        check(metadata.get("authorization"), token)
        yield

    guarded: Scope = scope
    return Within(guarded, free=FREE)
