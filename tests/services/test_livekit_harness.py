"""The LiveKit server, guest and network that other tests are built on do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from livekit import api

from tests.livekit_network import CandidateNetwork
from tests.livekit_server import guest, livekit_server, webhooks

pytestmark = [pytest.mark.services, pytest.mark.timeout(60)]


async def test_a_guest_joins_shows_a_camera_and_leaves(tmp_path: Path) -> None:
    async with webhooks() as endpoint:
        with livekit_server(tmp_path, endpoint.url) as server:
            async with guest(server.url, server.token("room", "ann"), camera=True) as ann, server.api() as client:
                joined = await endpoint.wait_for("participant_joined", "ann")
                assert joined.event.participant.sid == await ann.connected()
                shown = await endpoint.wait_for("track_published", "ann")
                assert shown.event.track.source == api.TrackSource.CAMERA
                assert shown.event.track.sid == (await ann.event("published"))["sid"]
                async with guest(server.url, server.token("room", "ben")) as ben:
                    assert (await ben.event("subscribed"))["identity"] == "ann"
                present = await client.room.list_participants(api.ListParticipantsRequest(room="room"))
                assert "ann" in [participant.identity for participant in present.participants]
                await ann.leave()
                left = await endpoint.wait_for("participant_left", "ann")
                assert left.reason == "CLIENT_INITIATED"
        assert endpoint.refused == []


async def test_a_server_comes_back_on_its_port_after_a_kill(tmp_path: Path) -> None:
    with livekit_server(tmp_path, auto_create=False) as server:
        async with server.api() as client:
            await client.room.create_room(api.CreateRoomRequest(name="room"))
        server.kill()
        server.start()
        async with server.api() as client:
            rooms = await client.room.list_rooms(api.ListRoomsRequest())
            assert list(rooms.rooms) == [], "it keeps nothing on disk"


async def test_a_cable_that_is_cut_and_mended(tmp_path: Path) -> None:
    with CandidateNetwork() as network:
        async with webhooks() as endpoint:
            with livekit_server(tmp_path, endpoint.url, node_ip=network.host, bind=network.host) as server:
                token = server.token("room", "ann")
                async with guest(server.guest_url, token, camera=True, namespace=network.namespace) as ann:
                    await ann.event("published")
                    network.cut()
                    left = await endpoint.wait_for("participant_left", "ann", 40)
                    assert left.reason == "CONNECTION_TIMEOUT"
                    network.mend()
                    await ann.event("reconnected", 30)
