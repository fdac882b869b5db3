#include "extras.h"

#include <new>
#include <string>

#include "guarded.hpp"
#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "json.h"

namespace {

std::string render(const char *source, const char *beginning, const char *end, const char *const *roles,
                   const char *const *contents, size_t count, bool add_generation_prompt) {
  jinja::lexer lexer;
  const auto lexed = lexer.tokenize(source);
  const auto program = jinja::parse_from_tokens(lexed);

  auto messages = common_json::array();
  for (size_t i = 0; i < count; i++) {
    common_json message;
    message["role"] = std::string(roles[i]);
    message["content"] = std::string(contents[i]);
    messages.push_back(message);
  }
  // The variables that Hugging Face's apply_chat_template always passes; templates test them with `is none` too.
  common_json input;
  input["messages"] = messages;
  input["tools"] = nullptr;
  input["documents"] = nullptr;
  input["add_generation_prompt"] = add_generation_prompt;
  input["bos_token"] = std::string(beginning);
  input["eos_token"] = std::string(end);

  jinja::context context(lexed.source);
  jinja::global_from_json(context, input, /* mark_input: */ false);
  jinja::runtime runtime(context);
  const jinja::value results = runtime.execute(program);
  return jinja::runtime::gather_string_parts(results)->as_string().str();
}

}  // namespace

char *fr_render_chat(const char *source, const char *beginning, const char *end, const char *const *roles,
                     const char *const *contents, size_t count, bool add_generation_prompt, size_t *size,
                     char **error) noexcept {
  return fr::guarded<char *>(nullptr, error, [&] {
    const std::string text = render(source, beginning, end, roles, contents, count, add_generation_prompt);
    char *memory = fr::copy(text.data(), text.size());
    if (memory == nullptr) throw std::bad_alloc();
    *size = text.size();
    return memory;
  });
}
