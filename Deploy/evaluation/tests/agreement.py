"""What tests of the published benchmarks share: verdicts agree with the reference graders', on right and on wrong answers."""

import unittest

from fusionroute_evaluation.graders import Grader

LEAST = 50


class BenchmarkTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.grader = Grader()

    @classmethod
    def tearDownClass(cls):
        cls.grader.sandbox.close()

    def assertAgrees(self, name, cases, reference):
        """`cases`: (record, text, whether it is right). The reference and the grader both find what is known."""
        counts = {True: 0, False: 0}
        for record, text, is_right in cases:
            self.assertEqual(reference(record, text), is_right, (record, text))
            self.assertEqual(self.grader.grade({"name": name, "record": record}, text).passed, is_right, (record, text))
            counts[is_right] += 1
        self.assertGreaterEqual(min(counts.values()), LEAST, counts)
