"""A node dies and another is paused while pushes are accepted: nothing is lost, and each ends once."""

from __future__ import annotations

import asyncio
import signal

from heartcast.testing.nodes import Nodes
from heartcast.testing.push_client import PushClient

NEWS = {"template": "news_v2", "payload": {"title": "x"}}
USERS = [f"fault-{n}" for n in range(6)]


def post(nodes: Nodes, node: int, user: str) -> str | None:
    """The id of an accepted push; None: it was refused, or nobody answered."""
    try:
        status, body = nodes.ask(node, "POST", "/push", {"user_id": user, **NEWS})
    except OSError:
        return None
    return str(body["id"]) if status == 202 else None


def status_of(nodes: Nodes, node: int, push_id: str) -> str:
    return str(nodes.ask(node, "GET", f"/api/v1/pushes/{push_id}")[1].get("status"))


async def test_every_accepted_push_arrives_and_ends_once_when_one_node_is_killed_and_one_paused() -> None:
    with Nodes(3) as nodes:
        await asyncio.to_thread(nodes.wait_shared)
        survivor = nodes.running[2].websocket_url
        clients = [PushClient(lambda: [survivor], user, nodes.token(user)) for user in USERS]
        for client in clients:
            await client.__aenter__()
        accepted: dict[str, list[str]] = {user: [] for user in USERS}
        for step in range(120):
            if step == 40:
                nodes.running[0].kill()
            if step == 60:
                nodes.running[1].process.send_signal(signal.SIGSTOP)
            for user in USERS[step % 3 :: 3]:
                push_id = await asyncio.to_thread(post, nodes, 2 if step >= 40 else step % 3, user)
                if push_id is not None:
                    accepted[user].append(push_id)
        await asyncio.sleep(6)  # longer than a lease: the paused node has lost its shards when it wakes
        nodes.running[1].process.send_signal(signal.SIGCONT)
        for client in clients:
            await client.has(set(accepted[client.user]), 30)
            mine = [push_id for push_id in client.got if push_id in set(accepted[client.user])]
            assert mine == accepted[client.user]
            await client.__aexit__()
        assert sum(map(len, accepted.values())) > 200
        async with asyncio.timeout(20):
            for push_id in [push_id for ids in accepted.values() for push_id in ids]:
                while await asyncio.to_thread(status_of, nodes, 2, push_id) != "delivered":
                    await asyncio.sleep(0.1)
