"""lm-eval, unmodified, against `fusionroute up`, and its numbers against plain llama.cpp calls on the same files.

    lm_eval_check.py FUSIONROUTE LLAMA_ORACLE [--generated] [--default]

On generated models, on those of the demo, or on both. lm-eval runs the tasks in lm_eval/ by `local-completions`,
tokenising with the server. Every log-likelihood that it reports is computed again from the logits that llama-oracle,
which knows nothing of the runtime, writes for router and experts; every text, from the tokens with the highest.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from service import Service, Table

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "Oracle"))
from gguf_file import GGUF  # noqa: E402

TOLERANCE = 1e-4
MODES = ("fusionroute", "fusionroute:router")


class CheckFailure(Exception):
    pass


class Models:
    def __init__(self, folder):
        only = lambda pattern: next(iter(sorted(folder.glob(pattern))))
        self.head = only("head.gguf")
        head = GGUF(str(self.head))
        self.names = head.metadata["fusionroute.experts"]
        self.scale = np.float32(head.metadata.get("fusionroute.complement_scale", 1))
        self.weight = head.tensor("routing_head.weight", np.float32)
        self.bias = head.tensor("routing_head.bias", np.float32) if "routing_head.bias" in head.entries else 0
        self.router = only("router*.gguf")
        self.experts = [only(f"{name}*.gguf") for name in self.names]


class Oracle:
    """Log-softmax of the method's logits after each token, from plain llama.cpp."""

    def __init__(self, program, models, folder):
        self.program, self.models, self.folder = program, models, folder
        self.known, self.read = {}, {}

    def rows(self, path, tokens, hidden=None):
        key = (path, tuple(tokens))
        if hidden or key not in self.read:
            self.read[key] = self.evaluate(path, tokens, hidden)
        return self.read[key]

    def evaluate(self, path, tokens, hidden):
        options = ["--hidden", str(hidden)] if hidden else []
        text = " ".join(map(str, tokens)).encode()
        output = subprocess.run(
            [self.program, str(path), *options], input=text, stdout=subprocess.PIPE, check=True
        ).stdout
        return np.frombuffer(output, np.float32).reshape(len(tokens), -1)

    def logits(self, tokens, model):
        if model == "fusionroute:router":
            return self.rows(self.models.router, tokens)
        hidden = self.folder / "hidden"
        router = self.rows(self.models.router, tokens, hidden)
        states = np.fromfile(hidden, np.float32).reshape(len(tokens), -1)
        weights = states.astype(np.float64) @ self.models.weight.T.astype(np.float64) + self.models.bias
        best = np.sort(weights, axis=1)[:, -2:]
        if (best[:, 1] - best[:, 0]).min() < 1e-4:
            raise CheckFailure("two experts are too close to tell which one a token has; change the texts")
        experts = np.stack([self.rows(path, tokens) for path in self.models.experts])
        selected = experts[weights.argmax(axis=1), np.arange(len(tokens))]
        return self.models.scale * router + selected

    def log_probabilities(self, tokens, model):
        key = (model, tuple(tokens))
        if key not in self.known:
            logits = self.logits(tokens, model).astype(np.float64)
            shifted = logits - logits.max(axis=1, keepdims=True)
            self.known[key] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return self.known[key]

    def continuation(self, context, continuation, model):
        """Sum over the continuation's tokens, and whether each of them is the likeliest."""
        tokens = context + continuation
        rows = self.log_probabilities(tokens[:-1], model)[len(context) - 1 :]
        likelihood = rows[np.arange(len(continuation)), continuation].sum()
        return likelihood, bool((rows.argmax(axis=1) == continuation).all())


def run_lm_eval(service, model, folder):
    """What lm-eval keeps of each request, by task."""
    output = folder / model.replace(":", "-")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "OPENAI_API_KEY": "none",
    }
    options = {
        "model": model,
        "base_url": f"{service.url}/v1/completions",
        "max_length": service.status()["router"]["context"],
        "num_concurrent": 3,
        "eos_string": service.get("/tokenizer_info")["eos_token"],
    }
    command = [pathlib.Path(sys.executable).with_name("lm_eval"), "run", "--model", "local-completions"]
    command += ["--tasks", "fr_choice,fr_generate,fr_rolling", "--include_path", "."]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in options.items())]
    command += ["--log_samples", "--output_path", str(output)]
    with tempfile.TemporaryFile() as log:
        if subprocess.run(command, cwd=HERE / "lm_eval", env=environment, stdout=log, stderr=log).returncode != 0:
            log.seek(0)
            raise CheckFailure("lm_eval failed:\n" + log.read().decode(errors="replace")[-3000:])
    samples = {}
    for file in output.rglob("samples_*.jsonl"):
        task = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        samples[task] = [json.loads(line) for line in file.read_text().splitlines()]
    return samples


def split(service, context, continuation):
    """As lm-eval splits them: spaces at the end of a context belong to the continuation."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    whole, prefix = service.encode(context + continuation), service.encode(context)
    return prefix, whole[len(prefix) :]


class Check:
    """What one mode's answers come to; `faults` has a sentence for each that is wrong."""

    def __init__(self, service, oracle, model):
        self.service, self.oracle, self.model = service, oracle, model
        self.likelihoods = self.tokens = self.texts = 0
        self.worst = 0.0
        self.faults = []

    def likelihood(self, what, got, expected):
        difference = abs(float(got) - expected)
        self.likelihoods += 1
        self.worst = max(self.worst, difference)
        # Not a number is not within the tolerance either.
        if not difference <= TOLERANCE:
            self.faults.append(f"the log-likelihood of {what!r} is {got}, and {expected:.6f} by plain llama.cpp calls")

    def choices(self, samples):
        for sample in samples:
            for arguments, (response,) in zip(sample["arguments"].values(), sample["resps"]):
                context, continuation = split(self.service, arguments["arg_0"], arguments["arg_1"])
                expected, greedy = self.oracle.continuation(context, continuation, self.model)
                got, is_greedy = response
                self.likelihood(arguments["arg_1"], got, expected)
                if str(is_greedy) != str(greedy):
                    self.faults.append(f"is_greedy of {arguments['arg_1']!r} is {is_greedy}, not {greedy}")

    def rolling(self, samples):
        information = self.service.get("/tokenizer_info")
        prefix = self.service.encode(information["bos_token"] or information["eos_token"])[:1]
        for sample in samples:
            text = sample["arguments"]["gen_args_0"]["arg_0"]
            expected, _ = self.oracle.continuation(prefix, self.service.encode(text), self.model)
            got = sample["resps"][0][0]
            self.likelihood(text, got[0] if isinstance(got, list) else got, expected)

    def generations(self, samples):
        """The texts are those of the tokens that the service tells of, and each of these is the likeliest after those
        before it, which makes them what greedy decoding gives."""
        for sample in samples:
            arguments = sample["arguments"]["gen_args_0"]
            text, prompt = sample["resps"][0][0], self.service.encode(arguments["arg_0"])
            limits = arguments["arg_1"]
            body = {"model": self.model, "prompt": prompt, "temperature": 0, "stop": limits["until"]}
            answer = self.service.get("/v1/completions", {**body, "max_tokens": limits["max_gen_toks"]})["choices"][0]
            if answer["text"] != text:
                self.faults.append(
                    f"lm-eval got the text {text!r}, and a request like its own gives {answer['text']!r}"
                )
            tokens = [token["id"] for token in answer["fusionroute"]["tokens"]]
            rows = self.oracle.log_probabilities(prompt + tokens[:-1], self.model)[len(prompt) - 1 :]
            if rows.argmax(axis=1).tolist() != tokens:
                self.faults.append(f"the tokens {tokens} of {text!r} are not the greedy {rows.argmax(axis=1).tolist()}")
            self.texts += bool(text.strip())
            self.tokens += len(tokens)

    def run(self, samples):
        self.choices(samples["fr_choice"])
        self.rolling(samples["fr_rolling"])
        self.generations(samples["fr_generate"])
        if self.likelihoods < 10 or self.texts == 0:
            self.faults.append(f"only {self.likelihoods} log-likelihoods and {self.texts} texts were there to compare")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("oracle")
    parser.add_argument("--generated", action="store_true")
    parser.add_argument("--default", action="store_true")
    arguments = parser.parse_args()
    table = Table("models", "model", "log-likelihoods", "largest difference", "texts", "greedy tokens", "holds")
    faults = []
    for name, options in [("generated", ["--generated"]), ("default", [])]:
        if not getattr(arguments, name):
            continue
        options += ["--listen", "127.0.0.1:*", "--log-level", "warning"]
        with tempfile.TemporaryDirectory(prefix="fr-lm-eval-") as folder, Service(
            arguments.program, *options
        ) as service:
            folder = pathlib.Path(folder)
            oracle = Oracle(arguments.oracle, Models(service.models()), folder)
            for model in MODES:
                print(f"lm-eval: {name} models, {model}", file=sys.stderr, flush=True)
                check = Check(service, oracle, model)
                check.run(run_lm_eval(service, model, folder))
                faults += [f"{name} models, {model}: {fault}" for fault in check.faults]
                numbers = [check.likelihoods, f"{check.worst:.1e}", check.texts, check.tokens]
                table.add(name, model, *numbers, "no" if check.faults else "yes")
    table.show()
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
