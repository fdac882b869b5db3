"""What a service refuses, and what it cuts off. See Deploy/checks/http-load."""

import asyncio
import time

from holdings import forget_peak, held_by_requests, numbers, settled
from load_client import client, connect, streamed, whole
from service import resident

# Seconds that a request, a body or an idle connection may take.
CLIENT_TIMEOUT = 60


async def check_queue(service, report):
    """One slot, a queue of 4, 2 of one client."""
    long = {"prompt": "the", "max_tokens": 900, "temperature": 0, "logit_bias": {"2": -100}}
    short = {"prompt": "the", "max_tokens": 1}
    async with client() as session:
        running = [asyncio.create_task(streamed(session, service.url, {**long, "user": "a"})) for _ in range(3)]
        waiting = lambda count: lambda: service.status()["requests"]["waiting"] != count
        await settled(waiting(2))
        refused = await whole(session, service.url, {**short, "user": "a"})
        report.add(
            "a client with 2 waiting requests sends another", refused, "429 with Retry-After", is_refusal(refused)
        )
        running += [asyncio.create_task(streamed(session, service.url, {**long, "user": user})) for user in "bc"]
        await settled(waiting(4))
        refused = [await ask(session, service.url, {**short, "user": "d"}) for ask in (whole, streamed)]
        report.add(
            "with 4 waiting somebody else sends one", refused[1], "429 with Retry-After", all(map(is_refusal, refused))
        )
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        held = await settled(lambda: held_by_requests(service))
        report.add("all of them leave: held afterwards", held or "nothing", "nothing", not held)
        answer = await whole(session, service.url, {**short, "user": "d"})
        report.add("the next one is answered", answer[1], "length or stop", answer[1] in ("length", "stop"))


def is_refusal(answer):
    return answer[0] == 429 and answer[1] == "rate_limit_exceeded" and answer[2] is not None and int(answer[2]) >= 1


async def check_connections(service, report, most, more=20):
    """More connections than may be open."""
    kept, said = [], {}
    for _ in range(most + more):
        reader, writer = await connect(service)
        try:
            writer.write(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            line = (await asyncio.wait_for(reader.readline(), 20)).split()[1].decode()
        except (OSError, IndexError, asyncio.TimeoutError) as error:
            line = repr(error)
        said[line] = said.get(line, 0) + 1
        kept.append(writer)
    # One that has just been closed may count for a moment.
    holds = set(said) == {"200", "503"} and most - 5 <= said["200"] <= most
    report.add(f"{most + more} connections at once, {most} allowed", numbers(said), f"{more} times 503", holds)
    for writer in kept:
        writer.transport.abort()

    def unreachable():
        try:
            return service.get("/ready") is None
        except OSError as error:
            return repr(error)

    gone = await settled(unreachable)
    report.add("when they have gone", gone or "served", "served", not gone)


async def check_slow(service, report, count=100):
    """Clients that never come to an end: with a head, with a body, and with nothing at all."""
    starts = [
        b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ",
        b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{",
        b"",
    ]

    async def drip(start):
        reader, writer = await connect(service)
        began = time.monotonic()
        writer.write(start)
        answer = asyncio.create_task(reader.read())
        try:
            while not answer.done() and time.monotonic() - began < 2 * CLIENT_TIMEOUT:
                if start:
                    writer.write(b"a")
                    await writer.drain()
                await asyncio.wait([answer], timeout=1)
        except OSError:
            pass
        writer.transport.abort()
        try:
            return time.monotonic() - began, (await answer).split(b"\r\n")[0]
        except OSError:
            return time.monotonic() - began, b""

    slow = [asyncio.create_task(drip(starts[index % len(starts)])) for index in range(count)]
    worst = 0.0
    async with client() as session:
        while not all(task.done() for task in slow):
            began = time.monotonic()
            answer = await whole(session, service.url, {"prompt": "the", "max_tokens": 4, "temperature": 0})
            if answer[1] not in ("length", "stop"):
                report.add("others are answered meanwhile", answer, "an answer", False)
            worst = max(worst, time.monotonic() - began)
            await asyncio.sleep(1)
    ends = [await task for task in slow]
    latest = max(seconds for seconds, _ in ends)
    said = sorted({line.decode() for _, line in ends if line})
    report.add(
        f"{count} clients that send a byte a second: the last is cut off",
        f"after {latest:.0f} s, {said}",
        f"at most {CLIENT_TIMEOUT + 15} s",
        latest <= CLIENT_TIMEOUT + 15,
    )
    report.add("longest time of another's request meanwhile, s", f"{worst:.2f}", "less than 5", worst < 5)


async def check_large(service, report, megabytes=100):
    """A body that no server should read, with its length and without."""
    forget_peak(service)
    before = resident(service.process.pid)[0]

    async def parts():
        for _ in range(megabytes):
            yield b"a" * 1_000_000

    async def send(chunked):
        reader, writer = await connect(service)
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {megabytes * 1_000_000}"
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
        )
        writer.write(head.encode())
        answer = asyncio.create_task(reader.read())
        sent = 0
        try:
            async for part in parts():
                if answer.done():
                    break
                writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                await writer.drain()
                sent += len(part)
        except OSError:
            pass
        try:
            return sent // 1_000_000, (await asyncio.wait_for(answer, 20)).decode(errors="replace")
        except (OSError, asyncio.TimeoutError) as error:
            return sent // 1_000_000, repr(error)
        finally:
            writer.close()

    for chunked in (False, True):
        sent, text = await send(chunked)
        holds = text.startswith("HTTP/1.1 413 ") and "request_too_large" in text and sent < megabytes
        what = f"a body of {megabytes} MB, {'in chunks' if chunked else 'with its length'}"
        report.add(what, f"{text.split(chr(13))[0]}, {sent} MB taken", "413 before its end", holds)
    more = resident(service.process.pid)[1] - before
    report.add("memory for them at the peak, MB", f"{more:.0f}", "at most 40", more <= 40)
