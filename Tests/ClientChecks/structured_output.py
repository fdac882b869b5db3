"""Answers of a JSON schema from a real service, each validated. See Deploy/checks/structured-output."""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request

from service import Service, Table

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(TESTS / "Oracle"))
import validate  # noqa: E402

TOGETHER = 4
MAXIMUM_TOKENS = 256
TEMPERATURES = (0, 0.3, 0.7, 1.0, 1.3)
SHARE_FINISHED = 0.9


@dataclasses.dataclass
class Sample:
    name: str
    schema: dict
    prompt: str
    temperature: float
    seed: int
    streams: bool

    def body(self):
        return {
            "messages": [{"role": "user", "content": self.prompt}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": self.name.replace("-", "_"), "strict": True, "schema": self.schema},
            },
            "max_tokens": MAXIMUM_TOKENS,
            "temperature": self.temperature,
            "seed": self.seed,
            **({"stream": True, "stream_options": {"include_usage": True}} if self.streams else {}),
        }


@dataclasses.dataclass
class Answer:
    sample: Sample
    text: str = ""
    reason: str = ""
    tokens: int = 0
    # What is wrong with it; None: nothing.
    fault: str | None = None

    @property
    def is_finished(self):
        return self.reason == "stop"


def samples(count, seed):
    """Every schema equally often; prompts, temperatures and the way of answering change from round to round."""
    files = [(path.stem, json.loads(path.read_text())) for path in sorted((TESTS / "Schemas").glob("*.json"))]
    for index in range(count):
        name, file = files[index % len(files)]
        turn = index // len(files)
        prompts = file["prompts"]
        yield Sample(
            name,
            file["schema"],
            prompts[turn % len(prompts)],
            TEMPERATURES[turn % len(TEMPERATURES)],
            seed + index,
            streams=turn % 2 == 1,
        )


def ask(url, sample):
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(sample.body()).encode(), {"content-type": "application/json"}
    )
    answer = Answer(sample)
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            if sample.streams:
                read_stream(response, answer)
            else:
                whole = json.load(response)
                choice = whole["choices"][0]
                answer.text, answer.reason = choice["message"]["content"], choice["finish_reason"]
                answer.tokens = whole["usage"]["completion_tokens"]
    except urllib.error.HTTPError as error:
        answer.fault = f"{error.code}: {error.read().decode(errors='replace')[:300]}"
    except (OSError, ValueError, KeyError, IndexError) as error:
        answer.fault = f"no answer: {error!r}"
    if answer.fault is None and answer.is_finished:
        answer.fault = validate.fault(json.dumps(sample.schema), answer.text)
    elif answer.fault is None and answer.reason != "length":
        answer.fault = f"it ended for the reason {answer.reason!r}"
    return answer


def read_stream(response, answer):
    for line in response:
        data = line.decode().strip().removeprefix("data: ")
        if not data.startswith("{"):
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise ValueError(chunk["error"]["message"])
        for choice in chunk["choices"]:
            answer.text += choice["delta"].get("content") or ""
            answer.reason = choice["finish_reason"] or answer.reason
        if chunk.get("usage"):
            answer.tokens = chunk["usage"]["completion_tokens"]


class Progress:
    """A bar on a terminal, else a line now and then."""

    WIDTH = 40

    def __init__(self, count):
        self.count, self.done, self.began = count, 0, time.monotonic()

    def step(self, finished, faulty, tokens):
        self.done += 1
        seconds = time.monotonic() - self.began
        left = seconds / self.done * (self.count - self.done)
        text = (
            f"{self.done}/{self.count}, {100 * finished / self.done:.1f} % finished, {faulty} not valid, "
            f"{tokens / seconds:.0f} tokens/s, {left / 60:.0f} min left"
        )
        if sys.stderr.isatty():
            full = self.WIDTH * self.done // self.count
            end = "\n" if self.done == self.count else ""
            print(f"\r[{'#' * full}{'.' * (self.WIDTH - full)}] {text} ", end=end, file=sys.stderr, flush=True)
        elif self.done % max(1, self.count // 20) == 0 or self.done == self.count:
            print(text, file=sys.stderr, flush=True)


def run(url, arguments):
    answers, finished, faulty, tokens = [], 0, 0, 0
    progress = Progress(arguments.count)
    kept = open(arguments.keep, "a") if arguments.keep else None
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        waiting = [pool.submit(ask, url, sample) for sample in samples(arguments.count, arguments.seed)]
        for future in concurrent.futures.as_completed(waiting):
            answer = future.result()
            answers.append(answer)
            finished += answer.is_finished
            faulty += answer.fault is not None
            tokens += answer.tokens
            if kept:
                print(json.dumps(dataclasses.asdict(answer)), file=kept, flush=True)
            progress.step(finished, faulty, tokens)
    return answers, time.monotonic() - progress.began


def report(answers, seconds):
    table = Table("schema", "requests", "finished", "not valid", "tokens, mean", "tokens, most")
    by_name = collections.defaultdict(list)
    for answer in answers:
        by_name[answer.sample.name].append(answer)
    for name, group in [*sorted(by_name.items()), ("all", answers)]:
        ends = [answer.tokens for answer in group]
        table.add(
            name,
            len(group),
            sum(answer.is_finished for answer in group),
            sum(answer.fault is not None for answer in group),
            f"{sum(ends) / len(ends):.0f}",
            max(ends),
        )
    table.show()
    finished = sum(answer.is_finished for answer in answers)
    tokens = sum(answer.tokens for answer in answers)
    print(
        f"{100 * finished / len(answers):.1f} % of {len(answers)} finished within {MAXIMUM_TOKENS} tokens, "
        f"{sum(answer.fault is not None for answer in answers)} not valid, {tokens / seconds:.1f} tokens/s "
        f"({seconds:.0f} s)"
    )
    for answer in [answer for answer in answers if answer.fault is not None][:10]:
        sample = answer.sample
        where = f"{sample.name}, seed {sample.seed}, temperature {sample.temperature}, {sample.prompt!r}"
        print(f"{where}: {answer.fault}\n  {answer.text!r}", file=sys.stderr)
    return finished / len(answers)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--generated", action="store_true")
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    if arguments.count < 1:
        parser.error("--count must be at least 1")
    options = ["--listen", "127.0.0.1:*", "--log-level", "warning"]
    with Service(arguments.program, *options, *(["--generated"] if arguments.generated else [])) as service:
        answers, seconds = run(service.url, arguments)
    share = report(answers, seconds)
    held = all(answer.fault is None for answer in answers) and (arguments.generated or share >= SHARE_FINISHED)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
