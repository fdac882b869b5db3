#include <ggml.h>
#include <gguf.h>
#include <ggml-cpu.h>
#include <ggml-backend.h>
