"""Requests as a client sends them, token by token."""

import http.client
import json
import time


class Answer:
    def __init__(self):
        self.tokens = []
        self.text = ""
        self.finish = None
        self.failovers = 0
        self.error = None
        self.began = time.monotonic()
        self.ended = None
        # (when, since the token before)
        self.gaps = []

    @property
    def key(self):
        return (tuple(self.tokens), self.text, self.finish)


def stream(prompt, port=8080, timeout=180):
    """One streamed completion; never raises."""
    answer = Answer()
    body = {**prompt, "stream": True}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            answer.error = f"{response.status} {response.read().decode(errors='replace')}"
            return answer
        last = None
        for line in response:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                break
            chunk = json.loads(data)
            if "error" in chunk:
                answer.error = chunk["error"]["message"]
                return answer
            answer.failovers = chunk.get("fusionroute", {}).get("failovers", answer.failovers)
            for choice in chunk.get("choices", []):
                tokens = choice.get("fusionroute", {}).get("tokens", [])
                now = time.monotonic()
                if tokens:
                    if last is not None:
                        answer.gaps.append((now, now - last))
                    last = now
                if any(token.get("degraded") for token in tokens):
                    answer.error = "a degraded token"
                answer.tokens += [(token["id"], token["expert"]) for token in tokens]
                answer.text += choice.get("text", "")
                answer.finish = choice.get("finish_reason") or answer.finish
        if answer.finish is None:
            answer.error = answer.error or "the stream ended early"
    except (OSError, ValueError, http.client.HTTPException) as error:
        answer.error = repr(error)
    finally:
        answer.ended = time.monotonic()
        connection.close()
    return answer
