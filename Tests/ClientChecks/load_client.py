"""Clients of a service under load: those that stay to the end, and those that leave."""

import asyncio
import json

import aiohttp


def question(index):
    """Requests that differ in prompt, mode and sampling; every second one is greedy."""
    modes = ["fusionroute"] * 5 + ["fusionroute:router", "fusionroute:no-complement", "fusionroute:expert:beta"]
    words = ["river", "bread", "number", "verb", "forest", "computer", "spring", "house", "water", "story"]
    return {
        "model": modes[index % len(modes)],
        "prompt": f"{index}: tell me about the {words[index % len(words)]} and the {words[index * 7 // 10 % len(words)]}",
        "max_tokens": 32 + index % 5 * 16,
        "temperature": 0 if index % 2 == 0 else 0.9,
        "seed": index,
    }


def client():
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(total=600)
    )


async def whole(session, url, body):
    async with session.post(url + "/v1/completions", json=body) as response:
        answer = await response.json()
        if response.status != 200:
            return response.status, answer["error"]["code"], response.headers.get("retry-after")
        choice = answer["choices"][0]
        return (
            choice["text"],
            choice["finish_reason"],
            [token["id"] for token in choice.get("fusionroute", {}).get("tokens", [])],
        )


async def streamed(session, url, body):
    """The same, by a stream."""
    text, reason, tokens = "", None, []
    async with session.post(url + "/v1/completions", json={**body, "stream": True}) as response:
        if response.status != 200:
            return response.status, (await response.json())["error"]["code"], response.headers.get("retry-after")
        async for line in response.content:
            data = line.decode().strip().removeprefix("data: ")
            if not data.startswith("{"):
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                return text, chunk["error"], tokens
            for choice in chunk["choices"]:
                text += choice["text"]
                reason = choice["finish_reason"] or reason
                tokens += [token["id"] for token in choice.get("fusionroute", {}).get("tokens", [])]
    return text, reason, tokens


async def connect(service):
    host, port = service.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def leave(service, generator):
    """One client that leaves at a random moment; what it had come to."""
    body = json.dumps({**question(generator.randrange(1000)), "stream": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    reader, writer = await connect(service)
    moment = generator.choice(("connected", "head", "body", "asked", "streaming", "streaming", "end"))
    try:
        if moment == "head":
            writer.write(head[: generator.randrange(1, len(head))])
        elif moment == "body":
            writer.write(head + body[: generator.randrange(len(body))])
        elif moment != "connected":
            writer.write(head + body)
        await writer.drain()
        if moment == "streaming":
            for _ in range(generator.randrange(1, 40)):
                if not await reader.readline():
                    break
        elif moment == "end":
            while b"[DONE]" not in await reader.readline():
                pass
        await asyncio.sleep(generator.random() * 0.02)
    finally:
        # Some say goodbye, some are gone: a reset.
        if generator.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()
    return moment
