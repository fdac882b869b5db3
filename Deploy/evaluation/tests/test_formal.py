"""The formal world: its answers by other definitions, its splits, its grader and its command."""

import io
import itertools
import json
import random
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout

from fusionroute_evaluation import contamination, files, formal
from fusionroute_evaluation.graders import Grader
from fusionroute_evaluation.tasks import common
from fusionroute_evaluation.tasks import formal as world

TASKS = (*world.DOMAINS, "mixed")


def lists_of(text):
    """Head and symbols of each line."""
    return [(line.split()[0], [*"".join(line.split()[1:])]) for line in text.split("\n")]


def holds(verb, given, answer):
    """Whether an answer is right, said by what is true of it instead of by how it is made."""
    if len(given) != len(answer):
        return False
    if verb == "sort":
        return all(a <= b for a, b in itertools.pairwise(answer)) and sorted(given) == sorted(answer)
    if verb == "close":
        # Opened and closed it is balanced: pairs can be taken out until nothing is left.
        text = "".join((*given, *answer))
        while any(pair in text for pair in ("()", "[]", "{}", "<>")):
            for pair in ("()", "[]", "{}", "<>"):
                text = text.replace(pair, "")
        return text == "" and all(symbol in ")]}>" for symbol in answer)
    if verb == "sum":
        numbers = [0, *map(int, answer)]
        return all((b - a - int(d)) % 10 == 0 for a, b, d in zip(numbers, numbers[1:], given))
    return verb == "say" and given == answer


class FormalTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.seed = random.SystemRandom().randrange(1 << 32)
        cls.grader = Grader()

    def message(self, *rest):
        return f"seed {self.seed}: {rest}"

    def training(self):
        for task in TASKS:
            yield from world.examples(task, "train", 150, self.seed)
        for task in world.DOMAINS:
            yield from world.expert_examples(task, 150, self.seed)
        yield from world.base_examples(400, self.seed)

    def test_answers_are_right(self):
        for line in self.training():
            prompt, answer = lists_of(contamination.prompt_of(line)), lists_of(line["completion"])
            self.assertEqual([head for head, _ in answer], ["="] * len(prompt), self.message(line))
            for (verb, given), (_, symbols) in zip(prompt, answer):
                self.assertTrue(holds(verb, given, symbols), self.message(line))

    def test_the_same_seed_gives_the_same_lines_and_another_one_others(self):
        for task in TASKS:
            a, b, c = (json.dumps(world.examples(task, "test", 20, s)) for s in (self.seed, self.seed, self.seed + 1))
            self.assertEqual(a, b, self.message(task))
            self.assertNotEqual(a, c, self.message(task))

    def test_lists_belong_to_one_split(self):
        keys = {}
        for at, split in enumerate(common.SPLITS):
            lines = [line for task in TASKS for line in world.examples(task, split, 120, self.seed + at)]
            self.assertEqual(len({contamination.prompt_of(line) for line in lines}), len(lines), self.message(split))
            keys[split] = set().union(*map(formal.keys_of, lines))
        for a, b in itertools.combinations(common.SPLITS, 2):
            self.assertEqual(keys[a] & keys[b], set(), self.message(a, b))
        for task in world.DOMAINS:
            learnt = set().union(*map(formal.keys_of, world.expert_examples(task, 300, self.seed)))
            self.assertTrue(learnt, self.message(task))
            self.assertEqual(learnt & (keys["validation"] | keys["test"]), set(), self.message(task))

    def test_the_base_learns_no_list_that_is_asked_for(self):
        for line in world.base_examples(600, self.seed):
            self.assertEqual(formal.keys_of(line), set(), self.message(line))

    def test_an_expert_sees_only_its_own_verb_and_neutral_lines(self):
        for task in world.DOMAINS:
            verbs = [
                verb
                for line in world.expert_examples(task, 300, self.seed)
                for verb, _ in lists_of(line["prompt"][0]["content"])
            ]
            self.assertEqual(set(verbs), {task, "say"}, self.message(task))

    def test_mixed_prompts_need_two_experts_in_every_order(self):
        orders = {line["tags"]["verbs"] for line in world.examples("mixed", "test", 200, self.seed)}
        self.assertEqual(orders, {"+".join(pair) for pair in itertools.permutations(world.DOMAINS, 2)})

    def test_right_answers_pass_and_others_do_not(self):
        rng = random.Random(self.seed)
        for task in TASKS:
            for line in world.examples(task, "train", 100, self.seed):
                answer = line["completion"]

                def passes(text, fields=line["grader"]):
                    return self.grader.grade(fields, text).passed

                self.assertTrue(passes(answer) and passes(answer + " \n"), self.message(line))
                symbols = answer.split(" ")
                at = rng.randrange(1, len(symbols))
                damaged = [
                    "",
                    "=",
                    contamination.prompt_of(line),
                    answer.replace("=", ""),
                    " ".join(symbols[:-1]),
                    " ".join([*symbols, symbols[-1]]),
                    " ".join([*symbols[:at], "z", *symbols[at + 1 :]]),
                    f"{answer}\n= a",
                    f"= a\n{answer}",
                ]
                if task == "mixed":
                    damaged += ["\n".join(reversed(answer.split("\n"))), answer.split("\n")[0]]
                for text in damaged:
                    if text != answer:
                        self.assertFalse(passes(text), self.message(line, text))

    def test_the_parts_of_a_mixed_answer_are_graded_apart(self):
        fields = {"name": "formal", "answer": "= a b c\n= 123"}
        for text, parts in (
            ("= a b c\n= 123", (True, True)),
            ("= a b c\n= 124", (True, False)),
            ("= a c b\n= 123", (False, True)),
            ("= a b c", (True, False)),
            ("nothing", (False, False)),
        ):
            verdict = self.grader.grade(fields, text)
            self.assertEqual(tuple(verdict.parts[name] for name in ("first", "second")), parts, text)
            self.assertEqual(verdict.passed, all(parts), text)

    def test_a_share_of_right_symbols_can_be_enough(self):
        fields = {"name": "formal", "answer": "= a b c"}
        half = {**fields, "least": 0.5}
        for text, score in (("= a b c", 1.0), ("= a c b", 0.5), ("= c a b", 0.25), ("", 0.0)):
            self.assertEqual(self.grader.grade(fields, text).score, score, text)
            self.assertEqual(self.grader.grade(fields, text).passed, score == 1, text)
            self.assertEqual(self.grader.grade(half, text).passed, score >= 0.5, text)
        # Digits stand together and are symbols each.
        digits = {"name": "formal", "answer": "= 3809", "least": 0.4}
        for text, score in (("= 3808", 0.8), ("= 9", 0.2), ("=", 0.2)):
            self.assertEqual(self.grader.grade(digits, text).score, score, text)
            self.assertEqual(self.grader.grade(digits, text).passed, score >= 0.4, text)
        # All of it right and more behind it is still not right.
        self.assertLess(self.grader.grade(fields, "= a b c\n= a").score, 1)

    def test_every_symbol_and_word_is_in_the_text_of_the_vocabulary_twice(self):
        text = world.words()
        words = {*world.DOMAINS, world.NEUTRAL, "=", "user", "assistant", *world.LETTERS, *world.DIGITS}
        for word in words | set(world.BRACKETS) | set(world.BRACKETS.values()):
            self.assertGreaterEqual(text.split().count(word), 2, word)


class FormalCommandTests(unittest.TestCase):
    def run_formal(self, *arguments):
        output, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            code = formal.main([str(argument) for argument in arguments])
        return code, output.getvalue(), errors.getvalue()

    def test_the_whole_world(self):
        seed = random.SystemRandom().randrange(1 << 32)
        with tempfile.TemporaryDirectory() as folder:
            code, output, errors = self.run_formal(folder, "--short", "--seed", seed)
            self.assertEqual(code, 0, f"seed {seed}: {output}{errors}")
            router = files.read(f"{folder}/data/router.jsonl")
            self.assertEqual(sum(line["task"] == "mixed" for line in router), len(router) // 4)
            learnt = {contamination.prompt_of(line) for line in router}
            for name in ("pairs", "reward"):
                asked = files.read(f"{folder}/prompts/{name}.jsonl")
                self.assertEqual({line["task"] for line in asked}, set(TASKS))
                self.assertTrue(all("completion" not in line and line["grader"]["least"] < 1 for line in asked))
                self.assertEqual(learnt & {contamination.prompt_of(line) for line in asked}, set(), f"seed {seed}")
            identifiers = [line["id"] for task in TASKS for line in files.read(f"{folder}/tasks/{task}.test.jsonl")]
            self.assertEqual(len(set(identifiers)), 4 * formal.SHORT["test"])
            held_out = files.read(f"{folder}/data/held-out.jsonl")
            self.assertEqual(len(held_out), 4 * formal.SHORT["held_out"])
            self.assertTrue(all(line["completion"] == line["grader"]["answer"] for line in held_out))
            self.assertTrue(
                all("least" not in line["grader"] for line in files.read(f"{folder}/tasks/mixed.test.jsonl"))
            )

    def test_a_shared_list_is_reported(self):
        with tempfile.TemporaryDirectory() as folder:
            self.run_formal(folder, "--short")
            test = files.read(f"{folder}/tasks/sort.test.jsonl")
            verb, *symbols = contamination.prompt_of(test[0]).split()
            # The same letters in another order are the same list.
            moved = " ".join([verb, *symbols[1:], symbols[0]])
            data = files.read(f"{folder}/data/sort.jsonl")
            data.append({"prompt": [{"role": "user", "content": moved}], "completion": "= a"})
            files.write(f"{folder}/data/sort.jsonl", data)
            code, _, errors = self.run_formal(folder, "--report")
            self.assertEqual(code, 1)
            self.assertIn("share", errors)


if __name__ == "__main__":
    unittest.main()
