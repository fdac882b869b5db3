"""Verdicts on IFEval."""

import random
import time
import unittest

from fusionroute_evaluation import references

from .agreement import BenchmarkTests


class IFEvalTests(BenchmarkTests):
    WORDS = "Every river finds its way to the sea and many animals live along it"
    # Identifier, arguments, answers that follow it, and answers that do not.
    INSTRUCTIONS = (
        ("keywords:existence", {"keywords": ["sea", "river"]}, [WORDS], ["Nothing of it.", "A river."]),
        (
            "keywords:frequency",
            {"keyword": "sea", "frequency": 2, "relation": "at least"},
            ["The sea, the sea."],
            ["The sea.", "No."],
        ),
        ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, ["A lake.", "A season."], [WORDS]),
        (
            "keywords:letter_frequency",
            {"letter": "q", "let_frequency": 2, "let_relation": "at least"},
            ["Quite quiet."],
            ["Quite."],
        ),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 3, "relation": "at least"},
            ["One is. Two are. Three were."],
            ["One only."],
        ),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": 2},
            ["One.\n***\nTwo."],
            ["One.", "One.\n***\nTwo.\n***\nThree."],
        ),
        (
            "length_constraints:number_words",
            {"num_words": 5, "relation": "less than"},
            ["Just four words here."],
            [WORDS],
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
            ["First this.\n\nThen that."],
            ["First.\n\nAfter that.", "Then."],
        ),
        (
            "detectable_content:number_placeholders",
            {"num_placeholders": 2},
            ["Dear [name], [date]."],
            ["Dear [name].", WORDS],
        ),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Yes.\nP.S. More."], [WORDS]),
        (
            "detectable_format:number_bullet_lists",
            {"num_bullets": 2},
            ["* One\n* Two"],
            ["* One", "* One\n* Two\n* Three"],
        ),
        ("detectable_format:constrained_response", {}, ["My answer is yes."], ["Yes.", "Perhaps so."]),
        (
            "detectable_format:number_highlighted_sections",
            {"num_highlights": 2},
            ["*One* and *two*."],
            ["*One*.", WORDS],
        ),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "Section", "num_sections": 2},
            ["Section 1\nYes.\nSection 2\nNo."],
            ["Section 1\nYes.", WORDS],
        ),
        ("detectable_format:json_format", {}, ['{"a": 1}', '```json\n{"a": [1]}\n```'], ["{a: 1}", WORDS]),
        ("detectable_format:title", {}, ["<<Rivers>>\nYes."], ["Rivers", WORDS]),
        ("combination:two_responses", {}, ["Yes.\n******\nNo."], ["Yes.", "Yes.\n******\nYes."]),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, ["Say it. It is said."], ["It is said.", WORDS]),
        ("startend:end_checker", {"end_phrase": "That is all."}, ["Well. That is all."], ["That is all. Well.", WORDS]),
        ("startend:quotation", {}, ['"Yes."'], ['"Yes.', WORDS]),
        ("change_case:english_capital", {}, [WORDS.upper()], [WORDS]),
        ("change_case:english_lowercase", {}, [WORDS.lower()], [WORDS, WORDS.upper()]),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            ["A BIG RED dog."],
            ["One BIG dog.", WORDS],
        ),
        ("punctuation:no_comma", {}, [WORDS], ["Well, no.", "a,b"]),
        (
            "language:response_language",
            {"language": "de"},
            ["Jeder Fluss findet seinen Weg in das Meer, und viele Tiere leben an ihm."],
            [WORDS],
        ),
    )
    COLUMNS = (
        "keywords",
        "keyword",
        "frequency",
        "relation",
        "num_words",
        "num_bullets",
        "end_phrase",
        "num_sentences",
    )

    def records(self):
        for identifier, arguments, right, wrong in self.INSTRUCTIONS:
            # The published file gives all columns, those without a value as null.
            kwargs = {**dict.fromkeys(self.COLUMNS), **arguments}
            record = {"key": 1, "prompt": "Say it.", "instruction_id_list": [identifier], "kwargs": [kwargs]}
            yield record, right, wrong

    @staticmethod
    def reference(record, text):
        results, scores = references.ifeval_evaluation()(
            response=text,
            instruction_id_list=record["instruction_id_list"],
            kwargs_list=record["kwargs"],
            prompt=record["prompt"],
            instruction_registry=references.ifeval(),
        )
        return scores.binary_strict == 1.0

    def test_every_instruction_alone_and_in_pairs(self):
        cases, records = [], list(self.records())
        for record, right, wrong in records:
            cases += [(record, text, True) for text in right] + [(record, text, False) for text in wrong]
        # A pair with an instruction that the answer follows anyway, and with one that it breaks.
        for record, right, wrong in records:
            for other, is_kept in (
                ({"num_words": 200, "relation": "less than"}, True),
                ({"num_words": 200, "relation": "at least"}, False),
            ):
                pair = {
                    **record,
                    "instruction_id_list": [*record["instruction_id_list"], "length_constraints:number_words"],
                    "kwargs": [*record["kwargs"], {**dict.fromkeys(self.COLUMNS), **other}],
                }
                cases.append((pair, right[0], is_kept))
        self.assertEqual({record["instruction_id_list"][0] for record, _, _ in records}, set(references.ifeval()))
        self.assertAgrees("ifeval", cases, self.reference)

    # Texts, and how many sentences and words they have, by hand: whatever splits them here must find as many.
    COUNTS = (
        ("Yes.", 1, 1),
        ("No end", 1, 2),
        ("One is. Two are. Three were.", 3, 6),
        ("What is it? It is a river! Really.", 3, 8),
        ("First line.\nSecond line.\n\nThird one.", 3, 6),
        ("Dr. Smith met Mrs. Jones. They talked.", 2, 7),
        ("It costs 3.50 euros. That is cheap.", 2, 8),
        ("She lives in the U.S. with two dogs.", 1, 9),
        ("Well, this is long, but it is one.", 1, 8),
        ("A well-known fact, isn't it?", 1, 7),
        ('He said "No." Then he left.', 2, 6),
        ("* One thing.\n* Another thing.", 2, 4),
    )

    def test_sentences_and_words_are_counted_as_by_hand(self):
        for text, sentences, words in self.COUNTS:
            for identifier, name, count in (
                ("length_constraints:number_sentences", "num_sentences", sentences),
                ("length_constraints:number_words", "num_words", words),
            ):
                for least, is_met in ((count, True), (count + 1, False)):
                    record = {
                        "prompt": "x",
                        "instruction_id_list": [identifier],
                        "kwargs": [{name: least, "relation": "at least"}],
                    }
                    verdict = self.grader.grade({"name": "ifeval", "record": record}, text)
                    self.assertEqual(verdict.passed, is_met, (text, name, least))

    def test_a_letter_that_is_none_is_published(self):
        # IFEval draws one in its place.
        for letter in "#!":
            arguments = {"letter": letter, "let_frequency": 4, "let_relation": "at least"}
            record = {"prompt": "x", "instruction_id_list": ["keywords:letter_frequency"], "kwargs": [arguments]}
            state = random.getstate()
            passed = {self.grader.grade({"name": "ifeval", "record": record}, "abcdefghijklm" * 4).passed for _ in range(20)}
            self.assertEqual((len(passed), random.getstate()), (1, state))
            with self.assertRaisesRegex(ValueError, "too few"):
                self.grader.grade({"name": "ifeval", "record": {**record, "kwargs": [{**arguments, "letter": None}]}}, "a")

    # Those whose patterns meet white space or look for an end, and pieces of which their matches are made.
    PATTERNS = (
        ("detectable_content:postscript", {"postscript_marker": "P.S."}),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
        ("detectable_format:title", {}),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "a"}),
        ("combination:two_responses", {}),
    )
    PIECES = ("a", "* a", "- a", "*", "***", "******", "p.", "p.s.", "[", "]", "<<", ">", ">>", " ", "\n", "\n\n", "\r\n")

    def test_what_is_left_out_for_time_changes_no_verdict(self):
        rng, counts = random.Random(1), {True: 0, False: 0}
        for number in range(2100):
            pieces = [rng.choice(self.PIECES) for _ in range(rng.randint(1, 8))]
            blank = rng.choice((" " * 300, "\n" * 300, " \n" * 300, " " * 300 + "\n", "\n" + " " * 300, " " * 300 + "\n\n", ""))
            pieces.insert(rng.randint(0, len(pieces)), blank)
            identifier, arguments = self.PATTERNS[number % len(self.PATTERNS)]
            record = {"prompt": "x", "instruction_id_list": [identifier], "kwargs": [arguments]}
            passed = self.reference(record, "".join(pieces))
            verdict = self.grader.grade({"name": "ifeval", "record": record}, "".join(pieces))
            self.assertEqual(verdict.passed, passed, (identifier, pieces))
            counts[passed] += 1
        self.assertGreater(min(counts.values()), 100, counts)

    def test_marks_without_an_end_come_to_one(self):
        began = time.process_time()
        for (identifier, arguments), mark in ((self.PATTERNS[1], "["), (self.PATTERNS[3], "<")):
            record = {"prompt": "x", "instruction_id_list": [identifier], "kwargs": [arguments]}
            self.assertFalse(self.grader.grade({"name": "ifeval", "record": record}, mark * 50_000).passed)
        # The square of it takes minutes.
        self.assertLess(time.process_time() - began, 10)

    def test_an_empty_answer_and_a_loose_one(self):
        record = {"prompt": "x", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
        self.assertFalse(self.grader.grade({"name": "ifeval", "record": record}, "  ").passed)
        verdict = self.grader.grade({"name": "ifeval", "record": record}, "Well, then:\nNo comma here.")
        self.assertEqual(verdict.parts, {"strict": False, "loose": True})

    def test_a_record_that_cannot_be_graded_is_no_answers_fault(self):
        comma, title, count = "punctuation:no_comma", "detectable_format:title", "length_constraints:number_words"
        right = {"prompt": "x", "instruction_id_list": [comma, title], "kwargs": [{}, {}]}
        answer = "<<Rivers>>\nYes."
        self.assertTrue(self.grader.grade({"name": "ifeval", "record": right}, answer).passed)
        for changes, words in (
            ({"instruction_id_list": [comma, "detectable_format:titel"]}, '"instruction_id_list" has .*titel'),
            ({"instruction_id_list": ["no_comma"], "kwargs": [{}]}, '"instruction_id_list" has .*no_comma'),
            ({"instruction_id_list": comma}, '"instruction_id_list" is no list of texts'),
            ({"instruction_id_list": [comma, None]}, '"instruction_id_list" is no list of texts'),
            ({"instruction_id_list": []}, 'lacks "instruction_id_list"'),
            ({"kwargs": [{}]}, '"kwargs" has 1 objects for 2 instructions'),
            ({"kwargs": [{}, {}, {}]}, '"kwargs" has 3 objects for 2 instructions'),
            ({"kwargs": [{}, None]}, '"kwargs" is no list of objects'),
            ({"kwargs": {"0": {}, "1": {}}}, '"kwargs" is no list of objects'),
            ({"kwargs": [{"relation": 1}, {}]}, "incomplete"),
            ({"instruction_id_list": [count, comma]}, '"kwargs" of .*number_words has too few'),
            ({"instruction_id_list": [count, comma], "kwargs": [{"num_words": None}, {}]}, "has too few"),
            ({"instruction_id_list": [count], "kwargs": [{"num_words": 5, "relation": "fewer than"}]}, "relation"),
            ({"instruction_id_list": [count], "kwargs": [{"num_words": "5", "relation": "at least"}]}, "incomplete"),
        ):
            # Also of an answer that there is nothing to grade of.
            for text in (answer, ""):
                with self.assertRaisesRegex(ValueError, words, msg=changes):
                    self.grader.grade({"name": "ifeval", "record": {**right, **changes}}, text)


if __name__ == "__main__":
    unittest.main()
