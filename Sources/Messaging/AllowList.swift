internal import Logging
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The keys that may connect: `allowed/NAME.pub`, read again when the folder or a file in it changes.
///
/// Fails closed: an unreadable folder allows nobody, an unreadable file not its owner.
final class AllowList: Sendable {
  /// How old what is known of the folder may be when a message is authorised.
  private static let maximumAge: UInt64 = 50_000_000

  private struct State {
    var signature: [FileSignature]?
    var checked: UInt64 = 0
    var keysByName: [String: String] = [:]
    var namesByKey: [String: String] = [:]
  }

  private let folder: String
  private let logger: Logger?
  private let state = Mutex(State())

  init(folder: String, logger: Logger?) {
    self.folder = folder
    self.logger = logger
  }

  /// Names on the list, sorted.
  var names: [String] { read(maximumAge: 0) { $0.keysByName.keys.sorted() } }

  /// What a connection with this key is called in `User-Id`; nil if it is not allowed. Looks at the folder now.
  func admit(key: String) -> String? {
    read(maximumAge: 0) { state in state.namesByKey[key].map { "\($0):\(key)" } }
  }

  /// The name behind a `User-Id` made by `admit`, if that name is allowed with that very key still.
  func user(of userID: String) -> String? {
    guard let colon = userID.firstIndex(of: ":") else { return nil }
    let name = String(userID[..<colon])
    let key = userID[userID.index(after: colon)...]
    return read(maximumAge: Self.maximumAge) { state in
      guard let known = state.keysByName[name], known == key else { return nil }
      return name
    }
  }

  func isAllowed(name: String) -> Bool { read(maximumAge: Self.maximumAge) { $0.keysByName[name] != nil } }

  private func read<R: Sendable>(maximumAge: UInt64, _ body: (State) -> R) -> R {
    state.withLock { state in
      let now = Monotonic.now()
      if state.signature == nil || now - state.checked >= maximumAge {
        state.checked = now
        let signature = Folder.signature(folder, suffix: ".pub")
        if signature != state.signature {
          state.signature = signature
          (state.keysByName, state.namesByKey) = load(signature.map(\.name))
        }
      }
      return body(state)
    }
  }

  private func load(_ files: [String]) -> (byName: [String: String], byKey: [String: String]) {
    var byName: [String: String] = [:]
    var byKey: [String: String] = [:]
    for file in files {
      let name = String(file.dropLast(".pub".count))
      guard Keys.isName(name) else { continue }
      do {
        let key = try KeyFile.load("\(folder)/\(file)", isSecret: false)
        byName[name] = key
        // The same key under two names: the first one in order of name.
        if byKey[key] == nil { byKey[key] = name }
      } catch {
        logger?.warning("allowed key not usable", metadata: ["file": "\(file)", "error": "\(error)"])
      }
    }
    return (byName, byKey)
  }
}

/// What changes when a file does.
struct FileSignature: Equatable {
  let name: String
  let inode: UInt64
  let size: Int64
  let modified: (Int, Int)
  let changed: (Int, Int)

  static func == (a: Self, b: Self) -> Bool {
    a.name == b.name && a.inode == b.inode && a.size == b.size && a.modified == b.modified && a.changed == b.changed
  }
}

enum Folder {
  /// Names in a folder, sorted; none if it cannot be read.
  static func files(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// Signatures of the files with a suffix, in order of name.
  static func signature(_ path: String, suffix: String) -> [FileSignature] {
    files(path).filter { $0.hasSuffix(suffix) }.compactMap { name in
      var status = stat()
      guard stat("\(path)/\(name)", &status) == 0 else { return nil }
      #if canImport(Glibc)
        let (modified, changed) = (status.st_mtim, status.st_ctim)
      #else
        let (modified, changed) = (status.st_mtimespec, status.st_ctimespec)
      #endif
      return FileSignature(
        name: name, inode: UInt64(status.st_ino), size: Int64(status.st_size),
        modified: (modified.tv_sec, modified.tv_nsec), changed: (changed.tv_sec, changed.tv_nsec))
    }
  }
}
