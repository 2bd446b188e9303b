"""Calls a server with Triton's own client (package tritonclient), as its users do.

triton.py HTTP_ADDRESS GRPC_ADDRESS PICTURE
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException

http_address, grpc_address, path = sys.argv[1:]
with open(path, "rb") as f:
    file = f.read()
samples = (np.arange(24 * 40 * 3) % 251).astype(np.uint8).reshape(24, 40, 3)


def inputs(kind, **how):
    image = kind.InferInput("image", list(samples.shape), "UINT8")
    image.set_data_from_numpy(samples, **how)
    return [image]


def files(kind, n, **how):
    t = kind.InferInput("file", [n], "BYTES")
    t.set_data_from_numpy(np.array([file] * n, dtype=np.object_), **how)
    return [t]


def check(result, want=None):
    image = result.as_numpy("image")
    assert image.shape == samples.shape and image.dtype == np.uint8, (image.shape, image.dtype)
    assert want is None or (image == want).all()
    route = json.loads(result.as_numpy("route")[0])
    assert route["expert"]["name"], route
    return image, route["expert"]["name"]


def refused(call, says):
    try:
        call()
    except InferenceServerException as e:
        assert says in str(e), e
        return
    raise AssertionError("not refused: " + says)


def synchronous(kind, client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("unirestorer") and not ready(client, "none")
    first, expert = check(client.infer("unirestorer", inputs(kind)))
    check(client.infer(expert, inputs(kind), model_version="1", request_id="7"), first)
    plain = client.infer("unirestorer", inputs(kind), parameters={"strength": 0.0, "no-guard": True}, priority=1, timeout=60_000_000)
    check(plain, samples)
    two = client.infer("unirestorer", files(kind, 2), outputs=[kind.InferRequestedOutput("file")], parameters={"format": "png"})
    restored = two.as_numpy("file")
    assert restored.shape == (2,) and all(f[:4] == b"\x89PNG" for f in restored), restored.shape
    refused(lambda: client.infer("none", inputs(kind)), "no model")
    refused(lambda: client.infer("unirestorer", inputs(kind), parameters={"level": "9"}), "level")
    waiting = [client.infer("unirestorer", inputs(kind))] if kind is over_grpc else [
        r.get_result() for r in [client.async_infer("unirestorer", inputs(kind)) for _ in range(4)]]
    for r in waiting:
        check(r, first)
    return first


def ready(client, model):
    try:
        return client.is_model_ready(model)
    except InferenceServerException:
        return False


with over_http.InferenceServerClient(http_address, concurrency=4) as client:
    want = synchronous(over_http, client)
    assert client.get_server_metadata()["name"] == "unirestorer"
    assert [t["name"] for t in client.get_model_metadata("unirestorer")["inputs"]] == ["image", "file"]
    check(client.infer("unirestorer", inputs(over_http, binary_data=False)), want)
    check(client.infer("unirestorer", inputs(over_http), outputs=[over_http.InferRequestedOutput(n, binary_data=False) for n in ("image", "route")]), want)
    for compression in "gzip", "deflate":
        check(client.infer("unirestorer", inputs(over_http), request_compression_algorithm=compression, response_compression_algorithm=compression), want)
    print("tritonclient.http: ok")

with over_grpc.InferenceServerClient(grpc_address) as client:
    assert (synchronous(over_grpc, client) == want).all()
    assert client.get_server_metadata().name == "unirestorer"
    assert client.get_model_metadata("unirestorer", as_json=True)["inputs"][0]["name"] == "image"
    check(client.infer("unirestorer", inputs(over_grpc), compression_algorithm="gzip", client_timeout=60), want)
    print("tritonclient.grpc: ok")


async def asynchronous():
    for name, kind, address in ("http", http_aio, http_address), ("grpc", grpc_aio, grpc_address):
        async with kind.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            for result in await asyncio.gather(*(client.infer("unirestorer", inputs(kind)) for _ in range(4))):
                check(result, want)
        print(f"tritonclient.{name}.aio: ok")


asyncio.run(asynchronous())
