/// What a model file says about itself.
public struct ModelInformation: Sendable, Hashable {
  /// `general.architecture`, for example `llama` or `gemma3`.
  public let architecture: String
  /// `general.name`, or nil.
  public let name: String?
  public let layers: Int
  /// Width of the hidden state that the output matrix multiplies.
  public let embeddingWidth: Int
  public let heads: Int
  public let keyValueHeads: Int
  public let vocabularySize: Int
  /// Tokens of context the model was trained with.
  public let trainedContext: Int
  /// Tokens a sliding-window layer sees; nil if every layer sees everything.
  public let slidingWindow: Int?
  /// Weight type by llama.cpp's name, for example `Q8_0` or `BF16`.
  public let weightType: String
  /// Bytes of all tensors.
  public let fileBytes: UInt64
  public let parameterCount: UInt64
  /// Recurrent or hybrid: its state cannot be rolled back to an arbitrary position.
  public let isRecurrent: Bool
}

/// A LoRA adapter file and how strongly it is applied.
public struct AdapterFile: Sendable, Hashable {
  public var path: String
  public var scale: Float

  public init(path: String, scale: Float = 1) {
    self.path = path
    self.scale = scale
  }
}

public struct ModelLoadOptions: Sendable, Hashable {
  /// Layers kept on a GPU; 0 keeps all on the CPU.
  public var gpuLayers: Int
  public var adapters: [AdapterFile]
  /// Lets llama.cpp repack weights for speed. Off by default: repacking can make results depend on the batch.
  public var useExtraBufferTypes: Bool
  /// Loads the tokenizer only: no weights, no decoding.
  public var vocabularyOnly: Bool

  public init(
    gpuLayers: Int = 0, adapters: [AdapterFile] = [], useExtraBufferTypes: Bool = false, vocabularyOnly: Bool = false
  ) {
    self.gpuLayers = gpuLayers
    self.adapters = adapters
    self.useExtraBufferTypes = useExtraBufferTypes
    self.vocabularyOnly = vocabularyOnly
  }
}

/// One message of a conversation, as a chat template sees it.
public struct ChatMessage: Sendable, Hashable {
  /// `system`, `user` or `assistant`; a template may know others.
  public var role: String
  public var content: String

  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }
}
