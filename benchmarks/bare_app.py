"""The yardstick for `create`: a FastAPI app whose one route does one durable write, and nothing else.

Run by bench.py with `python bare_app.py PORT`; MONGODB_URL and MONGODB_DATABASE say where to write.
"""

from __future__ import annotations

import os
import sys
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern

app = FastAPI()
_client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(os.environ["MONGODB_URL"], retryWrites=False)
_writes = _client[os.environ["MONGODB_DATABASE"]].get_collection(
    "bench_writes", write_concern=WriteConcern(w="majority", j=True)
)


@app.post("/write")
async def write(body: dict[str, Any]) -> dict[str, str]:
    document_id = uuid.uuid4().hex
    await _writes.insert_one({"_id": document_id, **body})
    return {"status": "success", "id": document_id}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
