internal import CLlama
internal import CLlamaExtras
internal import Core
internal import Foundation

/// Changes the weight type of a model file.
public enum Quantizer {
  /// Type names, in lower case, with llama.cpp's file types. `q4_k` is the usual mixture (Q4_K_M).
  private static let types: [(name: String, type: llama_ftype)] = [
    ("f32", LLAMA_FTYPE_ALL_F32), ("f16", LLAMA_FTYPE_MOSTLY_F16), ("bf16", LLAMA_FTYPE_MOSTLY_BF16),
    ("q8_0", LLAMA_FTYPE_MOSTLY_Q8_0), ("q6_k", LLAMA_FTYPE_MOSTLY_Q6_K), ("q5_k", LLAMA_FTYPE_MOSTLY_Q5_K_M),
    ("q5_k_m", LLAMA_FTYPE_MOSTLY_Q5_K_M), ("q5_k_s", LLAMA_FTYPE_MOSTLY_Q5_K_S),
    ("q5_0", LLAMA_FTYPE_MOSTLY_Q5_0), ("q5_1", LLAMA_FTYPE_MOSTLY_Q5_1), ("q4_k", LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("q4_k_m", LLAMA_FTYPE_MOSTLY_Q4_K_M), ("q4_k_s", LLAMA_FTYPE_MOSTLY_Q4_K_S),
    ("q4_0", LLAMA_FTYPE_MOSTLY_Q4_0), ("q4_1", LLAMA_FTYPE_MOSTLY_Q4_1),
  ]

  /// Names that `convert` takes.
  public static var typeNames: [String] { types.map(\.name) }

  /// Writes `input` with its weights in `type` to `output`, which appears whole or not at all.
  ///
  /// - Parameters:
  ///   - type: one of `typeNames`, in any case.
  ///   - threads: threads to convert with; 0 or less: one per core.
  /// - Throws: `badInput` naming the file and llama.cpp's reason, `unavailable` if the result cannot be written.
  public static func convert(input: String, output: String, type: String, threads: Int) throws {
    LlamaRuntime.prepare()
    guard let fileType = types.first(where: { $0.name == type.lowercased() })?.type else {
      throw FusionRouteError.badInput(
        "unknown weight type \"\(type)\"; use one of \(typeNames.joined(separator: ", "))")
    }
    try Model.checkReadable(input, what: "model file")
    let temporary = output + ".partial-\(ProcessInfo.processInfo.processIdentifier)"
    guard FileManager.default.createFile(atPath: temporary, contents: nil) else {
      throw FusionRouteError.unavailable(
        "cannot write beside \(output); check that its directory exists and is writable")
    }
    defer { try? FileManager.default.removeItem(atPath: temporary) }
    var parameters = llama_model_quantize_default_params()
    parameters.nthread = Int32(clamping: max(0, threads))
    parameters.ftype = fileType
    parameters.allow_requantize = true
    let ((code, shim), lines) = LlamaLog.shared.capturing {
      LlamaRuntime.withShimError { error in fr_quantize(input, temporary, &parameters, error) }
    }
    guard code == 0 else {
      // Of the two files llama.cpp writes only the result by a C++ stream, and does not say that the disk is full.
      if shim?.contains("iostream error") == true || lines.contains(where: { $0.contains("iostream error") }) {
        throw FusionRouteError.unavailable("cannot write \(output): is the disk full?")
      }
      throw FusionRouteError.badInput(
        "cannot convert \(input) to \(type)\(LlamaLog.reason(lines, shim: shim)); check that it is a complete GGUF model"
      )
    }
    try AtomicFile.commit(temporary, as: output)
  }
}
