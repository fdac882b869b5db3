"""The commands as other programs use them."""

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from fusionroute_evaluation import (
    benchmarks, choice, claims, files, formal, gate, generate, grade as grade_command, pairs, publish, trained,
)

PACKAGE = Path(__file__).resolve().parent.parent


def grade(*arguments, lines):
    """Runs the command on lines; returns what subprocess.run does."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return subprocess.run(
        [sys.executable, "-m", "fusionroute_evaluation.grade", *arguments],
        input=text,
        text=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )


def line(number, text, **more):
    return {
        "id": f"m/{number}",
        "task": "math",
        "prompt": "How many?",
        "messages": [],
        "text": text,
        "grader": {"name": "math", "answer": 5},
        **more,
    }


class GradeTests(unittest.TestCase):
    def test_a_verdict_for_each_line_in_order(self):
        done = grade(lines=[line(i, f"#### {5 + i % 2}") for i in range(50)])
        verdicts = [json.loads(text) for text in done.stdout.splitlines()]
        self.assertEqual([v["id"] for v in verdicts], [f"m/{i}" for i in range(50)])
        self.assertEqual([v["passed"] for v in verdicts], [i % 2 == 0 for i in range(50)])
        self.assertEqual(len({v["version"] for v in verdicts}), 1)
        self.assertRegex(verdicts[0]["version"], "^[0-9a-f]{12}$")
        self.assertEqual(done.returncode, 0)

    def test_a_verdict_comes_before_the_next_line(self):
        with subprocess.Popen(
            [sys.executable, "-m", "fusionroute_evaluation.grade"],
            stdin=subprocess.PIPE,
            text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        ) as process:
            for number in range(3):
                process.stdin.write(json.dumps(line(number, "#### 5")) + "\n")
                process.stdin.flush()
                self.assertTrue(json.loads(process.stdout.readline())["passed"])
            process.stdin.close()
            self.assertEqual(process.wait(30), 0)

    def test_a_line_without_a_usable_grader_is_an_error_of_that_line(self):
        done = grade(lines=[line(0, "x", grader={"name": "chess"}), line(1, "#### 5")])
        first, second = map(json.loads, done.stdout.splitlines())
        self.assertEqual((first["id"], "passed" in first), ("m/0", False))
        self.assertIn("chess", first["error"])
        self.assertTrue(second["passed"])

    def test_an_answer_that_cannot_be_graded_is_wrong(self):
        record = {
            "key": 1, "prompt": "x", "instruction_id_list": ["detectable_format:json_format"], "kwargs": [{}],
        }
        deep = line(1, "[" * 1200, grader={"name": "ifeval", "record": record})
        done = grade(lines=[deep, line(2, "#### 5")])
        verdicts = [json.loads(text) for text in done.stdout.splitlines()]
        self.assertEqual([v["passed"] for v in verdicts], [False, True], done.stderr)
        self.assertEqual(done.returncode, 0)

    def test_what_is_no_line_ends_it(self):
        for text in ("{", "[]", '{"text": 5, "grader": {"name": "math", "answer": 5}}', "[" * 100_000):
            done = grade(lines=[text])
            self.assertEqual((done.returncode, done.stdout), (65, ""), text[:50])
            self.assertTrue(done.stderr.startswith("grade: line 1: "), done.stderr)

    def test_what_is_no_list_of_messages_is_said_with_its_line(self):
        of_a_number = [{"role": "user", "content": 5}]
        for messages, word in ((5, '"messages"'), ({"role": "user"}, '"messages"'), (of_a_number, '"content"')):
            wrong = {**line(2, "#### 5"), "messages": messages}
            del wrong["prompt"]
            done = grade(lines=[line(1, "#### 5"), wrong])
            self.assertEqual((done.returncode, len(done.stdout.splitlines())), (65, 1), done.stderr)
            self.assertRegex(done.stderr, rf"\Agrade: line 2: [^\n]*{word}[^\n]*\n\Z")

    def test_a_faulty_line_does_not_end_the_others(self):
        faulty = [{"name": "formal", "answer": ""}, {"name": "instruct", "instructions": []}, {"name": "math", "answer": "five"}]
        done = grade(lines=[*(line(at, "#### 5", grader=grader) for at, grader in enumerate(faulty)), line(9, "#### 5")])
        verdicts = [json.loads(text) for text in done.stdout.splitlines()]
        self.assertEqual(["error" in verdict for verdict in verdicts], [True, True, True, False], done.stderr)
        self.assertEqual(done.returncode, 0)

    def test_the_version_is_of_all_code_and_of_the_packages(self):
        (verdict,) = map(json.loads, grade(lines=[line(1, "#### 5")]).stdout.splitlines())
        self.assertEqual(verdict["version"], grade_command.version())
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "evaluation/fusionroute_evaluation"
            shutil.copytree(PACKAGE / "fusionroute_evaluation", copy)
            alone = grade_command.version(copy)
            self.assertNotEqual(alone, grade_command.version())
            (copy.parent.parent / "lib").mkdir()
            requirements = copy.parent.parent / "lib/evaluation.requirements"
            shutil.copy(PACKAGE.parent / "lib/evaluation.requirements", requirements)
            self.assertEqual(grade_command.version(copy), grade_command.version())
            for path in (requirements, *(copy / name for name in ("sandbox/runner.py", "sandbox/keeper.py", "grade.py"))):
                text = path.read_bytes()
                path.write_bytes(text[:-1] + b" ")
                self.assertNotEqual(grade_command.version(copy), grade_command.version(), path)
                path.write_bytes(text)
            self.assertEqual(grade_command.version(copy), grade_command.version())

    def test_one_answer_by_exit_code_in_both_forms(self):
        record = json.dumps({"id": "m/1", "messages": [], "grader": {"name": "math", "answer": 5}})
        for text, code in (("#### 5", 0), ("#### 6", 1), ("", 1)):
            self.assertEqual(grade("--one", lines=[line(1, text)]).returncode, code)
            sampled = {"prompt": "How many?", "answer": text, "record": record}
            self.assertEqual(grade("--one", lines=[sampled]).returncode, code)
        for lines in ([], [line(1, "x", grader=None)], [{"prompt": "x", "answer": "y", "record": "{"}]):
            self.assertEqual(grade("--one", lines=lines).returncode, 65)


class UsageTests(unittest.TestCase):
    def test_wrong_usage_ends_with_64(self):
        for command in (benchmarks, choice, claims, formal, gate, generate, grade_command, pairs, publish, trained):
            name = command.__name__.rpartition(".")[2]
            with self.subTest(command=name), redirect_stderr(io.StringIO()) as errors:
                with self.assertRaises(SystemExit) as ended:
                    command.main(["a", "b", "c", "--nonsense"])
                self.assertEqual(ended.exception.code, 64)
                self.assertRegex(errors.getvalue(), rf"(?m)^{name}: .*--nonsense")

    def test_sizes_that_are_none_are_wrong_usage(self):
        wrong = [("5", "5"), ("[1]", "[1]"), ("{", "JSON")]
        wrong += [('{"chess": 5}', "chess"), ('{"math": -1}', "-1"), ('{"math": "many"}', "many")]
        for sizes, word in wrong:
            with self.subTest(sizes=sizes), redirect_stderr(io.StringIO()) as errors:
                with self.assertRaises(SystemExit) as ended:
                    generate.main(["folder", "--sizes", sizes])
                self.assertEqual(ended.exception.code, 64)
                self.assertIn(word, errors.getvalue())


class GenerateTests(unittest.TestCase):
    def run_generate(self, *arguments):
        output, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            code = generate.main([str(a) for a in arguments])
        return code, output.getvalue(), errors.getvalue()

    @staticmethod
    def key(line):
        return json.dumps(line["prompt"]) + line["completion"]

    def test_the_whole_chain_of_files(self):
        seed = random.SystemRandom().randrange(1 << 32)
        with tempfile.TemporaryDirectory() as folder:
            code, output, _ = self.run_generate(folder, "--short", "--seed", seed)
            self.assertEqual(code, 0, f"seed {seed}: {output}")
            self.assertIn("math test", output)
            requests = files.read(f"{folder}/requests.jsonl")
            text = "This is answer {} that people talk about a lot. It has been so for many years."
            files.write(
                f"{folder}/sampled.jsonl",
                [{"prompt": r["messages"], "completion": text.format(n)} for n, r in enumerate(requests)],
            )
            code, output, _ = self.run_generate(
                folder, "--short", "--seed", seed, "--answers", f"{folder}/sampled.jsonl"
            )
            self.assertEqual(code, 0, f"seed {seed}: {output}")
            mix = files.read(f"{folder}/data/router.jsonl")
            tasks = [line["task"] for line in mix]
            for task in generate.TASKS:
                self.assertEqual(tasks.count(task), generate.SHORT[f"router_{task}"], task)
            # Nobody is asked for what they have learnt by heart.
            for task in ("math", "code", "instruct"):
                learnt = {self.key(line) for line in files.read(f"{folder}/data/{task}.jsonl")}
                router = {self.key(line) for line in mix if line["task"] == task}
                self.assertEqual(learnt & router, set(), f"seed {seed}")
            # Nor in another form.
            expert, router = (
                {n for line in files.read(f"{folder}/data/{name}.jsonl") for n in re.findall(r"answer (\d+)", line["completion"])}
                for name in ("instruct", "router.instruct")
            )
            self.assertTrue(expert and router and not expert & router, f"seed {seed}: {expert} {router}")
            self.assertEqual({p.name for p in Path(folder).glob("prompts/*.jsonl")}, {"pairs.jsonl", "reward.jsonl"})
            for path in Path(folder).glob("prompts/*.jsonl"):
                self.assertEqual({prompt["task"] for prompt in files.read(path)}, {"math", "code", "instruct", "mixed"})
                self.assertTrue(
                    all("completion" not in prompt and prompt["messages"] for prompt in files.read(path)), path
                )
            pairs, reward = (
                {prompt["messages"][0]["content"] for prompt in files.read(f"{folder}/prompts/{name}.jsonl")}
                for name in ("pairs", "reward")
            )
            self.assertEqual(pairs & reward, set(), f"seed {seed}")
            identifiers = [task["id"] for p in Path(folder).glob("tasks/*.jsonl") for task in files.read(p)]
            self.assertEqual(len(set(identifiers)), len(identifiers))

    def test_spent_prompts_are_left_out(self):
        with tempfile.TemporaryDirectory() as all_of_them, tempfile.TemporaryDirectory() as fresh:
            for folder, sizes in ((all_of_them, {"test": 40}), (fresh, {"test": 20, "spent": 20})):
                code, output, _ = self.run_generate(folder, "--short", "--sizes", json.dumps(sizes))
                self.assertEqual(code, 0, output)
            for task in generate.TASKS:
                whole, kept = (files.read(f"{folder}/tasks/{task}.test.jsonl") for folder in (all_of_them, fresh))
                self.assertEqual(len(kept), 20)
                self.assertEqual(kept, whole[20:], task)

    def test_a_shared_prompt_is_reported(self):
        with tempfile.TemporaryDirectory() as folder:
            self.run_generate(folder, "--short")
            test = files.read(f"{folder}/tasks/math.test.jsonl")
            train = files.read(f"{folder}/data/math.jsonl")
            files.write(
                f"{folder}/data/math.jsonl",
                [*train, {**train[0], "prompt": test[0]["messages"], "tags": test[0]["tags"]}],
            )
            code, _, errors = self.run_generate(folder, "--report")
            self.assertEqual(code, 1)
            self.assertIn("share", errors)

    @staticmethod
    def with_prompt_of(line, other):
        """A training line that asks what a line of a task file does."""
        return {**line, "prompt": other["messages"], "tags": other["tags"]}

    def test_all_that_is_trained_on_is_compared(self):
        with tempfile.TemporaryDirectory() as folder:
            self.run_generate(folder, "--short")
            test = files.read(f"{folder}/tasks/code.test.jsonl")[0]
            for name in ("data/router", "data/stage2", "data/instruct", "data/router.mixed", "prompts/reward"):
                path = Path(folder, f"{name}.jsonl")
                before = path.read_text() if path.exists() else ""
                # Of another task, so that only what is compared with all of it can tell.
                for task in ("code", "math"):
                    shared = {**self.with_prompt_of(files.read(f"{folder}/data/math.jsonl")[0], test), "task": task}
                    path.write_text(before + json.dumps(shared) + "\n")
                    code, output, errors = self.run_generate(folder, "--report")
                    self.assertEqual(code, 1, (name, task, output))
                    self.assertRegex(output, r"code test +all training +\d+ +1 ")
                    self.assertIn("share", errors)
                path.write_text(before) if before else path.unlink()
            self.assertEqual(self.run_generate(folder, "--report")[0], 0)

    def test_held_out_kinds_in_training_are_faults(self):
        with tempfile.TemporaryDirectory() as folder:
            self.run_generate(folder, "--short")
            path = Path(folder, "prompts/pairs.jsonl")
            before = path.read_text()
            for name, task in generate.TASKS.items():
                # Other prompts than those of the task file.
                (held,) = task.examples("test", 1, 77, held_out=True)
                says_nothing = {**held, "tags": {k: v for k, v in held["tags"].items() if k != "held_out"}}
                says_only_that = {**held, "tags": {"held_out": True}, "grader": {}}
                for line in (says_nothing, says_only_that):
                    path.write_text(before + json.dumps(line) + "\n")
                    code, output, errors = self.run_generate(folder, "--report")
                    self.assertEqual(code, 1, (line, output))
                    self.assertRegex(output, rf"(?m)^{name} held-out +train .* 1$")
                    self.assertIn("held out", errors)
            for name, task in generate.TASKS.items():
                for split in ("train", "validation", "test"):
                    self.assertFalse(any(map(generate.is_held_out, task.examples(split, 150, 77))), (name, split))
                self.assertTrue(all(map(generate.is_held_out, task.examples("test", 50, 77, held_out=True))), name)

    def test_a_report_of_what_is_not_there_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            code, output, errors = self.run_generate(f"{folder}/none", "--report")
            self.assertEqual((code, output), (65, ""))
            self.assertIn(f"{folder}/none/", errors)
            self.assertFalse(Path(folder, "none").exists())
            self.run_generate(folder, "--short")
            for name in ("tasks/mixed.held-out.jsonl", "prompts/pairs.jsonl", "data/router.math.jsonl"):
                Path(folder, name).rename(f"{folder}/away")
                code, output, errors = self.run_generate(folder, "--report")
                self.assertEqual((code, output), (65, ""))
                self.assertIn(name, errors)
                Path(folder, "away").rename(f"{folder}/{name}")
            lines = files.read(f"{folder}/tasks/math.test.jsonl")
            for changes, word in (
                ({"messages": []}, "user"),
                ({"messages": 5}, "user"),
                ({"task": "chess"}, "task"),
                ({"task": []}, "task"),
                ({"tags": 5}, "tags"),
            ):
                files.write(f"{folder}/tasks/math.test.jsonl", [lines[0], {**lines[1], **changes}, *lines[2:]])
                code, _, errors = self.run_generate(folder, "--report")
                self.assertEqual(code, 65)
                self.assertRegex(errors, rf"math.test.jsonl:2: .*{word}")

    def test_what_cannot_be_written_is_said(self):
        code, output, errors = self.run_generate("/proc/nosuch", "--short")
        self.assertEqual((code, output), (65, ""))
        self.assertRegex(errors, r"\Agenerate: [^\n]*/proc/nosuch[^\n]*\n\Z")

    def test_answers_to_other_requests_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            self.run_generate(folder, "--short")
            others = [[{"role": "assistant", "content": "Yes."}], [{"role": "user", "content": []}]]
            for prompt in ("Something else.", None, 5, [], *others):
                files.write(f"{folder}/x.jsonl", [{"prompt": prompt, "completion": "Yes, it is."}])
                code, _, errors = self.run_generate(folder, "--answers", f"{folder}/x.jsonl")
                self.assertEqual(code, 65)
                self.assertIn("x.jsonl:1", errors)


class FileTests(unittest.TestCase):
    def test_a_file_is_written_whole_or_not_at_all(self):
        def lines(error):
            yield {"a": 1}
            raise error

        with tempfile.TemporaryDirectory() as folder:
            files.write(f"{folder}/x", [{"a": 0}])
            for error in (ValueError(), OSError(28, "No space left on device"), KeyboardInterrupt()):
                with self.assertRaises(type(error)):
                    files.write(f"{folder}/x", lines(error))
                self.assertEqual(os.listdir(folder), ["x"])
            # A folder is in the way.
            os.mkdir(f"{folder}/y")
            with self.assertRaises(OSError):
                files.write(f"{folder}/y", [{"a": 1}])
            self.assertEqual(sorted(os.listdir(folder)), ["x", "y"])
            self.assertEqual(files.read(f"{folder}/x"), [{"a": 0}])


class PairTests(unittest.TestCase):
    def test_right_against_wrong_of_all_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            prompts = [{"messages": [{"role": "user", "content": f"q{i}"}], "task": "math"} for i in range(40)]
            files.write(f"{folder}/prompts", prompts)
            head = {"samples_of": "x"}

            def answer(prompt, text, score, complete=True):
                return {"prompt": prompt, "sample": 0, "complete": complete, "score": score, "text": text}

            files.write(f"{folder}/a", [head, *(answer(i, f"right {i}", 1.0) for i in range(40))])
            wrong = [answer(i, f"wrong {i}", 0.0) for i in range(0, 40, 2)]
            unfit = [answer(1, "cut off", 0.0, complete=False), answer(3, " ", 0.0), answer(5, "\0", 0.0)]
            files.write(f"{folder}/b", [head, *wrong, *unfit])
            code = pairs.main(
                [f"{folder}/prompts", f"{folder}/out.jsonl", f"{folder}/a", f"{folder}/b", "--held-out", "0.3"]
            )
            self.assertEqual(code, 0)
            learnt, held_out = files.read(f"{folder}/out.jsonl"), files.read(f"{folder}/out.held-out.jsonl")
            for pair in learnt + held_out:
                number = pair["prompt"][0]["content"][1:]
                self.assertEqual((pair["chosen"], pair["rejected"]), (f"right {number}", f"wrong {number}"))
            self.assertEqual(len(learnt) + len(held_out), 20)
            sides = [{str(pair["prompt"]) for pair in side} for side in (learnt, held_out)]
            self.assertEqual(sides[0] & sides[1], set())
            files.write(f"{folder}/c", [head, answer(40, "x", 1.0)])
            self.assertEqual(pairs.main([f"{folder}/prompts", f"{folder}/out.jsonl", f"{folder}/c"]), 65)

    def run_pairs(self, folder, tasks, *arguments):
        """Of a right and a wrong answer to a prompt of each of `tasks`: (exit code, output, pairs, held-out ones)."""
        prompts = [{"messages": [{"role": "user", "content": f"q{i}"}], "task": task} for i, task in enumerate(tasks)]
        files.write(f"{folder}/prompts", prompts)
        answers = [
            {"prompt": i, "complete": True, "score": score, "text": f"{score}"}
            for i in range(len(tasks))
            for score in (0, 1)
        ]
        files.write(f"{folder}/a", [{"samples_of": "x"}, *answers])
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            code = pairs.main([f"{folder}/prompts", f"{folder}/out.jsonl", f"{folder}/a", *arguments])
        if code:
            return code, output.getvalue(), [], []
        held_out = Path(f"{folder}/out.held-out.jsonl").read_text().splitlines()
        return code, output.getvalue(), files.read(f"{folder}/out.jsonl"), [json.loads(line) for line in held_out]

    def test_a_held_out_pair_is_never_learnt(self):
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(20):
                for share, least in (("0.01", 1), ("0.5", 1), ("0", 0)):
                    options = ("--held-out", share, "--seed", str(seed))
                    code, output, learnt, held_out = self.run_pairs(folder, ["math", "code", "math"] * 4, *options)
                    self.assertEqual(code, 0, output)
                    self.assertGreaterEqual(len(held_out), least)
                    self.assertEqual(len(learnt) + len(held_out), 12)
                    self.assertFalse(any(pair in learnt for pair in held_out))
                    self.assertEqual(sum(pair["task"] == "code" for pair in learnt + held_out), 4)
                    self.assertTrue(output.endswith("held out: code 4, math 8\n"), output)
            code, output, _, _ = self.run_pairs(folder, ["math"])
            self.assertEqual(code, 65)
            self.assertIn("too few prompts", output)

    def test_what_cannot_be_written_is_said(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(f"{folder}/out.jsonl")
            code, output, _, _ = self.run_pairs(folder, ["math", "code"])
            self.assertEqual(code, 65)
            self.assertRegex(output, r"\Apairs: [^\n]*out.jsonl[^\n]*\n\Z")


if __name__ == "__main__":
    unittest.main()
