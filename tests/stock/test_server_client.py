"""PyPI ``cent``, the stock client of the server API, unmodified."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    ChannelsRequest,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from websockets.asyncio.client import connect

from heartcast.testing.realtime import RealtimeServer, realtime_server

pytestmark = pytest.mark.stock


@pytest.fixture
async def server() -> AsyncIterator[RealtimeServer]:
    async with realtime_server() as running:
        yield running


@pytest.fixture
async def cent(server: RealtimeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"{server.http_url}/api", "any key") as client:
        yield client


async def test_publishes_and_reads_history_from_a_position(cent: AsyncClient) -> None:
    first = await cent.publish(PublishRequest(channel="feed:a", data={"n": 1}, tags={"id": "x"}))
    await cent.publish(PublishRequest(channel="feed:a", data={"n": 2}))
    page = await cent.history(
        HistoryRequest(channel="feed:a", limit=10, since=StreamPosition(offset=1, epoch=first.epoch))
    )
    everything = await cent.history(HistoryRequest(channel="feed:a", limit=10))
    await cent.history_remove(HistoryRemoveRequest(channel="feed:a"))
    nothing = await cent.history(HistoryRequest(channel="feed:a", limit=10))

    assert first.offset == 1
    assert [publication.data for publication in page.publications] == [{"n": 2}]
    assert everything.publications[0].tags == {"id": "x"}
    assert nothing.publications == []
    assert nothing.epoch != first.epoch


async def test_the_same_idempotency_key_publishes_once(cent: AsyncClient) -> None:
    request = PublishRequest(channel="feed:a", data=1, idempotency_key="order-7")
    first = await cent.publish(request)
    second = await cent.publish(request)
    page = await cent.history(HistoryRequest(channel="feed:a", limit=10))

    assert (first.offset, first.epoch) == (second.offset, second.epoch)
    assert len(page.publications) == 1


async def test_broadcast_answers_for_each_channel(cent: AsyncClient) -> None:
    result = await cent.broadcast(BroadcastRequest(channels=["feed:a", "nowhere:b"], data={}))

    good, bad = result.responses
    assert good.result is not None
    assert good.result.offset == 1
    assert bad.error is not None
    assert bad.error.code == 102


async def test_an_error_carries_its_code(cent: AsyncClient) -> None:
    with pytest.raises(CentApiResponseError) as unknown:
        await cent.publish(PublishRequest(channel="nowhere:a", data={}))
    with pytest.raises(CentApiResponseError) as unavailable:
        await cent.history(HistoryRequest(channel="public:a"))

    assert unknown.value.code == 102
    assert unavailable.value.code == 108


async def test_a_batch_runs_in_order(cent: AsyncClient) -> None:
    result = await cent.batch(
        BatchRequest(
            requests=[PublishRequest(channel="feed:a", data=1), HistoryRequest(channel="feed:a", limit=5)]
        )
    )

    assert result.replies[0].offset == 1
    assert [publication.data for publication in result.replies[1].publications] == [1]


async def test_looks_at_and_moves_a_users_connections(server: RealtimeServer, cent: AsyncClient) -> None:
    async with connect(server.websocket_url) as socket:
        await socket.send('{"id":1,"connect":{"data":{"user":"u1"}}}')
        await socket.recv()
        await cent.subscribe(SubscribeRequest(user="u1", channel="public:a"))
        assert '"subscribe"' in str(await socket.recv())

        presence = await cent.presence(PresenceRequest(channel="public:a"))
        stats = await cent.presence_stats(PresenceStatsRequest(channel="public:a"))
        channels = await cent.channels(ChannelsRequest(pattern="public:*"))
        info = await cent.info(InfoRequest())
        await cent.unsubscribe(UnsubscribeRequest(user="u1", channel="public:a"))
        assert '"code":2000' in str(await socket.recv())
        await cent.disconnect(DisconnectRequest(user="u1", disconnect=Disconnect(code=4001, reason="bye")))
        await socket.wait_closed()

    assert [client.user for client in presence.presence.values()] == ["u1"]
    assert (stats.num_clients, stats.num_users) == (1, 1)
    assert channels.channels["public:a"].num_clients == 1
    assert (info.nodes[0].num_clients, info.nodes[0].num_users) == (1, 1)
    assert (socket.close_code, socket.close_reason) == (4001, "bye")
