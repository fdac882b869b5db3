internal import CLlamaExtras
internal import Core
internal import Foundation

/// Jinja chat templates, rendered by the engine of llama.cpp.
enum ChatTemplate {
  /// - Parameters:
  ///   - beginning, end: texts of the special tokens, `bos_token` and `eos_token` in the template.
  ///   - source: file the template came from, for the error's sentence.
  static func render(
    _ template: String, messages: [ChatMessage], addGenerationPrompt: Bool, beginning: String, end: String,
    source: String
  ) throws -> String {
    for text in messages.flatMap({ [$0.role, $0.content] }) + [template] where text.utf8.contains(0) {
      throw FusionRouteError.badInput("a chat message contains a NUL character, which chat templates cannot carry")
    }
    // One C string per text, all alive during the call.
    let roles = messages.map { strdup($0.role) }
    let contents = messages.map { strdup($0.content) }
    defer { for text in roles + contents { free(text) } }
    let roleTexts = roles.map { UnsafePointer($0) }
    let contentTexts = contents.map { UnsafePointer($0) }
    var size = 0
    let (text, shim) = LlamaRuntime.withShimError { error in
      fr_render_chat(
        template, beginning, end, roleTexts, contentTexts, messages.count, addGenerationPrompt, &size, error)
    }
    guard let text else {
      throw FusionRouteError.badInput("the chat template of \(source) refused the messages\(reason(shim ?? ""))")
    }
    defer { fr_free(text) }
    return String(decoding: UnsafeRawBufferPointer(start: text, count: size), as: UTF8.self)
  }

  /// The engine's message without the picture of the source around it.
  private static func reason(_ text: String) -> String {
    let lines = text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
      .filter { !$0.isEmpty && !$0.hasPrefix("---") }
    let error = "Error: "
    var line = lines.last { $0.hasPrefix(error) }.map { String($0.dropFirst(error.count)) } ?? lines.first ?? ""
    let exception = "Jinja Exception: "
    if line.hasPrefix(exception) { line = String(line.dropFirst(exception.count)) }
    return line.isEmpty ? "" : ": " + line
  }
}
