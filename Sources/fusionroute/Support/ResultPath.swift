internal import Core
internal import Foundation

/// Where a command writes a file that it makes.
///
/// Results are written beside their name and renamed, so whatever has that name is gone afterwards. That must not be one of
/// the files the result is made from, nor what a rename would destroy instead of filling: a pipe, or a device such as
/// /dev/null.
enum ResultPath {
  /// To be asked before anything that takes long. Throws what names the file and why nothing is written there: `.usage` for
  /// a name that contradicts the rest of the command, `.unavailable` for one that cannot be written, as `AtomicFile` does.
  ///
  /// - Parameter inputs: files that the result is made from; those that do not exist do not matter.
  static func check(_ path: String, inputs: [String] = []) throws {
    guard !path.isEmpty else { throw FusionRouteError.usage("the name of the result is empty: give a file") }
    let resolved = resolved(path)
    if let input = inputs.first(where: { Self.resolved($0) == resolved }) {
      throw FusionRouteError.usage("\(input) and the result are the same file: give another name")
    }
    var status = stat()
    // What is not there yet is made, and what is behind a link counts.
    guard stat(path, &status) == 0 else { return }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return
    case S_IFDIR: throw FusionRouteError.unavailable("\(path) is a directory: give the name of a file for the result")
    default:
      throw FusionRouteError.unavailable(
        "\(path) is a pipe or a device, which a result would replace: give the name of a file")
    }
  }

  /// The first of `inputs` that would be replaced by one of the files `names` in `folder`.
  static func replaced(_ names: [String], in folder: String, of inputs: [String]) -> String? {
    let results = Set(names.map { resolved("\(folder)/\($0)") })
    return inputs.first { results.contains(resolved($0)) }
  }

  private static func resolved(_ path: String) -> String {
    URL(fileURLWithPath: path).resolvingSymlinksInPath().standardizedFileURL.path
  }
}
