internal import Logging
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The keys that may connect and what they may do: `allowed/NAME.pub`, read again when the folder or a file in it
/// changes.
///
/// Fails closed: an unreadable folder allows nobody, an unreadable file not its owner.
final class AllowList: Sendable {
  /// How old what is known of the folder may be when a message is authorised. Files that come, go or are replaced change
  /// the folder itself, which is looked at more often than all files.
  private static let folderAge: UInt64 = 1_000_000
  private static let filesAge: UInt64 = 50_000_000

  private struct State {
    var folder: FileSignature?
    var folderChecked: UInt64 = 0
    var files: [FileSignature]?
    var filesChecked: UInt64 = 0
    var entries: [String: AllowedKey] = [:]
    var namesByKey: [String: String] = [:]
    var revision: UInt64 = 0
  }

  private let folder: String
  private let logger: Logger?
  private let state = Mutex(State())

  init(folder: String, logger: Logger?) {
    self.folder = folder
    self.logger = logger
  }

  /// In order of name, as of now.
  var entries: [AllowedKey] { read(isFresh: true) { $0.entries.values.sorted { $0.name < $1.name } } }

  /// Rises with every change of an entry.
  var revision: UInt64 { read { $0.revision } }

  /// What a connection with this key is called in `User-Id`; nil if it is not allowed. Looks at the folder now.
  func admit(key: String) -> String? {
    read(isFresh: true) { state in state.namesByKey[key].map { "\($0):\(key)" } }
  }

  /// The name behind a `User-Id` made by `admit`, if that name is allowed with that very key still.
  func user(of userID: String) -> String? {
    guard let colon = userID.firstIndex(of: ":") else { return nil }
    let name = String(userID[..<colon])
    let key = userID[userID.index(after: colon)...]
    return read { state in
      guard let known = state.entries[name], known.key == key else { return nil }
      return name
    }
  }

  func entry(name: String) -> AllowedKey? { read { $0.entries[name] } }

  private func read<R: Sendable>(isFresh: Bool = false, _ body: (State) -> R) -> R {
    state.withLock { state in
      refresh(&state, isFresh: isFresh)
      return body(state)
    }
  }

  private func refresh(_ state: inout State, isFresh: Bool) {
    let now = Monotonic.now()
    var isDue = isFresh || state.files == nil || now - state.filesChecked >= Self.filesAge
    if !isDue, now - state.folderChecked >= Self.folderAge {
      state.folderChecked = now
      let signature = FileSignature(of: folder, name: "")
      isDue = signature != state.folder
    }
    guard isDue else { return }
    (state.folderChecked, state.filesChecked) = (now, now)
    // The folder first: what changes after is seen next time.
    state.folder = FileSignature(of: folder, name: "")
    let files = Folder.signature(folder, suffix: ".pub")
    guard files != state.files else { return }
    state.files = files
    let entries = load(files.map(\.name))
    if entries != state.entries { state.revision += 1 }
    state.entries = entries
    // The same key under two names: the first one in order of name.
    state.namesByKey = Dictionary(entries.values.map { ($0.key, $0.name) }) { min($0, $1) }
  }

  private func load(_ files: [String]) -> [String: AllowedKey] {
    var entries: [String: AllowedKey] = [:]
    for file in files {
      let name = String(file.dropLast(".pub".count))
      guard Keys.isName(name) else { continue }
      do { entries[name] = try KeyFile.loadEntry("\(folder)/\(file)", name: name) } catch {
        logger?.warning("allowed key not usable", metadata: ["file": "\(file)", "error": "\(error)"])
      }
    }
    return entries
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

  /// nil if it cannot be looked at.
  init?(of path: String, name: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    #if canImport(Glibc)
      let (modified, changed) = (status.st_mtim, status.st_ctim)
    #else
      let (modified, changed) = (status.st_mtimespec, status.st_ctimespec)
    #endif
    self.name = name
    inode = UInt64(status.st_ino)
    size = Int64(status.st_size)
    self.modified = (modified.tv_sec, modified.tv_nsec)
    self.changed = (changed.tv_sec, changed.tv_nsec)
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
    files(path).filter { $0.hasSuffix(suffix) }.compactMap { FileSignature(of: "\(path)/\($0)", name: $0) }
  }
}
