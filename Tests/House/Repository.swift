import Foundation

/// One breach of a house rule, as a test prints it.
struct Finding: Equatable, CustomStringConvertible {
  let path: String
  let line: Int
  let message: String

  var description: String { "\(path):\(line): \(message)" }
}

/// A file of the repository; `path` is relative to its top, with `/` between the parts.
struct RepositoryFile {
  let path: String
  let text: String

  var isSwift: Bool { path.hasSuffix(".swift") }
  var isC: Bool { path.hasSuffix(".c") || path.hasSuffix(".h") }
  var isMarkdown: Bool { path.hasSuffix(".md") }

  /// Whether this is source text of ours that the rules on length and wording are about.
  var isSource: Bool {
    let folders = ["Sources/", "Tests/", "Demo/", "Benchmarks/"]
    return path == "Package.swift" || (isSwift || isC) && folders.contains { path.hasPrefix($0) }
  }
}

/// The checked-out tree that this test was compiled from.
struct Repository {
  let root: URL
  let files: [RepositoryFile]

  /// What `.gitignore` keeps out of the repository, so that the rules see tracked files only.
  private static let ignoredNames: Set<String> = [
    ".build", ".git", ".swiftpm", "__pycache__", "demo-data", "node_modules", "Package.resolved",
  ]

  static let current = Repository(
    root: URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent())

  init(root: URL) {
    self.root = root
    self.files = Self.paths(below: root).compactMap { path in
      guard let bytes = try? Data(contentsOf: root.appendingPathComponent(path)), !bytes.contains(0) else {
        return nil
      }
      return RepositoryFile(path: path, text: String(decoding: bytes, as: UTF8.self))
    }
  }

  func contains(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: root.appendingPathComponent(path).path)
  }

  /// Relative paths of all files, in a fixed order.
  private static func paths(below root: URL) -> [String] {
    guard let walk = FileManager.default.enumerator(atPath: root.path) else { return [] }
    var paths: [String] = []
    while let path = walk.nextObject() as? String {
      let attributes = walk.fileAttributes
      if isIgnored(path) {
        if attributes?[.type] as? FileAttributeType == .typeDirectory { walk.skipDescendants() }
      } else if attributes?[.type] as? FileAttributeType == .typeRegular {
        paths.append(path)
      }
    }
    return paths.sorted()
  }

  private static func isIgnored(_ path: String) -> Bool {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    if ignoredNames.contains(name) || name.hasPrefix(".build-") || name.hasPrefix(".build_") { return true }
    // Development certificates are made there and never committed.
    return path.hasPrefix("certs/") && path != "certs/README.md" && path != "certs/make-dev-certs"
  }
}
