"""Answers of a table as they are published, and taken again."""

import contextlib
import io
import json
import os
import tempfile
import unittest

from fusionroute_evaluation import publish, trained


def line(method, number, key="k", text="text"):
    return {"key": key, "method": method, "id": f"t/{number}", "task": "t", "text": text, "passed": True}


class Publish(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.results, self.out = f"{self.folder.name}/results", f"{self.folder.name}/answers"
        os.mkdir(self.results)

    def run_on(self, lines, missing=()):
        methods = sorted({one["method"] for one in lines})
        with open(f"{self.results}/results.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in lines)
        with open(f"{self.results}/summary.json", "w", encoding="utf-8") as file:
            json.dump({"methods": [{"method": name, "missing_answers": int(name in missing)} for name in methods]}, file)
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            return publish.main([self.results, self.out]), errors.getvalue()

    def test_the_last_answer_to_each_prompt_comes_back(self):
        lines = [line("a", 2), line("a", 1, text="old"), line("b", 1), line("a", 1, text="„new“"), line("oracle", 1)]
        self.assertEqual(self.run_on(lines), (0, ""))
        paths = trained.unpack(self.out, f"{self.folder.name}/again")
        self.assertEqual(sorted(paths), ["a", "b"])
        with open(paths["a"], encoding="utf-8") as file:
            again = [json.loads(one) for one in file]
        self.assertEqual(again, [line("a", 1, "", "„new“"), line("a", 2, "")])

    def test_times_of_several_machines_stay_where_they_were_measured(self):
        measured = {**line("a", 1), "busy_seconds": 0.5, "prompt_tokens": 3}
        self.assertEqual(self.run_on([measured]), (0, ""))
        with open(trained.unpack(self.out, f"{self.folder.name}/again")["a"], encoding="utf-8") as file:
            self.assertEqual(json.loads(file.read()), {**line("a", 1, ""), "prompt_tokens": 3})

    def test_equal_answers_give_equal_files(self):
        def bytes_of(lines):
            self.run_on(lines)
            with open(f"{self.out}/a.jsonl.xz", "rb") as file:
                return file.read()

        first = bytes_of([line("a", 1), line("a", 2)])
        self.assertEqual(first, bytes_of([line("a", 2), line("a", 1)]))
        self.assertEqual(first, bytes_of([{**line("a", 1), "busy_seconds": 0.5}, line("a", 2)]))

    def test_incomplete_rows_are_left_out(self):
        code, errors = self.run_on([line("a", 1), line("b", 1)], missing={"b"})
        self.assertEqual(code, 0)
        self.assertIn("b lacks 1 answers", errors)
        self.assertEqual(os.listdir(self.out), ["a.jsonl.xz"])

    def test_answers_of_two_states_are_refused(self):
        code, errors = self.run_on([line("a", 1), line("a", 1, key="other")])
        self.assertEqual(code, 65)
        self.assertIn('two states of "a" to t/1', errors)

    def test_what_is_no_evaluation_is_refused(self):
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(publish.main([self.folder.name, self.out]), 65)
        self.assertIn("results.jsonl cannot be read", errors.getvalue())


if __name__ == "__main__":
    unittest.main()
