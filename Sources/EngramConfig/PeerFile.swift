import Foundation

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
    let path = filePath(of: peer.name, beside: configPath)
    try refuseInvalid(peer, path)
    try refuseDuplicate(peer, path, configPath)
    do {
      try DurableFile.createFolder(folder(beside: configPath))
      try DurableFile.replace(path, with: text(of: peer, folder: folder(beside: configPath), configPath))
    } catch {
      throw ConfigurationError(problems: [ConfigurationProblem(file: path, message: error.description)])
    }
  }

  /// Removes the peer's file.
  ///
  /// - Throws: when there is none, or when the disk refuses.
  package static func remove(_ name: String, beside configPath: String) throws(ConfigurationError) {
    let path = filePath(of: name, beside: configPath)
    // A name that is none could lead out of the folder.
    guard NodeNaming.isNodeName(name), FileManager.default.fileExists(atPath: path) else {
      throw ConfigurationError(problems: [
        ConfigurationProblem(
          file: folder(beside: configPath), message: "holds no peer of that name",
          hint: "a peer written in \(configPath) is removed there")
      ])
    }
    do {
      try DurableFile.remove(path)
    } catch {
      throw ConfigurationError(problems: [ConfigurationProblem(file: path, message: error.description)])
    }
  }

  /// The folder's files in the order of their names, temporary ones left out.
  static func files(beside configPath: String) -> [String] {
    let folder = folder(beside: configPath)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { $0.hasSuffix(".toml") && !$0.hasPrefix(".") }.sorted()
      .map { (folder as NSString).appendingPathComponent($0) }
  }

  static func filePath(of name: String, beside configPath: String) -> String {
    (folder(beside: configPath) as NSString).appendingPathComponent(name + ".toml")
  }

  private static func folder(beside configPath: String) -> String {
    ((configPath as NSString).deletingLastPathComponent as NSString).appendingPathComponent(folderName)
  }

  // MARK: - Checks

  private static func refuseInvalid(_ peer: PeerConfiguration, _ path: String) throws(ConfigurationError) {
    let checks: [(key: String, isMet: Bool, expected: String)] = [
      ("name", NodeNaming.isNodeName(peer.name), NodeNaming.nameExpectation),
      ("node_id", NodeNaming.isNodeID(peer.nodeID), NodeNaming.nodeIDExpectation),
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
    name = \(quoted(peer.name))
    endpoint = \(quoted(peer.endpoint.description))
    node_id = \(quoted(peer.nodeID))
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
