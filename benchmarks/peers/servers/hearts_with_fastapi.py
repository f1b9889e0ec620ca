"""Hearts as a good engineer writes them with FastAPI: a pool, one statement, no ORM, nothing else.

``HEARTS_STORE`` is one of memory, sqlite, redis, postgres; ``HEARTS_URL`` says where. No live counts, no
hot list, no events: what heartcast does beside a heart is not asked of it.
"""
# mypy: ignore-errors

import os
import sqlite3
import threading
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

STORE, URL = os.environ["HEARTS_STORE"], os.environ.get("HEARTS_URL", "")

TABLES = """
CREATE TABLE IF NOT EXISTS heart (
    target_id TEXT NOT NULL, user_id TEXT NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (target_id, user_id)
);
CREATE TABLE IF NOT EXISTS target (target_id TEXT PRIMARY KEY, count BIGINT NOT NULL)
"""
ADD_TO_POSTGRES = """
WITH added AS (
    INSERT INTO heart (target_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1
)
INSERT INTO target AS t (target_id, count) VALUES ($1, (SELECT count(*) FROM added))
ON CONFLICT (target_id) DO UPDATE SET count = t.count + excluded.count
RETURNING (SELECT count(*) FROM added), count
"""
COUNT_IN_SQLITE = """
CREATE TRIGGER IF NOT EXISTS counted AFTER INSERT ON heart BEGIN
    INSERT INTO target VALUES (new.target_id, 1) ON CONFLICT (target_id) DO UPDATE SET count = count + 1;
END
"""
ADD_TO_REDIS = """
local added = redis.call('SADD', KEYS[1], ARGV[1])
return {added, redis.call('SCARD', KEYS[1])}
"""


class Heart(BaseModel):
    target_id: str = Field(min_length=1, max_length=200)
    user_id: str = Field(min_length=1, max_length=200)


class Counted(BaseModel):
    target_id: str
    user_id: str
    count: int


def in_memory():
    hearts: dict[str, set[str]] = {}

    async def add(heart: Heart):
        users = hearts.setdefault(heart.target_id, set())
        before = len(users)
        users.add(heart.user_id)
        return len(users) > before, len(users)

    return add


def in_sqlite():
    local = threading.local()

    def connection():
        if not hasattr(local, "db"):
            local.db = sqlite3.connect(URL, isolation_level=None, timeout=30)
            local.db.execute("PRAGMA journal_mode = WAL")
            local.db.execute("PRAGMA synchronous = FULL")
        return local.db

    for statement in (*TABLES.split(";"), COUNT_IN_SQLITE):
        connection().execute(statement)

    def add(heart: Heart):
        db = connection()
        db.execute("BEGIN IMMEDIATE")
        added = db.execute(
            "INSERT OR IGNORE INTO heart (target_id, user_id) VALUES (?, ?)", (heart.target_id, heart.user_id)
        ).rowcount
        [count] = db.execute("SELECT count FROM target WHERE target_id = ?", (heart.target_id,)).fetchone()
        db.execute("COMMIT")
        return added, count

    return add


def in_redis():
    from redis.asyncio import Redis

    add_one = Redis.from_url(URL).register_script(ADD_TO_REDIS)

    async def add(heart: Heart):
        return await add_one(keys=[f"hearts:{heart.target_id}"], args=[heart.user_id])

    return add


def in_postgres():
    async def add(heart: Heart):
        return await app.state.pool.fetchrow(ADD_TO_POSTGRES, heart.target_id, heart.user_id)

    return add


@asynccontextmanager
async def lifespan(_):
    if STORE == "postgres":
        import asyncpg

        async with asyncpg.create_pool(URL, min_size=10, max_size=10) as app.state.pool:
            await app.state.pool.execute(TABLES)
            yield
    else:
        yield


app = FastAPI(lifespan=lifespan)
add = {"memory": in_memory, "sqlite": in_sqlite, "redis": in_redis, "postgres": in_postgres}[STORE]()

if STORE == "sqlite":  # a plain function: FastAPI runs it in its pool of threads

    @app.post("/api/v1/hearts")
    def heart_in_a_thread(heart: Heart, response: Response) -> Counted:
        added, count = add(heart)
        response.status_code = 201 if added else 200
        return Counted(target_id=heart.target_id, user_id=heart.user_id, count=count)

else:

    @app.post("/api/v1/hearts")
    async def heart(heart: Heart, response: Response) -> Counted:
        added, count = await add(heart)
        response.status_code = 201 if added else 200
        return Counted(target_id=heart.target_id, user_id=heart.user_id, count=count)
