public import Core
internal import Foundation
internal import Synchronization

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// One expert's scores on disk, so that no sequence is scored twice, also after a crash.
///
/// A file of records, appended as they come: the sequence's key, the count, the values, and a checksum. A record that was
/// cut off by a crash ends the file and is taken away. Several processes may use the file at once.
public final class ScoreCache: Sendable {
  private static let magic: [UInt8] = Array("FRSCORE1".utf8)
  private static let checksumBytes = 8
  /// More judged tokens than any sequence has.
  private static let maximumPositions = 1 << 24

  private struct State: ~Copyable {
    var scores: [SHA256Digest: ExpertScores] = [:]
    let handle: FileHandle
    /// Where the records that are known end.
    var end = 0

    /// Learns what others have appended, and takes away what a crash left of a record. Only while the file is held.
    mutating func catchUp() throws {
      let size = Int(clamping: try handle.seekToEnd())
      guard size != end || end == 0 else { return }
      if size < end { end = 0 }
      try handle.seek(toOffset: UInt64(end))
      let new = [UInt8](try handle.readToEnd() ?? Data())
      let (found, length) = ScoreCache.parse(new, isWhole: end == 0)
      scores.merge(found) { $1 }
      end += length
      if length < new.count { try handle.truncate(atOffset: UInt64(end)) }
      // A file that is not ours, or of another version, is begun again.
      if end == 0 { try append(ScoreCache.magic) }
    }

    mutating func append(_ bytes: [UInt8]) throws {
      try handle.write(contentsOf: Data(bytes))
      end += bytes.count
    }

    /// Holds the file against other processes; where the file system has no locks, without.
    mutating func holding(_ body: (inout State) throws -> Void) throws {
      while flock(handle.fileDescriptor, LOCK_EX) != 0, errno == EINTR {}
      defer { flock(handle.fileDescriptor, LOCK_UN) }
      try body(&self)
    }
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
      let descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
      var state = State(handle: FileHandle(fileDescriptor: descriptor, closeOnDealloc: true))
      try state.holding { try $0.catchUp() }
      self.state = Mutex(state)
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
        try state.holding {
          try $0.catchUp()
          if $0.scores[key] == nil { try $0.append(record) }
        }
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
  ///
  /// - Parameter isWhole: with the file's beginning; otherwise records alone.
  static func parse(_ bytes: [UInt8], isWhole: Bool = true) -> (scores: [SHA256Digest: ExpertScores], end: Int) {
    guard !isWhole || bytes.starts(with: magic) else { return ([:], 0) }
    var scores: [SHA256Digest: ExpertScores] = [:]
    var start = isWhole ? magic.count : 0
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
