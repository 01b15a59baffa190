"""The client of Parallel Interview, blocking and for asyncio.

calls.py      every call as a value          types.py     what goes over the wire
exchange.py   one call, until it is settled  retry.py     when it is sent again
client.py     Client, Candidate              aio.py       AsyncClient, AsyncCandidate
protocol.py   the live channel's rules       channel.py   Channel, AsyncChannel
errors.py     the tree of errors
"""

from parallel_interview_client.aio import AsyncCandidate, AsyncClient
from parallel_interview_client.calls import Call
from parallel_interview_client.channel import AsyncChannel, Channel
from parallel_interview_client.client import Candidate, Client
from parallel_interview_client.errors import (
    ApiError,
    BadRequest,
    ChannelClosed,
    ClientError,
    Conflict,
    Ended,
    Forbidden,
    KeyReused,
    NotAnImage,
    NotFound,
    NotReady,
    ServerError,
    StaleVersion,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from parallel_interview_client.exchange import Answer
from parallel_interview_client.retry import Failure, Retry

__all__ = [
    "Answer",
    "ApiError",
    "AsyncCandidate",
    "AsyncChannel",
    "AsyncClient",
    "BadRequest",
    "Call",
    "Candidate",
    "Channel",
    "ChannelClosed",
    "Client",
    "ClientError",
    "Conflict",
    "Ended",
    "Failure",
    "Forbidden",
    "KeyReused",
    "NotAnImage",
    "NotFound",
    "NotReady",
    "Retry",
    "ServerError",
    "StaleVersion",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
]
