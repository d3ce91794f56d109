import EngramCore
import Foundation
import TOMLKit

/// The peers of `federation.toml` and of `peers.d` beside it, which are one list.
struct PeerSources {
  private struct Entry {
    let peer: PeerConfiguration
    let file: String
    let line: Int?

    var place: String { line.map { "\(file):\($0)" } ?? file }
  }

  private var entries: [Entry] = []
  private(set) var problems: [ConfigurationProblem] = []

  /// Ascending by name.
  var peers: [PeerConfiguration] { entries.map(\.peer).sorted { $0.name < $1.name } }

  var places: [NodeName: String] {
    Dictionary(entries.map { ($0.peer.name, $0.place) }, uniquingKeysWith: { first, _ in first })
  }

  init(beside document: ConfigurationDocument) {
    readPeers(of: document)
    for file in PeerFile.files(beside: document.file) {
      guard entries.count <= Schema.peersMax else { break }
      do {
        let document = try ConfigurationDocument.read(file)
        let before = entries.count
        readPeers(of: document)
        refuseOtherTables(of: document)
        refuseForeignName(of: document, entries[before...])
      } catch {
        problems.append(error)
      }
    }
    if entries.count > Schema.peersMax {
      problems.append(
        ConfigurationProblem(
          file: document.file, key: "peer", message: "more than \(Schema.peersMax) peers"))
    }
  }

  /// The file that names `peer`, nil when none does.
  func file(naming peer: NodeName) -> String? { entries.first { $0.peer.name == peer }?.file }

  /// Peers that cannot both be meant. `ownName` is nil when it could not be read.
  func conflicts(ownName: NodeName?, ownFile: String) -> [ConfigurationProblem] {
    var problems: [ConfigurationProblem] = []
    for (index, entry) in entries.enumerated() {
      func note(_ key: String, _ message: String, hint: String? = nil) {
        problems.append(
          ConfigurationProblem(
            file: entry.file, line: entry.line, key: "peer.\(key)", message: message, hint: hint))
      }
      if entry.peer.name == ownName {
        note("name", "\(entry.peer.name) is this node itself, by [node] of \(ownFile)")
      }
      let earlier = entries[..<index]
      if let twin = earlier.first(where: { $0.peer.name == entry.peer.name }) {
        note(
          "name", "\(entry.peer.name) is a peer twice, also in \(twin.place)", hint: "remove one of the two")
      } else if let twin = earlier.first(where: { $0.peer.nodeID == entry.peer.nodeID }) {
        note("node_id", "is also that of \(twin.peer.name) in \(twin.place)")
      }
    }
    return problems
  }

  // MARK: - Reading

  private mutating func readPeers(of document: ConfigurationDocument) {
    guard let node = document.root["peer"] else { return }
    guard let array = node.array else {
      problems.append(
        ConfigurationProblem(
          file: document.file, line: document.lines["peer"], key: "peer", message: "must be a list of tables",
          hint: "write [[peer]], with two brackets"))
      return
    }
    for position in 0..<array.count {
      guard let table = array[position].table else {
        problems.append(
          ConfigurationProblem(
            file: document.file, line: document.lines["peer"], key: "peer",
            message: "must hold tables only", hint: "write [[peer]], with two brackets"))
        return
      }
      var reader = TableReader(document, element: table, of: "peer", at: position)
      let peer = Self.peer(&reader)
      problems += reader.problems
      if let peer {
        entries.append(Entry(peer: peer, file: document.file, line: document.lines["peer[\(position)]"]))
      }
    }
  }

  private static func peer(_ reader: inout TableReader) -> PeerConfiguration? {
    let name = reader.nodeName()
    let endpoint = reader.value("endpoint", isRequired: true, expected: HostPort.expectation) {
      HostPort($0)?.dialable
    }
    let nodeID = reader.nodeID()
    let authority = reader.path("ca", isRequired: true)
    let isEnabled = reader.boolean("enabled", fallback: true)
    reader.refuseUnknown(Schema.peerKeys)
    guard let name, let endpoint, let nodeID, let authority else { return nil }
    return PeerConfiguration(
      name: name, endpoint: endpoint, nodeID: nodeID, authorityPath: authority, isEnabled: isEnabled)
  }

  private mutating func refuseOtherTables(of document: ConfigurationDocument) {
    for key in document.root.keys.sorted() where key != "peer" {
      problems.append(
        ConfigurationProblem(
          file: document.file, line: document.lines[key], key: key,
          message: "does not belong in a file of \(PeerFile.folderName)",
          hint: "one [[peer]] table and nothing else"))
    }
    let count = document.root["peer"].map { $0.array?.count ?? 1 } ?? 0
    if count != 1 {
      problems.append(
        ConfigurationProblem(
          file: document.file, key: "peer", message: "must be there once, found \(count) times"))
    }
  }

  /// `admin peer remove NAME` deletes the file of that name, so it has to hold that peer.
  private mutating func refuseForeignName(of document: ConfigurationDocument, _ entries: ArraySlice<Entry>) {
    let stem = ((document.file as NSString).lastPathComponent as NSString).deletingPathExtension
    for entry in entries where entry.peer.name.text != stem {
      problems.append(
        ConfigurationProblem(
          file: entry.file, line: entry.line, key: "peer.name",
          message: "is \(entry.peer.name), but the file is named for \(stem)",
          hint: "rename the file to \(entry.peer.name).toml"))
    }
  }
}
