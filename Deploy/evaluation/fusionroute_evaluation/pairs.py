"""The command Deploy/evaluation/pairs; see there."""

import math
import sys

from . import files
from .arguments import Parser
from .files import BadInput
from .tasks.common import stream


def answers_of(path, prompts):
    """What `fusionroute sample` keeps beside its result: (prompt's number, text, whether it passed), complete ones."""
    found = []
    for number, line in enumerate(files.read(path)[1:], 2):
        index, text, score = line.get("prompt"), line.get("text"), line.get("score")
        is_known = isinstance(index, int) and 0 <= index < len(prompts)
        if not is_known or not isinstance(text, str) or not isinstance(score, (int, float)):
            raise BadInput(f"{path}:{number}: this is no answer to one of {len(prompts)} prompts")
        # Models do write NUL, which no chat message may hold.
        if line.get("complete") is True and text.strip() and "\0" not in text:
            found.append((index, text, score >= 1))
    return found


def pairs(prompts, answers, per_prompt, rng):
    """Answers that passed against answers that did not, each at most once, and those of similar length first."""
    by_prompt = {}
    for index, text, passed in answers:
        by_prompt.setdefault(index, {True: [], False: []})[passed].append(text)
    made = []
    for index in sorted(by_prompt):
        right, wrong = (sorted(set(by_prompt[index][passed])) for passed in (True, False))
        rng.shuffle(right)
        for chosen in right[:per_prompt]:
            if not wrong:
                break
            rejected = min(wrong, key=lambda text: abs(math.log(len(text) / len(chosen))))
            wrong.remove(rejected)
            line = prompts[index]
            made.append({"prompt": line["messages"], "chosen": chosen, "rejected": rejected, "task": line["task"]})
    return made


def main(arguments=None):
    parser = Parser(prog="pairs")
    parser.add_argument("prompts")
    parser.add_argument("out")
    parser.add_argument("answers", nargs="+")
    parser.add_argument("--per-prompt", type=int, default=2)
    parser.add_argument("--held-out", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        prompts = files.read(options.prompts)
        rng = stream(options.seed, "pairs")
        answers = [answer for path in options.answers for answer in answers_of(path, prompts)]
        made = pairs(prompts, answers, options.per_prompt, rng)
        # By prompt, so that no prompt is on both sides.
        kept_back = {index for index in range(len(prompts)) if rng.random() < options.held_out}
        texts = {str(prompts[index]["messages"]) for index in kept_back}
        held_out = [pair for pair in made if str(pair["prompt"]) in texts]
        if made and not held_out and options.held_out > 0:
            # `fusionroute train` refuses a file without pairs.
            texts = {str(made[-1]["prompt"])}
            held_out = [pair for pair in made if str(pair["prompt"]) in texts]
        learnt = [pair for pair in made if str(pair["prompt"]) not in texts]
        if not learnt:
            raise BadInput(f"too few prompts of {options.prompts} have both a right and a wrong answer")
        rng.shuffle(learnt)
        files.write(options.out, learnt)
        files.write(options.out.removesuffix(".jsonl") + ".held-out.jsonl", held_out)
    except (BadInput, KeyError, OSError) as error:
        print(f"pairs: {error}", file=sys.stderr)
        return 65
    tasks = sorted({pair["task"] for pair in made})
    shares = ", ".join(f"{task} {sum(pair['task'] == task for pair in made)}" for task in tasks)
    print(f"{len(learnt)} pairs and {len(held_out)} held out: {shares}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
