/// The reference article of the cluster file, rendered from the schema.
public enum ClusterReference {
  /// Markdown (DocC), with a final newline.
  public static func article() -> String {
    var text = """
      # The cluster file

      A cluster in one YAML file: the router, the experts, where they run and what holds between them.

      ## Overview

      Relative paths are relative to the file. Keys that do not stand here are errors that name the key and its line.
      Sizes are bytes, or numbers with `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `MB`, `GB` or `TB`; durations need a unit:
      `us`, `ms`, `s`, `min` or `h`, and are at most 30 days.

      ```yaml
      router: { model: router.gguf, head: router-head.gguf }
      experts:
        math: { model: math.gguf, replicas: 2 }
        code: { model: code.gguf, lora: code-adapter.gguf }
      ```

      <!-- Generated from ClusterSchema.swift; LaunchTests keep them equal. Do not edit by hand. -->

      """
    text += section("## Top level", ClusterSchema.root)
    for setting in ClusterSchema.root where !setting.kind.children.isEmpty {
      text += section("## \(heading(setting))", setting.kind.children)
      for below in setting.kind.children where !below.kind.children.isEmpty {
        text += section("### \(below.key) in \(heading(setting).lowercasedFirst)", below.kind.children)
      }
    }
    return text
  }

  private static func heading(_ setting: Setting) -> String {
    switch setting.kind {
    case .named: "\(setting.key).NAME"
    case .list: "Entries of \(setting.key)"
    default: setting.key
    }
  }

  private static func section(_ heading: String, _ settings: [Setting]) -> String {
    var text = "\n\(heading)\n\n| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |\n"
    for setting in settings {
      text += "| `\(setting.key)` | \(setting.kind.name) | \(fallback(setting)) | \(setting.meaning) |\n"
    }
    return text
  }

  private static func fallback(_ setting: Setting) -> String {
    switch setting.fallback {
    case .required: "required"
    case .value(let text): "`\(text)`"
    case .absent(let meaning): meaning
    }
  }
}

extension String {
  fileprivate var lowercasedFirst: String { prefix(1).lowercased() + dropFirst() }
}
