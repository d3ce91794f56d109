package import EngramCore
import Foundation

/// The files of one peer, to be put back when a change of them has to be undone.
package struct PeerFileContents: Sendable, Equatable {
  fileprivate let peer: Data?
  fileprivate let authority: Data?
}

/// The files `peers.d/NAME.toml` beside `federation.toml`, which `engram-node admin peer` writes.
package enum PeerFile {
  static let folderName = "peers.d"

  /// Writes or replaces the peer's file, mode 0600: after a crash there is the old file or the new, whole.
  ///
  /// - Throws: when another file already names this peer or its identity, when the values could not be read
  ///   back, or when the disk refuses.
  package static func write(
    _ peer: PeerConfiguration, beside configPath: String
  ) throws(ConfigurationError) {
    try check(peer, beside: configPath)
    let path = filePath(of: peer.name, beside: configPath)
    try reporting(path) { () throws(DurableFile.Failure) in
      try DurableFile.createFolder(folder(beside: configPath))
      try DurableFile.replace(path, with: text(of: peer, folder: folder(beside: configPath), configPath))
    }
  }

  /// What would stop `write`, without writing anything.
  package static func check(
    _ peer: PeerConfiguration, beside configPath: String
  ) throws(ConfigurationError) {
    let path = filePath(of: peer.name, beside: configPath)
    try refuseInvalid(peer, path)
    try refuseDuplicate(peer, path, configPath)
  }

  /// The files of one peer as they are now, nil where there is none.
  package static func contents(of name: NodeName, beside configPath: String) -> PeerFileContents {
    PeerFileContents(
      peer: FileManager.default.contents(atPath: filePath(of: name, beside: configPath)),
      authority: FileManager.default.contents(atPath: authorityPath(of: name, beside: configPath)))
  }

  /// Puts back what `contents` had found, byte for byte.
  package static func restore(
    _ contents: PeerFileContents, of name: NodeName, beside configPath: String
  ) throws(ConfigurationError) {
    try restore(contents.authority, at: authorityPath(of: name, beside: configPath))
    try restore(contents.peer, at: filePath(of: name, beside: configPath))
  }

  private static func restore(_ contents: Data?, at path: String) throws(ConfigurationError) {
    try reporting(path) { () throws(DurableFile.Failure) in
      if let contents {
        try DurableFile.replace(path, with: String(decoding: contents, as: UTF8.self))
      } else if FileManager.default.fileExists(atPath: path) {
        try DurableFile.remove(path)
      }
    }
  }

  /// Where `writeAuthority` keeps the authority of a peer: the path for `PeerConfiguration.authorityPath`.
  package static func authorityPath(of name: NodeName, beside configPath: String) -> String {
    (folder(beside: configPath) as NSString).appendingPathComponent(name.text + ".pem")
  }

  /// Keeps the authority that a new peer's card carried as `peers.d/NAME.pem`, to be written before the peer.
  ///
  /// - Returns: the path for `PeerConfiguration.authorityPath`.
  package static func writeAuthority(
    _ pem: String, of name: NodeName, beside configPath: String
  ) throws(ConfigurationError) -> String {
    let path = authorityPath(of: name, beside: configPath)
    try reporting(path) { () throws(DurableFile.Failure) in
      try DurableFile.createFolder(folder(beside: configPath))
      try DurableFile.replace(path, with: pem)
    }
    return path
  }

  /// Removes the peer's file, and the authority that `writeAuthority` kept for it.
  ///
  /// - Throws: when there is none, or when the disk refuses.
  package static func remove(_ name: NodeName, beside configPath: String) throws(ConfigurationError) {
    let path = filePath(of: name, beside: configPath)
    guard FileManager.default.fileExists(atPath: path) else {
      throw ConfigurationError(problems: [
        ConfigurationProblem(
          file: folder(beside: configPath), message: "holds no peer of that name",
          hint: "a peer written in \(configPath) is removed there")
      ])
    }
    try reporting(path) { () throws(DurableFile.Failure) in
      // The peer first: one without its authority would stop the next start, an authority alone does nothing.
      try DurableFile.remove(path)
      let authority = authorityPath(of: name, beside: configPath)
      if FileManager.default.fileExists(atPath: authority) { try DurableFile.remove(authority) }
    }
  }

  /// The folder's files in the order of their names, temporary ones left out.
  static func files(beside configPath: String) -> [String] {
    let folder = folder(beside: configPath)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { $0.hasSuffix(".toml") && !$0.hasPrefix(".") }.sorted()
      .map { (folder as NSString).appendingPathComponent($0) }
  }

  static func filePath(of name: NodeName, beside configPath: String) -> String {
    (folder(beside: configPath) as NSString).appendingPathComponent(name.text + ".toml")
  }

  /// Absolute: a path that is relative to the working folder of today must not get into a file.
  private static func folder(beside configPath: String) -> String {
    FilePaths.absolute(folderName, in: (configPath as NSString).deletingLastPathComponent)
  }

  private static func reporting(
    _ path: String, _ body: () throws(DurableFile.Failure) -> Void
  ) throws(ConfigurationError) {
    do {
      try body()
    } catch {
      throw ConfigurationError(problems: [ConfigurationProblem(file: path, message: error.description)])
    }
  }

  // MARK: - Checks

  private static func refuseInvalid(_ peer: PeerConfiguration, _ path: String) throws(ConfigurationError) {
    let checks: [(key: String, isMet: Bool, expected: String)] = [
      ("endpoint", peer.endpoint.dialable != nil, HostPort.expectation),
      ("ca", !peer.authorityPath.isEmpty && !peer.authorityPath.utf8.contains(0), "the path of a PEM file"),
    ]
    let problems = checks.filter { !$0.isMet }.map {
      ConfigurationProblem(file: path, key: "peer.\($0.key)", message: "must be \($0.expected)")
    }
    guard problems.isEmpty else { throw ConfigurationError(problems: problems) }
  }

  /// The next start would refuse two peers of one name, so the second is refused here.
  private static func refuseDuplicate(
    _ peer: PeerConfiguration, _ path: String, _ configPath: String
  ) throws(ConfigurationError) {
    let document: ConfigurationDocument
    do {
      document = try ConfigurationDocument.read(configPath)
    } catch {
      throw ConfigurationError(problems: [error])
    }
    let sources = PeerSources(beside: document)
    let isPeer = { (other: PeerConfiguration) in other.name == peer.name || other.nodeID == peer.nodeID }
    for other in sources.peers where isPeer(other) {
      guard let file = sources.file(naming: other.name), file != path else { continue }
      let key = other.name == peer.name ? "name" : "node_id"
      throw ConfigurationError(problems: [
        ConfigurationProblem(
          file: path, key: "peer.\(key)", message: "is already that of \(other.name) in \(file)")
      ])
    }
  }

  // MARK: - Text

  private static func text(of peer: PeerConfiguration, folder: String, _ configPath: String) -> String {
    """
    # Written by engram-node admin peer.
    [[peer]]
    name = \(quoted(peer.name.text))
    endpoint = \(quoted(peer.endpoint.description))
    node_id = \(quoted(peer.nodeID.description))
    ca = \(quoted(shortened(peer.authorityPath, folder: folder, configPath)))
    enabled = \(peer.isEnabled)

    """
  }

  /// A path below the configuration's folder is written relative to `peers.d`: the whole can be moved.
  private static func shortened(_ path: String, folder: String, _ configPath: String) -> String {
    let path = FilePaths.absolute(path, in: folder)
    let peers = FilePaths.absolute(".", in: folder)
    let base = FilePaths.absolute("..", in: folder)
    if path.hasPrefix(peers + "/") { return String(path.dropFirst(peers.count + 1)) }
    if base != "/", path.hasPrefix(base + "/") { return "../" + path.dropFirst(base.count + 1) }
    return path
  }

  /// A basic string of TOML.
  private static func quoted(_ text: String) -> String {
    let escaped = text.unicodeScalars.map { scalar in
      switch scalar {
      case "\"", "\\": "\\\(scalar)"
      case "\u{0}"..."\u{1F}", "\u{7F}":
        "\\u" + String(repeating: "0", count: scalar.value < 16 ? 3 : 2) + String(scalar.value, radix: 16)
      default: String(scalar)
      }
    }
    return "\"\(escaped.joined())\""
  }
}
