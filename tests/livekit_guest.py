"""A guest of a LiveKit room, as a program: `python -m tests.livekit_guest URL TOKEN [--camera]`.

It joins a room, publishes a made-up camera if asked, and prints one line of JSON for each event.
It leaves on SIGTERM or when it reads the line "leave". After "reconnected" the server may know the guest by a
new participant sid, which the SDK does not tell.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import sys
import time
from typing import Any

from livekit import rtc
from livekit.rtc.participant import PublishTrackError

WIDTH, HEIGHT, FRAMES_PER_SECOND = 320, 240, 10


def say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **fields}) + "\n")
    sys.stdout.flush()


async def visit(url: str, token: str, camera: bool) -> int:
    """Join, publish, and be there until told to leave or sent away."""
    over = asyncio.Event()
    room = rtc.Room()
    _tell(room, over)
    await _listen_for_goodbye(over)
    joining = asyncio.create_task(room.connect(url, token))
    goodbye = asyncio.create_task(over.wait())
    await asyncio.wait((joining, goodbye), return_when=asyncio.FIRST_COMPLETED)
    try:
        if not joining.done():
            return 0
        await joining
    except rtc.ConnectError as error:
        say("error", message=error.message)
        return 1
    me = room.local_participant
    say("connected", sid=me.sid, identity=me.identity, room=room.name)
    showing = asyncio.create_task(_show(me)) if camera else None
    await goodbye
    if showing is not None:
        showing.cancel()
        await asyncio.wait((showing,))
    await room.disconnect()
    return 0


def _tell(room: rtc.Room, over: asyncio.Event) -> None:
    """Print what happens to the guest."""

    def disconnected(reason: rtc.DisconnectReason.ValueType) -> None:
        say("disconnected", reason=rtc.DisconnectReason.Name(reason))
        over.set()

    def republished(publication: rtc.LocalTrackPublication, old_sid: str) -> None:
        say("republished", sid=publication.sid, old_sid=old_sid)

    looking: set[asyncio.Task[None]] = set()

    def subscribed(track: rtc.Track, publication: rtc.RemoteTrackPublication, by: rtc.RemoteParticipant) -> None:
        say("subscribed", sid=publication.sid, identity=by.identity)
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            looking.add(asyncio.get_running_loop().create_task(_look_at(track, by.identity)))

    def joined(other: rtc.RemoteParticipant) -> None:
        say("other_joined", identity=other.identity, sid=other.sid)

    def left(other: rtc.RemoteParticipant) -> None:
        say("other_left", identity=other.identity, sid=other.sid)

    room.on("disconnected", disconnected)
    room.on("reconnecting", lambda: say("reconnecting"))
    room.on("reconnected", lambda: say("reconnected"))
    room.on("local_track_republished", republished)
    room.on("track_subscribed", subscribed)
    room.on("participant_connected", joined)
    room.on("participant_disconnected", left)


async def _look_at(track: rtc.Track, identity: str) -> None:
    """Say what the first picture of a video is like that shows something: how light it is, from 0 to 255."""
    async for event in rtc.VideoStream(track):
        luma = bytes(event.frame.convert(rtc.VideoBufferType.I420).data)[: event.frame.width * event.frame.height]
        if max(luma) - min(luma) > 50:
            light = round(sum(luma) / len(luma))
            say("frame", identity=identity, width=event.frame.width, height=event.frame.height, light=light)
            return


async def _show(me: rtc.LocalParticipant) -> None:
    """A camera: a grey picture that grows lighter and starts again."""
    source = rtc.VideoSource(WIDTH, HEIGHT)
    track = rtc.LocalVideoTrack.create_video_track("camera", source)
    try:
        publication = await me.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA))
    except PublishTrackError as error:
        say("error", message=error.message)
        return
    say("published", sid=publication.sid)
    colour = bytes([128]) * (WIDTH * HEIGHT // 2)
    for light in itertools.cycle(range(256)):
        picture = bytes([light]) * (WIDTH * HEIGHT) + colour
        source.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.I420, picture))
        await asyncio.sleep(1 / FRAMES_PER_SECOND)


class _Goodbye(asyncio.Protocol):
    """Sets an event when it reads "leave"."""

    def __init__(self, over: asyncio.Event) -> None:
        self._over = over

    def data_received(self, data: bytes) -> None:
        if b"leave" in data:
            self._over.set()


async def _listen_for_goodbye(over: asyncio.Event) -> None:
    """Set `over` on SIGTERM or when "leave" is read."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    await loop.connect_read_pipe(lambda: _Goodbye(over), sys.stdin)


def main() -> int:
    parser = argparse.ArgumentParser(description="A guest of a LiveKit room.")
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("--camera", action="store_true", help="publish a made-up camera")
    options = parser.parse_args()
    return asyncio.run(visit(options.url, options.token, options.camera))


if __name__ == "__main__":
    # At once: the SDK's threads do not bear that Python is taken down under them.
    os._exit(main())
