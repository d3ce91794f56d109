import EngramConfig
import EngramCore
import Foundation
import Testing

@Suite("the files of peers.d")
struct PeerFileTests {
  private func peer(_ name: String, number: Int = 0, authority: String) throws -> PeerConfiguration {
    try PeerConfiguration(
      name: NodeName(name), endpoint: #require(HostPort("[::1]:7443")),
      nodeID: NodeID(parsing: nodeID(number)), authorityPath: authority, isEnabled: false)
  }

  @Test("a peer that was written is read back the same, from a file for its owner alone")
  func roundTrip() throws {
    let folder = try ConfigurationFolder()
    let written = try peer("b.example", authority: folder.path + "/peers.d/b \"\\\u{7F}é.pem")
    try PeerFile.write(written, beside: folder.main)
    #expect(try folder.load().peers == [written])
    let attributes = try FileManager.default.attributesOfItem(atPath: folder.path + "/peers.d/b.example.toml")
    #expect(attributes[.posixPermissions] as? Int == 0o600)
    let ofFolder = try FileManager.default.attributesOfItem(atPath: folder.path + "/peers.d")
    #expect(ofFolder[.posixPermissions] as? Int == 0o700)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path + "/peers.d") == ["b.example.toml"])
  }

  @Test("paths below the configuration's folder move with it, others stay where they are")
  func relativePaths() throws {
    let folder = try ConfigurationFolder()
    try PeerFile.write(try peer("b.example", authority: folder.path + "/tls/b.pem"), beside: folder.main)
    try PeerFile.write(try peer("c.example", number: 1, authority: "/etc/ssl/c.pem"), beside: folder.main)
    let moved = try ConfigurationFolder()
    try FileManager.default.copyItem(atPath: folder.path + "/peers.d", toPath: moved.path + "/peers.d")
    #expect(try moved.load().peers.map(\.authorityPath) == [moved.path + "/tls/b.pem", "/etc/ssl/c.pem"])
  }

  @Test("an authority that came with a peer is kept beside it, and goes with it")
  func authority() throws {
    let folder = try ConfigurationFolder()
    let name = try NodeName("b.example")
    let path = try PeerFile.writeAuthority("PEM\n", of: name, beside: folder.main)
    try PeerFile.write(try peer("b.example", authority: path), beside: folder.main)
    #expect(try folder.load().peers.map(\.authorityPath) == [folder.path + "/peers.d/b.example.pem"])
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "PEM\n")
    #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
    try PeerFile.remove(name, beside: folder.main)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/peers.d") == [])
  }

  /// The same file, as somebody in the working folder may name it.
  private func relative(_ path: String) -> String {
    let ups = FileManager.default.currentDirectoryPath.split(separator: "/").map { _ in ".." }
    return ups.joined(separator: "/") + path
  }

  @Test("a peer that was added through a relative path is read back, from wherever the node is started")
  func relativeConfiguration() throws {
    let folder = try ConfigurationFolder()
    let main = relative(folder.main)
    try #require(FileManager.default.fileExists(atPath: main) && !main.hasPrefix("/"))
    let path = try PeerFile.writeAuthority("PEM\n", of: NodeName("b.example"), beside: main)
    try PeerFile.write(try peer("b.example", authority: path), beside: main)
    let expected = folder.path + "/peers.d/b.example.pem"
    #expect(path == expected)
    #expect(try folder.load().peers.map(\.authorityPath) == [expected])
    #expect(try NodeConfiguration.load(path: main).peers.map(\.authorityPath) == [expected])
    let file = folder.path + "/peers.d/b.example.toml"
    let text = try String(contentsOfFile: file, encoding: .utf8)
    #expect(text.contains("ca = \"b.example.pem\""))
    // The control: a path that starts at the working folder is read from peers.d, and is not there.
    let spoiled = text.replacing("b.example.pem", with: relative(path).replacing("../", with: ""))
    try Data(spoiled.utf8).write(to: URL(fileURLWithPath: file))
    #expect(try !FileManager.default.fileExists(atPath: folder.load().peers[0].authorityPath))
  }

  @Test("a change of a peer's files can be undone, byte for byte")
  func restoring() throws {
    let folder = try ConfigurationFolder()
    let name = try NodeName("b.example")
    let none = PeerFile.contents(of: name, beside: folder.main)
    let path = try PeerFile.writeAuthority("PEM\n", of: name, beside: folder.main)
    try PeerFile.write(try peer("b.example", authority: path), beside: folder.main)
    let first = PeerFile.contents(of: name, beside: folder.main)
    _ = try PeerFile.writeAuthority("other\n", of: name, beside: folder.main)
    try PeerFile.write(try peer("b.example", number: 2, authority: path), beside: folder.main)
    #expect(PeerFile.contents(of: name, beside: folder.main) != first, "control")
    try PeerFile.restore(first, of: name, beside: folder.main)
    #expect(PeerFile.contents(of: name, beside: folder.main) == first)
    #expect(try folder.load().peers.map(\.nodeID.description) == [nodeID(0)])
    try PeerFile.restore(none, of: name, beside: folder.main)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/peers.d") == [])
  }

  @Test("the place of each peer is known, for messages about it")
  func places() throws {
    let folder = try ConfigurationFolder(ConfigurationFolder.minimal + peerTable("b.example", number: 1))
    try folder.write("peers.d/c.example.toml", "\n" + peerTable("c.example"))
    let places = try folder.load().peerPlaces
    #expect(places[try NodeName("b.example")] == folder.main + ":5")
    #expect(places[try NodeName("c.example")] == folder.path + "/peers.d/c.example.toml:2")
  }

  @Test("writing a peer again replaces it, and removing it leaves nothing")
  func replaceAndRemove() throws {
    let folder = try ConfigurationFolder()
    try PeerFile.write(try peer("b.example", authority: "/a.pem"), beside: folder.main)
    try PeerFile.write(try peer("b.example", number: 2, authority: "/b.pem"), beside: folder.main)
    #expect(try folder.load().peers.map(\.nodeID.description) == [nodeID(2)])
    try PeerFile.remove(NodeName("b.example"), beside: folder.main)
    #expect(try folder.load().peers == [])
    #expect(throws: ConfigurationError.self) {
      try PeerFile.remove(NodeName("b.example"), beside: folder.main)
    }
  }

  @Test("a peer that the file above names already, or whose identity it pins, is not written")
  func duplicateOfMainFile() throws {
    let folder = try ConfigurationFolder(ConfigurationFolder.minimal + peerTable("b.example", number: 1))
    let sameName = try peer("b.example", number: 2, authority: "/a.pem")
    let sameIdentity = try peer("c.example", number: 1, authority: "/a.pem")
    for duplicate in [sameName, sameIdentity] {
      #expect(throws: ConfigurationError.self) { try PeerFile.write(duplicate, beside: folder.main) }
    }
    #expect(try folder.load().peers.count == 1)
  }

  @Test("a peer that could not be read back is not written")
  func unreadable() throws {
    let folder = try ConfigurationFolder()
    let nowhere = PeerConfiguration(
      name: try NodeName("b.example"), endpoint: try #require(HostPort("127.0.0.1:0")),
      nodeID: try NodeID(parsing: nodeID(0)), authorityPath: "/a.pem")
    for bad in [nowhere, try peer("b.example", authority: ""), try peer("b.example", authority: "/a\0b")] {
      #expect(throws: ConfigurationError.self) { try PeerFile.write(bad, beside: folder.main) }
    }
    #expect(try folder.load().peers == [])
  }

  @Test("a write that the disk refuses leaves the old file whole and no other behind")
  func failedWrite() throws {
    let folder = try ConfigurationFolder()
    // A folder where the file has to go: the rename fails.
    let path = folder.path + "/peers.d/b.example.toml"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let refused = try peer("b.example", authority: "/a.pem")
    #expect(throws: ConfigurationError.self) { try PeerFile.write(refused, beside: folder.main) }
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path + "/peers.d") == ["b.example.toml"])
  }

  @Test("a peer named in two files is refused, and the message names both")
  func duplicateNames() throws {
    let folder = try ConfigurationFolder(ConfigurationFolder.minimal + peerTable("b.example"))
    try folder.write("peers.d/b.example.toml", peerTable("b.example", number: 1))
    let problem = try #require(folder.problems().first)
    #expect(problem.file == folder.path + "/peers.d/b.example.toml")
    #expect(problem.line == 1)
    #expect(problem.message.contains("\(folder.main):5"))
  }

  @Test("a file of peers.d holds one peer, the one it is named for, and nothing else")
  func shape() throws {
    let samples: [(text: String, keys: [String])] = [
      (peerTable("c.example"), ["peer.name"]),
      ("", ["peer"]),
      (peerTable("b.example") + peerTable("c.example", number: 1), ["peer", "peer.name"]),
      (peerTable("b.example") + "[node]\nname = \"x.example\"\n", ["node"]),
      ("peer = 3\n", ["peer"]),
    ]
    for sample in samples {
      let folder = try ConfigurationFolder()
      try folder.write("peers.d/b.example.toml", sample.text)
      let problems = folder.problems()
      #expect(problems.map(\.key) == sample.keys, "\(problems)")
      #expect(problems.allSatisfy { $0.file.hasSuffix("/peers.d/b.example.toml") })
    }
  }

  @Test("one broken file of peers.d does not hide the problems of the next")
  func brokenFiles() throws {
    let folder = try ConfigurationFolder()
    try folder.write("peers.d/b.example.toml", "[[peer\n")
    try folder.write("peers.d/c.example.toml", peerTable("c.example") + "colour = 1\n")
    #expect(
      folder.problems().map { ($0.file as NSString).lastPathComponent } == [
        "b.example.toml", "c.example.toml",
      ])
  }
}
