public import Core
internal import Foundation
internal import Synchronization

/// One expert's scores on disk, so that no sequence is scored twice, also after a crash.
///
/// A file of records, appended as they come: the sequence's key, the count, the values, and a checksum. A record that was
/// cut off by a crash ends the file and is overwritten.
public final class ScoreCache: Sendable {
  private static let magic: [UInt8] = Array("FRSCORE1".utf8)
  private static let checksumBytes = 8
  /// More judged tokens than any sequence has.
  private static let maximumPositions = 1 << 24

  private struct State: ~Copyable {
    var scores: [SHA256Digest: ExpertScores] = [:]
    var handle: FileHandle
  }

  private let state: Mutex<State>
  private let path: String

  /// - Parameters:
  ///   - folder: of all experts' files; made if missing.
  ///   - fingerprint: of the expert's model, adapter and settings.
  public init(folder: String, fingerprint: SHA256Digest) throws {
    path = "\(folder)/\(fingerprint.hex).scores"
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      if !FileManager.default.fileExists(atPath: path) { try Data(Self.magic).write(to: URL(fileURLWithPath: path)) }
      let data = try Data(contentsOf: URL(fileURLWithPath: path))
      let (scores, end) = Self.parse([UInt8](data))
      let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
      // A file that is not ours, or of another version, is begun again.
      try handle.truncate(atOffset: UInt64(end))
      if end == 0 { try handle.write(contentsOf: Data(Self.magic)) }
      try handle.seekToEnd()
      state = Mutex(State(scores: scores, handle: handle))
    } catch {
      throw FusionRouteError.unavailable("the score cache \(path) cannot be used", cause: error)
    }
  }

  deinit { state.withLock { try? $0.handle.close() } }

  /// Identifies a sequence with its judged positions; the tokens carry data and template.
  public static func key(of sequence: TrainingSequence) -> SHA256Digest {
    var hasher = SHA256Hasher()
    hasher.update(field: "fusionroute/scores/1")
    hasher.update(littleEndian: UInt64(sequence.tokens.count))
    for token in sequence.tokens { hasher.update(littleEndian: token) }
    for position in sequence.judged { hasher.update(littleEndian: UInt64(position)) }
    return hasher.finalize()
  }

  public subscript(key: SHA256Digest) -> ExpertScores? { state.withLock { $0.scores[key] } }

  /// Sequences that are known.
  public var count: Int { state.withLock { $0.scores.count } }

  public func store(_ scores: ExpertScores, for key: SHA256Digest) throws {
    let record = Self.record(scores, key: key)
    let path = self.path
    try state.withLock { state in
      guard state.scores[key] == nil else { return }
      do {
        try state.handle.write(contentsOf: Data(record))
      } catch {
        throw FusionRouteError.unavailable("cannot write the score cache \(path)", cause: error)
      }
      state.scores[key] = scores
    }
  }

  // MARK: Records

  private static func record(_ scores: ExpertScores, key: SHA256Digest) -> [UInt8] {
    var bytes = key.bytes
    func append(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) } }
    append(UInt32(scores.logProbabilities.count))
    for value in scores.logProbabilities { append(value.bitPattern) }
    for token in scores.argmaxes { append(UInt32(bitPattern: token)) }
    bytes += SHA256Digest(hashing: bytes).bytes.prefix(checksumBytes)
    return bytes
  }

  /// The complete records of a file, and where they end.
  static func parse(_ bytes: [UInt8]) -> (scores: [SHA256Digest: ExpertScores], end: Int) {
    guard bytes.starts(with: magic) else { return ([:], 0) }
    var scores: [SHA256Digest: ExpertScores] = [:]
    var start = magic.count
    func word(_ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) } }
    while bytes.count - start >= SHA256Digest.byteCount + 4 {
      let count = Int(word(start + SHA256Digest.byteCount))
      let values = start + SHA256Digest.byteCount + 4
      let end = values + 8 * count
      guard count <= maximumPositions, end + checksumBytes <= bytes.count,
        SHA256Digest(hashing: bytes[start..<end]).bytes.prefix(checksumBytes).elementsEqual(
          bytes[end..<end + checksumBytes]),
        let key = SHA256Digest(bytes[start..<start + SHA256Digest.byteCount])
      else { break }
      scores[key] = ExpertScores(
        logProbabilities: (0..<count).map { Float(bitPattern: word(values + 4 * $0)) },
        argmaxes: (0..<count).map { Token(bitPattern: word(values + 4 * (count + $0))) })
      start = end + checksumBytes
    }
    return (scores, start)
  }
}
