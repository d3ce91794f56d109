import Foundation
import TOMLKit

/// One TOML file: its tables and where they stand.
struct ConfigurationDocument {
  let file: String
  let root: TOMLTable
  let lines: SourceLines

  /// Folder that the relative paths in this file start from.
  var folder: String { (file as NSString).deletingLastPathComponent }

  static func read(_ file: String) throws(ConfigurationProblem) -> ConfigurationDocument {
    let bytes: Data
    do {
      let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: file))
      defer { try? handle.close() }
      bytes = try handle.read(upToCount: Schema.fileBytesMax + 1) ?? Data()
    } catch {
      // Foundation opens a directory like a file, and fails only when it reads: both end here.
      let reason = FileManager.default.fileExists(atPath: file) ? "cannot be read" : "does not exist"
      throw ConfigurationProblem(
        file: file, message: reason, hint: "engram-node init writes a first configuration")
    }
    guard bytes.count <= Schema.fileBytesMax else {
      throw ConfigurationProblem(file: file, message: "is larger than \(Schema.fileBytesMax) bytes")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ConfigurationProblem(file: file, message: "is not UTF-8 text")
    }
    return try ConfigurationDocument(file: file, text: text)
  }

  init(file: String, text: String) throws(ConfigurationProblem) {
    try Self.refuseZeros(in: text, of: file)
    do {
      root = try TOMLTable(string: text)
    } catch {
      guard let error = error as? TOMLParseError else {
        throw ConfigurationProblem(file: file, message: "is not TOML")
      }
      throw ConfigurationProblem(
        file: file, line: error.source.begin.line, message: "is not TOML: \(error.description)")
    }
    self.file = file
    lines = SourceLines(text)
  }

  /// The parser hands out strings that end at their first zero, so that `acme.example\u0000.evil` would be
  /// taken for `acme.example`. No value here has use for one.
  private static func refuseZeros(in text: String, of file: String) throws(ConfigurationProblem) {
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      guard line.utf8.contains(0) || line.contains(#"\u0000"#) || line.contains(#"\U00000000"#) else {
        continue
      }
      throw ConfigurationProblem(file: file, line: index + 1, message: "holds a zero character")
    }
  }
}

extension ConfigurationProblem: Error {}
