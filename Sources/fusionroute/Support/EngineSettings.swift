internal import Inference
internal import Launch

/// The cluster file's words for what Inference is told.
extension ClusterFile.Engine {
  var adapters: [AdapterFile] { lora.map { [AdapterFile(path: $0, scale: loraScale)] } ?? [] }

  /// Nil: as the weights say.
  var kvType: Inference.KVType? { Inference.KVType(rawValue: kv.rawValue) }

  /// How its decoder is laid out with so many sequences.
  func decoder(slots: Int) -> DecoderConfiguration {
    DecoderConfiguration(slots: slots, contextPerSequence: context, threads: threads, kvType: kvType)
  }
}
