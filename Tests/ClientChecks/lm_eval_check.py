"""lm-eval, unmodified, against a cluster, and its numbers against plain llama.cpp calls on the same files.

    lm_eval_check.py FUSIONROUTE LLAMA_ORACLE [--models DIRECTORY]

The directory has a router `router*.gguf`, its `head.gguf` and an expert `NAME*.gguf` for each that the head names; without
one, small models are generated. A cluster is started with `fusionroute up`; then lm-eval runs the tasks in lm_eval/ by
`local-completions`, tokenising with the server. Every log-likelihood that it reports is computed again from the logits
that llama-oracle, which knows nothing of the runtime, writes for router and experts.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "Oracle"))
from gguf_file import GGUF  # noqa: E402

TOLERANCE = 1e-4
CONTEXT = 512


def generate_models(program, folder):
    run = lambda *arguments: subprocess.run([program, "make-model", *arguments], check=True, stdout=subprocess.DEVNULL)
    router = str(folder / "router.gguf")
    run("random", router, "--layers", "4", "--width", "64")
    for seed, name in enumerate(("math", "code"), 1):
        run("perturb", router, str(folder / f"{name}.gguf"), "--strength", "0.3", "--seed", str(seed))
    run("head", str(folder / "head.gguf"), "--experts", "math,code", "--model", router)


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

    def cluster(self):
        experts = "".join(
            f"  {name}: {{ model: {path}, context: {CONTEXT}, slots: 2 }}\n" for name, path in zip(self.names, self.experts)
        )
        return (
            f"router: {{ model: {self.router}, head: {self.head}, context: {CONTEXT}, slots: 2 }}\nexperts:\n{experts}"
            "listen: { http: '127.0.0.1:*' }\n"
        )


class Oracle:
    """Log-softmax of the method's logits after each token, from plain llama.cpp."""

    def __init__(self, program, models, folder):
        self.program, self.models, self.folder = program, models, folder
        self.known = {}

    def rows(self, path, tokens, hidden=None):
        options = ["--hidden", str(hidden)] if hidden else []
        text = " ".join(map(str, tokens)).encode()
        output = subprocess.run([self.program, str(path), *options], input=text, stdout=subprocess.PIPE, check=True).stdout
        return np.frombuffer(output, np.float32).reshape(len(tokens), -1)

    def logits(self, tokens, model):
        hidden = self.folder / "hidden"
        router = self.rows(self.models.router, tokens, hidden)
        if model == "fusionroute:router":
            return router
        states = np.fromfile(hidden, np.float32).reshape(len(tokens), -1)
        weights = states.astype(np.float64) @ self.models.weight.T.astype(np.float64) + self.models.bias
        best = np.sort(weights, axis=1)[:, -2:]
        if (best[:, 1] - best[:, 0]).min() < 1e-4:
            sys.exit("two experts are too close to tell which one a token has; change the texts")
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
        rows = self.log_probabilities(tokens[:-1], model)[len(context) - 1:]
        likelihood = rows[np.arange(len(continuation)), continuation].sum()
        return likelihood, bool((rows.argmax(axis=1) == continuation).all())


class Service:
    def __init__(self, program, models, folder):
        file = folder / "cluster.yaml"
        file.write_text(models.cluster())
        self.process = subprocess.Popen(
            [program, "up", "-c", str(file), "--log-level", "warning"], stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if line.startswith("API"):
                self.url = line.split()[1].removesuffix("/v1")
                break
        else:
            sys.exit("`fusionroute up` ended before it served")
        self.wait()

    def wait(self):
        for _ in range(600):
            try:
                return self.get("/ready")
            except urllib.error.HTTPError:
                subprocess.run(["sleep", "0.2"], check=True)
        sys.exit("the cluster did not become ready")

    def get(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def encode(self, text):
        return self.get("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


def run_lm_eval(url, model, folder):
    output = folder / model.replace(":", "-")
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OPENAI_API_KEY": "none",
    }
    lm_eval = pathlib.Path(sys.executable).with_name("lm_eval")
    subprocess.run(
        [
            lm_eval, "run", "--model", "local-completions", "--tasks", "fr_choice,fr_generate,fr_rolling", "--include_path", ".",
            "--model_args", f"model={model},base_url={url}/v1/completions,max_length={CONTEXT},num_concurrent=3,eos_string=</s>",
            "--log_samples", "--output_path", str(output),
        ],
        cwd=HERE / "lm_eval", env=environment, check=True, stdout=sys.stderr,
    )
    samples = {}
    for file in output.rglob("samples_*.jsonl"):
        task = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        samples[task] = [json.loads(line) for line in file.read_text().splitlines()]
    return samples


def pair(service, context, continuation):
    """As lm-eval splits them: spaces at the end of a context belong to the continuation."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    whole, prefix = service.encode(context + continuation), service.encode(context)
    return prefix, whole[len(prefix):]


def check(service, oracle, model, samples):
    worst, count = 0.0, 0
    for sample in samples["fr_choice"]:
        for arguments, response in zip(sample["arguments"].values(), sample["resps"]):
            context, continuation = pair(service, arguments["arg_0"], arguments["arg_1"])
            expected, greedy = oracle.continuation(context, continuation, model)
            got, got_greedy = response[0]
            worst, count = max(worst, abs(float(got) - expected)), count + 1
            if str(got_greedy) != str(greedy):
                sys.exit(f"{model}: is_greedy of {arguments} is {got_greedy}, not {greedy}")
    information = service.get("/tokenizer_info")
    prefix = service.encode(information["bos_token"] or information["eos_token"])[:1]
    for sample in samples["fr_rolling"]:
        tokens = service.encode(sample["arguments"]["gen_args_0"]["arg_0"])
        expected, _ = oracle.continuation(prefix, tokens, model)
        got = sample["resps"][0][0]
        got = got[0] if isinstance(got, list) else got
        worst, count = max(worst, abs(float(got) - expected)), count + 1
    if worst > TOLERANCE:
        sys.exit(f"{model}: a log-likelihood is {worst:.3g} from that of plain llama.cpp calls")
    for sample in samples["fr_generate"]:
        text, prompt = sample["resps"][0][0], sample["arguments"]["gen_args_0"]["arg_0"]
        tokens = service.encode(prompt)
        whole = tokens + service.encode(text)
        # Whatever was generated before the stop string is what greedy decoding gives.
        rows = oracle.log_probabilities(whole, model).argmax(axis=1)
        answer = service.get("/detokenize", {"tokens": rows[len(tokens) - 1:-1].tolist()})["content"]
        if not (answer.startswith(text) or service.encode(text) != whole[len(tokens):]):
            sys.exit(f"{model}: {text!r} is not what greedy decoding gives, {answer!r}")
    generated = sum(1 for sample in samples["fr_generate"] if sample["resps"][0][0].strip())
    if generated == 0:
        sys.exit(f"{model}: nothing was generated")
    print(f"{model}: {count} log-likelihoods within {worst:.2g} of plain llama.cpp, {generated} texts generated", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("oracle")
    parser.add_argument("--models", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fr-lm-eval-") as temporary:
        folder = pathlib.Path(temporary)
        if arguments.models is None:
            generate_models(arguments.program, folder)
        models = Models(arguments.models or folder)
        service = Service(arguments.program, models, folder)
        try:
            oracle = Oracle(arguments.oracle, models, folder)
            for model in ("fusionroute", "fusionroute:router"):
                check(service, oracle, model, run_lm_eval(service.url, model, folder))
        finally:
            status = service.stop()
        if status != 0:
            sys.exit(f"`fusionroute up` ended with {status}")


main()
