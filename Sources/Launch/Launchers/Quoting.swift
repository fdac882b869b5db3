/// The one place where text becomes part of a shell's command line, a job script or a manifest.
public enum Quoting {
  /// Whether a text has no control characters, which no path, argument or manifest of ours needs.
  public static func isPrintable(_ text: String) -> Bool {
    !text.isEmpty && text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control && !isLineBreak($0) }
  }

  /// A text for a sentence: what cannot be printed as its number.
  static func shown(_ text: String) -> String {
    text.unicodeScalars.reduce(into: "") { result, scalar in
      let isPlain = scalar.properties.generalCategory != .control && !isLineBreak(scalar)
      result += isPlain ? String(Character(scalar)) : "\\u{\(String(scalar.value, radix: 16))}"
    }
  }

  private static func isLineBreak(_ scalar: Unicode.Scalar) -> Bool { scalar.value == 0x2028 || scalar.value == 0x2029 }

  // MARK: Shell

  /// One word for a POSIX shell, which takes it as it is whatever it holds. NUL, which no argument can have, is left out.
  public static func shell(_ word: String) -> String {
    let isPlain = !word.isEmpty && word.utf8.allSatisfy { isAlphanumeric($0) || plainPunctuation.contains($0) }
    if isPlain { return word }
    var result = "'"
    for scalar in word.unicodeScalars {
      switch scalar {
      case "'": result += "'\\''"
      case "\u{0}": break
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "'"
  }

  /// A command line for a POSIX shell.
  public static func shell(_ words: [String]) -> String { words.map { shell($0) }.joined(separator: " ") }

  // No `~` and `=`: at the start of a word a shell would look at them.
  private static let plainPunctuation = Set("-_./:,@%+".utf8)

  // MARK: ssh

  /// Whether ssh takes a path as it is, in `-i` and `-o`: both expand `%` and `$`, and `-o` has quotes of its own.
  static func isSSHPath(_ path: String) -> Bool {
    // By bytes: any of these may be part of a Character.
    isPrintable(path) && !path.utf8.contains(where: sshSpecial.contains)
  }

  private static let sshSpecial = Set("\"'%$\\".utf8)

  // MARK: sbatch

  static let batchPunctuation = "- _ . , : / @ % + = ( ) [ ] ^"
  private static let batchBytes = Set(batchPunctuation.utf8.filter { $0 != UInt8(ascii: " ") })

  /// Whether it is an option that may stand after `#SBATCH`, where a space, a quote or `#` would start something else.
  static func isBatchOption(_ text: String) -> Bool {
    guard text.hasPrefix("--"), text.utf8.count <= 512 else { return false }
    let parts = text.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard let name = parts.first, let first = name.utf8.first, isAlphanumeric(first),
      name.utf8.allSatisfy({ isAlphanumeric($0) || $0 == UInt8(ascii: "-") })
    else { return false }
    return parts.count == 1
      || (!parts[1].isEmpty && parts[1].utf8.allSatisfy { isAlphanumeric($0) || batchBytes.contains($0) })
  }

  // MARK: Container images

  /// Whether it is a reference to an image: `registry.example:5000/team/fusionroute:1.0` or with `@sha256:…`.
  static func isImage(_ text: String) -> Bool {
    guard text.utf8.count <= 255, let first = text.utf8.first, isAlphanumeric(first) else { return false }
    return text.utf8.allSatisfy { isAlphanumeric($0) || imageBytes.contains($0) }
  }

  private static let imageBytes = Set("._-/:@".utf8)

  // MARK: YAML

  /// A scalar for a YAML document: plain where no reader can take it for anything but this text, else in double quotes.
  public static func yaml(_ text: String) -> String {
    let isWord =
      text.utf8.first.map { isLetter($0) || $0 == UInt8(ascii: "/") } == true
      && text.utf8.allSatisfy { isAlphanumeric($0) || yamlPlain.contains($0) }
    return isWord && !yamlKeywords.contains(text.lowercased()) ? text : yamlQuoted(text)
  }

  private static let yamlPlain = Set("-_./".utf8)
  // YAML 1.1's words for truth and nothing, which Kubernetes' reader knows.
  private static let yamlKeywords: Set<String> = ["y", "n", "yes", "no", "true", "false", "on", "off", "null"]

  private static func yamlQuoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where !isYAMLPrintable(scalar):
        let digits = String(scalar.value, radix: 16)
        result += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  /// What may stand unescaped in double quotes on one line.
  private static func isYAMLPrintable(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x20...0x7E, 0xA0...0xD7FF, 0xE000...0xFEFE, 0xFF00...0xFFFD, 0x10000...0x10FFFF: !isLineBreak(scalar)
    default: false
    }
  }

  private static func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    isLetter(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }
}

/// Names of Kubernetes' objects.
enum KubernetesName {
  /// A DNS label (RFC 1123): lower-case letters, digits and `-` inside, at most 63.
  static func isLabel(_ text: String) -> Bool {
    guard (1...63).contains(text.utf8.count), let first = text.utf8.first, let last = text.utf8.last,
      isLowerOrDigit(first), isLowerOrDigit(last)
    else { return false }
    return text.utf8.allSatisfy { isLowerOrDigit($0) || $0 == UInt8(ascii: "-") }
  }

  private static func isLowerOrDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }
}
