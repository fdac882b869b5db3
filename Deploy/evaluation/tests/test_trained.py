"""Rows of an evaluation file that are left out, since their models are not there."""

import contextlib
import io
import os
import sys
import tempfile
import unittest
from unittest import mock

from fusionroute_evaluation import trained

FILE = """\
# A table.
tasks: [tasks/math.jsonl]
reward: { model: base.gguf, from: reward }
changes_from: [no-cdpo, continued]
methods:
  math: { mode: "expert:math" }
  selection: { select: [math, code] }
  collab: { collab: 12, limit: 50 }
  # A comment.
  merged-1: { model: merged/1.gguf, limit: 300, note: λ = 1 }
  merged-2: { model: merged/2.gguf, limit: 300 }
  merged: { mean: [merged-1, merged-2] }
  no-cdpo: { mode: fusion, model: sft/model.gguf, head: sft/head.gguf }
  continued:
    mode: fusion
    model: continued/model.gguf
    head: continued/head.gguf
    note: in several lines
  fusionroute: { mode: fusion, scale: 1 }
"""
EVERYTHING = {
    "base.gguf", "reward/head.gguf", "merged/1.gguf", "merged/2.gguf", "sft/model.gguf", "sft/head.gguf",
    "continued/model.gguf", "continued/head.gguf",
}


def without(*absent):
    return trained.trained(FILE, lambda path: path in EVERYTHING - set(absent))


class Trained(unittest.TestCase):
    def test_nothing_changes_where_all_is_there(self):
        self.assertEqual(without(), (FILE, []))

    def test_a_row_goes_with_all_its_lines_and_from_the_list_of_changes(self):
        text, missing = without("continued/head.gguf")
        self.assertEqual(missing, ["continued"])
        start = FILE.index("  continued:\n")
        expected = FILE[:start] + FILE[FILE.index("  fusionroute:") :]
        self.assertEqual(text, expected.replace("[no-cdpo, continued]", "[no-cdpo]"))

    def test_what_is_made_of_a_missing_row_goes_too(self):
        text, missing = without("merged/2.gguf")
        self.assertEqual(missing, ["merged-2", "merged"])
        self.assertIn("  merged-1: ", text)
        self.assertIn("  # A comment.\n", text)

    def test_without_reward_model(self):
        text, missing = without("reward/head.gguf")
        self.assertEqual(missing, ["selection", "collab"])
        self.assertNotIn("reward", text)

    def test_an_empty_list_of_changes_is_left_out(self):
        text, missing = without("sft/model.gguf", "continued/model.gguf")
        self.assertEqual(missing, ["no-cdpo", "continued"])
        self.assertNotIn("changes_from", text)
        self.assertTrue(text.endswith("  fusionroute: { mode: fusion, scale: 1 }\n"))

    def test_rows_take_published_answers(self):
        published = {"merged-1": "/p/merged-1.jsonl", "selection": "/p/s.jsonl", "continued": "/p/c.jsonl", "math": "/p/m.jsonl"}
        absent = {"reward/head.gguf", "merged/1.gguf", "continued/model.gguf"}
        text, missing = trained.trained(FILE, lambda path: path in EVERYTHING - absent, published.get)
        self.assertEqual(missing, ["collab"])
        for line in (
            '  math: { answers: "/p/m.jsonl" }\n',
            '  selection: { answers: "/p/s.jsonl" }\n',
            '  merged-1: { answers: "/p/merged-1.jsonl", limit: 300, note: "λ = 1" }\n',
            '  continued: { answers: "/p/c.jsonl", note: "in several lines" }\n',
        ):
            self.assertIn(line, text)
        self.assertNotIn("    head: continued", text)
        # What is made of rows stays.
        self.assertIn("  merged: { mean: [merged-1, merged-2] }\n", text)
        self.assertIn("changes_from: [no-cdpo, continued]\n", text)

    def test_rows_of_a_cluster_without_models_go(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(f"{folder}/clusters")
            with open(f"{folder}/clusters/c.yaml", "w", encoding="utf-8") as file:
                file.write("router: { model: ../r.gguf, head: ../h.gguf }\nexperts:\n  math: { model: ../m.gguf }\n")
            text = f"cluster: clusters/c.yaml\n{FILE}"
            for name in ("r", "h", "m"):
                self.assertFalse(trained.cluster_is_there(text, folder))
                open(f"{folder}/{name}.gguf", "w").close()
            self.assertTrue(trained.cluster_is_there(text, folder))
            self.assertFalse(trained.cluster_is_there(text.replace("c.yaml", "d.yaml"), folder))
        self.assertTrue(trained.cluster_is_there(FILE, folder))
        _, missing = trained.trained(FILE, EVERYTHING.__contains__, {"fusionroute": "/p/f.jsonl"}.get, has_cluster=False)
        self.assertEqual(missing, ["math", "selection", "collab", "no-cdpo", "continued"])

    def test_the_command_edits_the_file_and_names_what_has_gone(self):
        with tempfile.TemporaryDirectory() as folder:
            for path in EVERYTHING - {"sft/head.gguf"}:
                os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
                open(f"{folder}/{path}", "w").close()
            file = f"{folder}/table.yaml"
            with open(file, "w", encoding="utf-8") as out:
                out.write(FILE)
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), mock.patch.object(sys, "argv", ["trained", file]):
                trained.main()
            self.assertEqual(errors.getvalue(), "left out, since not trained here: no-cdpo\n")
            with open(file, encoding="utf-8") as text:
                self.assertNotIn("no-cdpo", text.read())


if __name__ == "__main__":
    unittest.main()
