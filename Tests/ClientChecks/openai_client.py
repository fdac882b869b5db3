"""The openai package, unmodified, against a running service.

    openai_client.py URL [--key KEY] [--busy URL]

URL is the service's, without /v1. With --key the service wants that API key. --busy is another service with one slot and
no queue, which must refuse what comes second. Prints a line for each check; exits with 1 at the first that fails.
"""

import argparse
import asyncio
import json
import math
import sys
import time

import openai
from pydantic import BaseModel

MODEL = "fusionroute"
MESSAGES = [{"role": "user", "content": "the weather is good"}]


def check(what, condition, detail=""):
    print(("ok   " if condition else "FAIL ") + what, flush=True)
    if not condition:
        print(detail, file=sys.stderr)
        sys.exit(1)


def raises(kind, call):
    """The error of that class which `call` ends with."""
    try:
        call()
    except kind as error:
        return error
    except Exception as error:  # noqa: BLE001 - whichever it is, it is the wrong one
        check(f"{kind.__name__} is raised", False, repr(error))
    check(f"{kind.__name__} is raised", False, "nothing was raised")


def models(client):
    names = [model.id for model in client.models.list()]
    check("models are listed", MODEL in names and f"{MODEL}:router" in names, names)
    check("a model is retrieved", client.models.retrieve(names[-1]).id == names[-1])


def chat(client):
    options = dict(model=MODEL, messages=MESSAGES, max_tokens=24, temperature=0.8, seed=7)
    whole = client.chat.completions.create(**options)
    choice = whole.choices[0]
    check("a chat is answered", choice.message.role == "assistant" and choice.finish_reason in ("stop", "length"))
    check("its usage adds up", whole.usage.prompt_tokens + whole.usage.completion_tokens == whole.usage.total_tokens)
    check("cached tokens are told", whole.usage.prompt_tokens_details.cached_tokens is not None)
    again = client.chat.completions.create(**options)
    check("a seed gives the same answer", again.choices[0].message.content == choice.message.content)
    tokens = choice.model_extra["fusionroute"]["tokens"]
    check("each token says who decided it", len(tokens) == whole.usage.completion_tokens and tokens[0]["expert"])
    check("the request's numbers are there", whole.model_extra["fusionroute"]["seed"] == 7)

    text, chunks = "", []
    for chunk in client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        chunks.append(chunk)
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
    check("a stream has the same text", text == choice.message.content, (text, choice.message.content))
    check("its last chunk has the usage", chunks[-1].usage.completion_tokens == whole.usage.completion_tokens)
    check("and the end its reason", chunks[-2].choices[0].finish_reason == choice.finish_reason)

    several = client.chat.completions.create(**{**options, "n": 3})
    check("n answers come in order", [choice.index for choice in several.choices] == [0, 1, 2])
    check("the first is the one alone", several.choices[0].message.content == choice.message.content)
    if choice.message.content and len(choice.message.content) > 3:
        stop = choice.message.content[1:3]
        stopped = client.chat.completions.create(**options, stop=[stop, "\u2603"]).choices[0]
        check(
            "a stop string ends an answer",
            stopped.message.content == choice.message.content.split(stop)[0] and stopped.finish_reason == "stop",
        )
    biased = client.chat.completions.create(
        **{**options, "temperature": 0}, logit_bias={tokens[0]["id"]: -100}, presence_penalty=0.5, frequency_penalty=0.5
    )
    check("biases and penalties are taken", biased.choices[0].model_extra["fusionroute"]["tokens"][0]["id"] != tokens[0]["id"])
    parts = [{"role": "user", "content": [{"type": "text", "text": MESSAGES[0]["content"]}]}]
    check(
        "a list of text parts is a text",
        client.chat.completions.create(**{**options, "messages": parts}).choices[0].message.content == choice.message.content,
    )


def logprobs(client):
    options = dict(model=MODEL, messages=MESSAGES, max_tokens=12, temperature=0, logprobs=True, top_logprobs=5)
    choice = client.chat.completions.create(**options).choices[0]
    content = choice.logprobs.content
    check("log-probabilities of every token", len(content) == len(choice.model_extra["fusionroute"]["tokens"]))
    check("a greedy token is the likeliest", all(abs(entry.logprob - entry.top_logprobs[0].logprob) < 1e-6 for entry in content))
    check("they are at most one together", all(sum(math.exp(top.logprob) for top in entry.top_logprobs) <= 1.00001 for entry in content))
    joined = b"".join(bytes(entry.bytes) for entry in content).decode("utf-8", "replace")
    check("the tokens' bytes make the text", joined.startswith(choice.message.content), (joined, choice.message.content))
    streamed = [
        entry.logprob
        for chunk in client.chat.completions.create(**options, stream=True)
        for entry in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])
    ]
    check("streams have the same", streamed == [entry.logprob for entry in content])


def completions(client):
    options = dict(model=MODEL, max_tokens=8, temperature=0)
    one = client.completions.create(**options, prompt="it is")
    two = client.completions.create(**options, prompt=["it is", "the day"])
    check("a list of prompts is answered in order", len(two.choices) == 2 and two.choices[0].text == one.choices[0].text)
    text = "".join(chunk.choices[0].text for chunk in client.completions.create(**options, prompt="it is", stream=True))
    check("a completion streams", text == one.choices[0].text)
    scored = client.completions.create(model=MODEL, prompt="it is a day", max_tokens=0, echo=True, logprobs=2)
    values = scored.choices[0].logprobs
    check("echo gives the prompt back", scored.choices[0].text == "it is a day")
    check(
        "and scores it",
        values.token_logprobs[0] is None and all(value <= 0 for value in values.token_logprobs[1:])
        and len(values.tokens) == len(values.text_offset) == scored.usage.prompt_tokens,
    )


LIST = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3}},
    "required": ["items"],
    "additionalProperties": False,
}


class Answer(BaseModel):
    name: str
    count: int
    happy: bool


def structured(client):
    options = dict(model=MODEL, messages=[{"role": "user", "content": "a name, a count and whether you are happy, as JSON"}])
    parsed = 0
    for seed in range(10):
        try:
            answer = client.chat.completions.parse(**options, response_format=Answer, seed=seed, max_tokens=300)
        except openai.LengthFinishReasonError:
            # A random model may go on for ever.
            continue
        check("an answer of a schema is parsed", isinstance(answer.choices[0].message.parsed, Answer))
        parsed += 1
    check("most answers end", parsed >= 5, parsed)
    options["response_format"] = {"type": "json_object"}
    whole = client.chat.completions.create(**options, seed=1, max_tokens=16).choices[0].message.content
    check("an object begins as one", whole.lstrip().startswith("{"), whole)
    options["response_format"] = {"type": "json_schema", "json_schema": {"name": "list", "schema": LIST, "strict": True}}
    stream = client.chat.completions.create(**options, seed=2, max_tokens=300, stream=True)
    text, reason = "", None
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    value = json.loads(text) if reason == "stop" else None
    check("a schema holds in streams", reason == "length" or set(value) == {"items"} and 1 <= len(value["items"]) <= 3, text)
    options["response_format"]["json_schema"]["schema"] = {"type": "object", "patternProperties": {"(?=a)a": {}}}
    error = raises(openai.BadRequestError, lambda: client.chat.completions.create(**options))
    check("what a grammar cannot say is refused by name", error.param == "response_format.json_schema.schema", repr(error))


def errors(client, url):
    ask = lambda **options: client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, "max_tokens": 1, **options})
    error = raises(openai.BadRequestError, lambda: ask(temperature=-1))
    check("400 is a BadRequestError with its field", error.status_code == 400 and error.param == "temperature", repr(error))
    check("its message and request id", "temperature" in error.message and error.request_id)
    error = raises(openai.NotFoundError, lambda: ask(model="gpt-4"))
    check("an unknown model is a NotFoundError", error.code == "model_not_found" and error.param == "model", repr(error))
    error = raises(openai.BadRequestError, lambda: ask(messages=[{"role": "user", "content": "the day " * 20000}]))
    check("a prompt that is too long has its code", error.code == "context_length_exceeded", repr(error))
    error = raises(openai.BadRequestError, lambda: ask(tools=[{"type": "function", "function": {"name": "f"}}]))
    check("tools are refused by name", error.param == "tools", repr(error))
    error = raises(openai.APIStatusError, lambda: ask(max_tokens=5, extra_headers={"x-request-timeout": "0.00001"}))
    check("a deadline is an APIStatusError", error.status_code == 504 and error.code == "deadline_exceeded", repr(error))

    def long_stream():
        stream = ask(max_tokens=100, n=100, stream=True, extra_headers={"x-request-timeout": "0.5"}, temperature=1)
        for _ in stream:
            pass

    error = raises(openai.APIError, long_stream)
    check("an error in a stream is an APIError", error.code == "deadline_exceeded", repr(error))
    if client.api_key != "none":
        wrong = openai.OpenAI(base_url=url + "/v1", api_key="fr-wrong", max_retries=0)
        error = raises(openai.AuthenticationError, lambda: wrong.models.list())
        check("a wrong key is an AuthenticationError", error.code == "invalid_api_key", repr(error))


def leaving(client):
    """Streams that are closed early must not keep others waiting."""
    for _ in range(20):
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=400, stream=True)
        next(iter(stream))
        stream.close()
    check("streams can be left", client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1).choices)


async def together(url, key):
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=120) as client:
        options = dict(model=MODEL, messages=MESSAGES, max_tokens=10, temperature=0)
        answers = await asyncio.gather(*(client.chat.completions.create(**options) for _ in range(12)))
        check("many at once are the same", len({answer.choices[0].message.content for answer in answers}) == 1)


def busy(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=400, temperature=1, n=1, stream=True)
    next(iter(stream))
    error = raises(
        openai.RateLimitError, lambda: client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    )
    check("a full queue is a RateLimitError", int(error.response.headers["retry-after"]) >= 1, repr(error))
    stream.close()
    # The package waits as it is told and tries again.
    patient = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=5)
    check("and patience helps", patient.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1).choices)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    parser.add_argument("--busy")
    arguments = parser.parse_args()
    began = time.monotonic()
    client = openai.OpenAI(base_url=arguments.url + "/v1", api_key=arguments.key, max_retries=0, timeout=120)
    for group in (models, chat, logprobs, completions, structured):
        group(client)
    errors(client, arguments.url)
    leaving(client)
    asyncio.run(together(arguments.url, arguments.key))
    if arguments.busy:
        busy(arguments.busy)
    print(f"openai {openai.__version__}: all well after {time.monotonic() - began:.1f} s")


main()
