"""A second run of the chain beside the published one."""

import contextlib
import io
import json
import lzma
import os
import tempfile
import unittest

from fusionroute_evaluation import compare
from fusionroute_evaluation.files import BadInput


def ids(task, numbers):
    return [f"{task}/test/{number:04}" for number in numbers]


def row(name, accuracies, average, comparison=None):
    return {
        "method": name, "average": average, "reference_minus_method": comparison,
        "tasks": [{"task": task, "accuracy": accuracy} for task, accuracy in accuracies.items()],
    }


SUMMARY = {
    "reference": "math",
    "methods": [
        row("math", {"math": 0.8, "code": 0.0}, 0.4),
        row("math-again", {"math": 0.7, "code": 0.0}, 0.35, {
            "prompts": 20, "difference": 0.05, "interval": [0.01, 0.1],
            "tasks": [
                {"task": "math", "prompts": 10, "difference": 0.1, "interval": [-0.02, 0.2]},
                {"task": "code", "prompts": 10, "difference": 0.0, "interval": [0.0, 0.0]},
            ],
        }),
        row("other-again", {"math": 0.1, "code": 0.1}, 0.1),
    ],
}


class Compare(unittest.TestCase):
    def test_rows_of_both_on_the_prompts_of_both(self):
        first = {"math": {"math": ids("math", range(5)), "code": ids("code", range(5))}, "ties": {"math": ids("math", range(5))}}
        second = {"math": {"math": ids("math", range(3)), "code": ids("code", range(3))}, "other": {"math": ids("math", range(3))}}
        self.assertEqual(compare.common(first, second), {"math": ("math", ["math", "code"], 3)})
        second["math"]["code"] = ids("code", (0, 1, 3))
        with self.assertRaisesRegex(BadInput, "math are for other prompts"):
            compare.common(first, second)
        del second["math"]["code"]
        self.assertEqual(compare.common(first, second), {"math": ("math", ["math"], 3)})
        second["math"] = {"mixed": ids("mixed", range(3))}
        with self.assertRaisesRegex(BadInput, "math are for other tasks"):
            compare.common(first, second)

    def test_variants_of_a_row_are_compared_with_it(self):
        rows = {"instruct": 0, "no-cdpo": 0, "no-cdpo.own": 0}
        for name, row in (
            ("instruct", "instruct"), ("instruct.seed-2", "instruct"), ("no-cdpo.own", "no-cdpo.own"), ("no-cdpo.a.b", "no-cdpo"),
            ("instruct-seed-2", None), ("no", None), (".seed-2", None),
        ):
            self.assertEqual(compare.published(name, rows), row)

    def test_differences_are_those_of_the_second_run(self):
        self.assertEqual(compare.differences(SUMMARY, "math"), [
            ("math", 10, 0.8, 0.7, -0.1, (-0.2, 0.02)),
            ("code", 10, 0.0, 0.0, 0.0, (0.0, 0.0)),
            ("mean", 20, 0.4, 0.35, -0.05, (-0.1, -0.01)),
        ])

    def test_what_differs_is_marked_and_counted(self):
        lines = list(compare.report({"math": compare.differences(SUMMARY, "math")}))
        self.assertEqual([line.endswith("  other") for line in lines[1:4]], [False, False, True])
        self.assertIn("-10.0 (-20.0 … +2.0)", lines[1])
        self.assertTrue(lines[-1].startswith("2 of 3 differences have zero"))

    def test_machines_get_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(f"{folder}/summaries")
            with open(f"{folder}/summaries/math.json", "w", encoding="utf-8") as file:
                json.dump(SUMMARY, file)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                self.assertEqual(compare.main(["show", folder, "--format", "json"]), 0)
        lines = json.loads(out.getvalue())
        self.assertEqual([(line["row"], line["task"]) for line in lines], [("math", "math"), ("math", "code"), ("math", "mean")])
        self.assertEqual(lines[0], {
            "row": "math", "task": "math", "prompts": 10, "published": 0.8, "again": 0.7, "difference": -0.1, "interval": [-0.2, 0.02],
        })

    def test_prepare_writes_both_answers_of_a_row(self):
        with tempfile.TemporaryDirectory() as folder:
            for part, row, count in (("published", "math", 3), ("again", "math", 2), ("again", "math.seed-2", 2)):
                os.makedirs(f"{folder}/{part}", exist_ok=True)
                lines = [{"method": row, "task": "math", "id": name} for name in ids("math", range(count))]
                text = "".join(json.dumps(line) + "\n" for line in lines)
                with open(f"{folder}/{part}/{row}.jsonl.xz", "wb") as file:
                    file.write(lzma.compress(text.encode()))
            arguments = [f"{folder}/published", f"{folder}/again", f"{folder}/tasks", "grade", folder]
            with contextlib.redirect_stdout(io.StringIO()) as out:
                self.assertEqual(compare.main(["prepare", *arguments]), 0)
            self.assertEqual(out.getvalue(), "math math\nmath.seed-2 math\n")
            for row in ("math", "math.seed-2"):
                with open(f"{folder}/evaluations/{row}.yaml", encoding="utf-8") as file:
                    evaluation = json.load(file)
                self.assertEqual([os.path.basename(path) for path in evaluation["tasks"]], ["math.test.jsonl"])
                methods = evaluation["methods"]
                self.assertEqual({name: method["limit"] for name, method in methods.items()}, {"math": 2, f"{row}-again": 2})
                for name, method in methods.items():
                    with open(method["answers"], encoding="utf-8") as file:
                        self.assertEqual({json.loads(line)["method"] for line in file}, {name})

            for row in ("math", "math.seed-2"):
                os.remove(f"{folder}/again/{row}.jsonl.xz")
            with contextlib.redirect_stderr(io.StringIO()) as errors:
                self.assertEqual(compare.main(["prepare", *arguments]), 65)
            self.assertIn("no complete row", errors.getvalue())
