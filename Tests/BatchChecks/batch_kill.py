"""A coordinator that is killed while it runs a batch; see Deploy/checks/batch-kill.

    batch_kill.py PROGRAM [--kills N] [--requests N] [--seed N]

Uses the openai package, unmodified. Exits with 1 at the first request that is lost, answered twice or answered otherwise
than without a kill.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import openai

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "DoorChecks"))
from service import Failure, Service, require, until  # noqa: E402

WORDS = "river bread computer forest number verb animal story winter garden letter music".split()
ENDPOINT = "/v1/chat/completions"
# One in so many requests is wrong, and its answer an error.
BAD = 20


def lines(count, rng):
    for index in range(count):
        body = {
            "model": "fusionroute",
            "messages": [{"role": "user", "content": " ".join(rng.choices(WORDS, k=rng.randrange(3, 12)))}],
            "max_tokens": rng.randrange(8, 40),
            "temperature": rng.choice([0, 0.8]),
            "seed": rng.getrandbits(32),
        }
        if index % BAD == BAD - 1:
            body["max_tokens"] = 0
        yield {"custom_id": f"request-{index}", "method": "POST", "url": ENDPOINT, "body": body}


def essence(line):
    """What an answer says, without what differs from one computation of it to the next: times and names."""
    response = line["response"]
    body = response["body"]
    if response["status_code"] != 200:
        return response["status_code"], body["error"]["message"]
    return response["status_code"], json.dumps(
        [[c["index"], c["message"]["content"], c["finish_reason"]] for c in body["choices"]]
        + [body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]])


class Check:
    def __init__(self, program, folder, arguments):
        self.arguments = arguments
        self.rng = random.Random(arguments.seed)
        self.service = Service(program, folder, extra="gateway: { journal: journal.db, batch_concurrency: 3 }")
        self.client = openai.OpenAI(base_url=f"{self.service.url}/v1", api_key="none", max_retries=0)
        self.input = os.path.join(folder, "input.jsonl")
        with open(self.input, "w") as file:
            for line in lines(arguments.requests, self.rng):
                file.write(json.dumps(line) + "\n")

    def start(self):
        self.service.start_coordinator()
        self.service.start_worker("one", "a")
        self.service.start_worker("two", "b")
        until("readiness", 60, self.service.is_ready)

    def create(self):
        with open(self.input, "rb") as file:
            uploaded = self.client.files.create(file=file, purpose="batch")
        require(uploaded.bytes == os.path.getsize(self.input), f"the file came in as {uploaded}")
        return self.client.batches.create(
            input_file_id=uploaded.id, endpoint=ENDPOINT, completion_window="24h", metadata={"name": "kill"})

    def batch(self, identifier):
        """None while nobody answers."""
        try:
            return self.client.batches.retrieve(identifier)
        except (openai.APIConnectionError, openai.InternalServerError):
            return None

    def results(self, batch):
        """Every line of output and error file, by custom_id; each must come once."""
        require(batch.status == "completed", f"the batch is {batch.status}: {batch.errors}")
        found = {}
        for identifier in filter(None, [batch.output_file_id, batch.error_file_id]):
            for text in self.client.files.content(identifier).text.splitlines():
                line = json.loads(text)
                require(line["custom_id"] not in found, f"{line['custom_id']} was answered twice")
                found[line["custom_id"]] = essence(line)
        counts, total = batch.request_counts, self.arguments.requests
        require(set(found) == {f"request-{index}" for index in range(total)}, f"{len(found)} of {total} were answered")
        bad = sum(status != 200 for status, _ in found.values())
        require((counts.total, counts.failed) == (total, bad), f"the counts are {counts}, {bad} failed")
        require(
            bad == total // BAD, f"{bad} requests failed, one with {next((m for s, m in found.values() if s != 200), None)}")
        return found

    def undisturbed(self):
        batch = self.create()
        while batch.status not in ("completed", "failed", "expired"):
            time.sleep(0.1)
            batch = self.batch(batch.id) or batch
        return self.results(batch)

    # ---- Kills

    def kill(self):
        process = self.service.coordinator
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.service.start_coordinator()

    def disturbed(self):
        kills, total = self.arguments.kills, self.arguments.requests
        batch = self.create()
        asker = Asker(self.service.url, 4, self.rng.getrandbits(32))
        done, seen, ended = 0, [], 0
        end = time.monotonic() + 60 + 20 * kills + total
        while batch.status not in ("completed", "failed", "expired"):
            require(time.monotonic() < end, f"the batch is {batch.status} with {ended} answers after {done} kills")
            now = self.batch(batch.id)
            if now is None:
                require(self.service.coordinator.poll() is None, "the coordinator does not start again")
                time.sleep(0.05)
                continue
            batch, ended = now, now.request_counts.completed + now.request_counts.failed
            # Spread over the batch, the first before anything is answered.
            if done < kills and ended >= done * total // (kills + 1):
                time.sleep(self.rng.random() * 0.3)
                self.kill()
                done += 1
                seen.append(ended)
            time.sleep(0.02)
        require(done == kills, f"only {done} kills came in time")
        print(f"killed when so many were answered: {', '.join(map(str, seen))}", flush=True)
        answers = asker.end()
        return self.results(batch), answers


class Asker:
    """Interactive requests with an idempotency key, asked again until they are answered, and then once more."""

    def __init__(self, url, count, seed):
        self.url, self.rng, self.lock = url, random.Random(seed), threading.Lock()
        self.answers, self.problems, self.ending = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(index,), daemon=True) for index in range(count)]
        for thread in self.threads:
            thread.start()

    def post(self, key, body):
        request = urllib.request.Request(
            f"{self.url}/v1/completions", body, {"content-type": "application/json", "idempotency-key": key})
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read()

    def ask(self, index):
        number = 0
        while not self.ending.is_set():
            number += 1
            key = f"key-{index}-{number}"
            # No seed: computed a second time it would be another answer.
            body = json.dumps({"prompt": " ".join(self.rng.choices(WORDS, k=4)), "max_tokens": 24}).encode()
            answer = self.until_answered(key, body)
            if answer is None:
                continue
            again = self.until_answered(key, body)
            with self.lock:
                self.answers += 1
                if again != answer:
                    self.problems.append(f"{key} was answered twice: {answer} and {again}")

    def until_answered(self, key, body):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                return self.post(key, body)
            except urllib.error.HTTPError as error:
                if error.code not in (409, 429, 503):
                    break
            except OSError:
                pass
            except Exception:  # noqa: BLE001 - the connection broke in the middle of an answer
                pass
            time.sleep(0.1)
        with self.lock:
            self.problems.append(f"{key} was not answered")
        return None

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()
        require(not self.problems, "; ".join(self.problems[:3]))
        return self.answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.getrandbits(32))
    arguments = parser.parse_args()
    print(f"batch-kill: seed {arguments.seed}", flush=True)
    folder = tempfile.mkdtemp(prefix="fr-batch-")
    check = Check(os.path.abspath(arguments.program), folder, arguments)
    try:
        check.start()
        start = time.monotonic()
        reference = check.undisturbed()
        print(f"undisturbed: {len(reference)} requests in {time.monotonic() - start:.1f} s", flush=True)
        start = time.monotonic()
        found, asked = check.disturbed()
        wrong = [name for name, answer in reference.items() if found[name] != answer]
        for name in wrong[:1]:
            raise Failure(f"{len(wrong)} answers differ, {name}: {reference[name]} and {found[name]}")
        print(
            f"ok   {arguments.kills} kills during {len(found)} requests ({time.monotonic() - start:.1f} s): each ended "
            f"once, with the same answer; {asked} requests with a key were answered once", flush=True)
        return 0
    except Failure as failure:
        print(f"FAIL {failure}", file=sys.stderr)
        for name in sorted(os.listdir(folder)):
            if name.endswith(".log"):
                print(f"--- {name}\n" + "\n".join(check.service.log(name).splitlines()[-15:]), file=sys.stderr)
        return 1
    finally:
        check.service.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
