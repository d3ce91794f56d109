import EngramConfig
import EngramCore
import EngramFederation
import EngramHTTP
import EngramTLS
import Foundation

/// The peers as configured, changed by the administration one at a time. A change is checked before anything
/// is touched, then the running federation takes it, then the files; a failure undoes all of it.
actor PeerBook {
  private struct Entry {
    var peer: PeerConfiguration
    /// PEM text of its authority.
    var authority: String
  }

  private let ownName: NodeName
  private let ownID: NodeID
  private let configured: [PeerConfiguration]
  private let places: [NodeName: String]
  private let configPath: String
  private let federation: FederationService
  private var entries: [NodeName: Entry] = [:]

  init(
    _ configuration: NodeConfiguration, configPath: String, ownID: NodeID, federation: FederationService
  ) {
    (ownName, configured, places) = (configuration.name, configuration.peers, configuration.peerPlaces)
    (self.ownID, self.configPath, self.federation) = (ownID, configPath, federation)
  }

  /// Reads the authorities of the configured peers and hands them all to the federation.
  func load() throws {
    for peer in configured {
      let authority: String
      do {
        authority = try String(contentsOfFile: peer.authorityPath, encoding: .utf8)
      } catch {
        throw Failure(
          .configuration, "\(place(of: peer.name)): peer.ca: \(peer.authorityPath) \(fileProblem(error))",
          hint: "it is the PEM certificate of that peer's authority; `admin peer add CARD` writes it")
      }
      entries[peer.name] = Entry(peer: peer, authority: authority)
    }
    try handOver()
  }

  private func place(of peer: NodeName) -> String { places[peer] ?? configPath }

  private func handOver() throws {
    let peers = entries.values.map { entry in
      FederationPeer(
        name: entry.peer.name, id: entry.peer.nodeID, host: entry.peer.endpoint.host,
        port: entry.peer.endpoint.port, authorityPEM: entry.authority, isEnabled: entry.peer.isEnabled)
    }
    do throws(PeerSetupError) {
      try federation.setPeers(peers.sorted { $0.name < $1.name })
    } catch { throw failure(error) }
  }

  private func failure(_ error: PeerSetupError) -> Failure {
    switch error {
    case .authority(let name):
      Failure(
        .configuration,
        "\(place(of: name)): peer.ca: the authority of \(name) is not the PEM certificate of an authority",
        hint: "`admin peer add CARD` writes it from that peer's card")
    case .duplicateName(let name): Failure(.configuration, "\(place(of: name)): peer \(name) is there twice")
    case .node(let code): Failure(.ioError, code.sentence, hint: code.hint)
    case .ownName: Failure(.configuration, "a node cannot be its own peer")
    }
  }

  // MARK: - Changes

  private func list() -> [PeerDocument] { federation.peers().map(PeerDocument.init) }

  private func add(_ addition: PeerAddition) -> Result<PeerDocument, AdminRefusal> {
    do throws(AdminRefusal) {
      let entry = try checked(addition)
      let files = PeerFile.contents(of: addition.name, beside: configPath)
      try change(restoring: files, of: addition.name) {
        entries[addition.name] = entry
        try handOver()
        _ = try PeerFile.writeAuthority(entry.authority, of: addition.name, beside: configPath)
        try PeerFile.write(entry.peer, beside: configPath)
      }
    } catch { return .failure(error) }
    guard let status = federation.peers().first(where: { $0.name == addition.name }) else {
      return .failure(AdminRefusal(.internalError))
    }
    return .success(PeerDocument(status))
  }

  private func remove(_ name: NodeName) -> Result<Void, AdminRefusal> {
    guard entries[name] != nil else {
      return .failure(AdminRefusal(.notFound, reason: "this node has no peer of that name"))
    }
    do throws(AdminRefusal) {
      let files = PeerFile.contents(of: name, beside: configPath)
      try change(restoring: files, of: name) {
        try PeerFile.remove(name, beside: configPath)
        entries[name] = nil
        try handOver()
      }
      return .success(())
    } catch { return .failure(error) }
  }

  /// Runs all of a change; when a part of it fails, list, links and files are what they were.
  private func change(
    restoring files: PeerFileContents, of name: NodeName, _ body: () throws -> Void
  ) throws(AdminRefusal) {
    let before = entries
    do { try body() } catch {
      entries = before
      // Best effort: what could not be put back is as wrong on the disk as it was when the change failed.
      try? handOver()
      try? PeerFile.restore(files, of: name, beside: configPath)
      throw Self.refusal(error, .storageFailed)
    }
  }

  /// What the card says as an entry, or the reason why it cannot be one. Touches nothing.
  private func checked(_ addition: PeerAddition) throws(AdminRefusal) -> Entry {
    let name = addition.name
    guard let endpoint = HostPort(addition.endpoint), endpoint.port > 0 else {
      throw AdminRefusal(
        .malformed, reason: "the endpoint of \(name) is not HOST:PORT",
        hint: "--endpoint HOST:PORT takes the place of the card's")
    }
    guard name != ownName, addition.nodeID != ownID else {
      throw AdminRefusal(
        .malformed, reason: "this is the card of \(ownName) itself: a node cannot be its own peer",
        hint: "pin the card that the other side printed")
    }
    guard (try? TrustAnchors(pem: addition.authority)) != nil else {
      throw AdminRefusal(
        .malformed, reason: "the card of \(name) holds no PEM certificate of an authority",
        hint: "ask for the card again: it was cut or changed on the way")
    }
    try refuseSilentChange(addition)
    let entry = Entry(
      peer: PeerConfiguration(
        name: name, endpoint: endpoint, nodeID: addition.nodeID,
        authorityPath: PeerFile.authorityPath(of: name, beside: configPath)),
      authority: addition.authority)
    do throws(ConfigurationError) { try PeerFile.check(entry.peer, beside: configPath) } catch {
      throw Self.refusal(error, .malformed)
    }
    return entry
  }

  /// A pin that gave way to any later card would pin nothing.
  private func refuseSilentChange(_ addition: PeerAddition) throws(AdminRefusal) {
    guard let pinned = entries[addition.name], !addition.mayReplace else { return }
    let name = addition.name
    let hint = "--replace takes the card's, once that peer's administrator has confirmed it by voice"
    guard pinned.peer.nodeID == addition.nodeID else {
      throw AdminRefusal(
        .identityChanged,
        reason: """
          \(name) is pinned with another node id
            pinned  \(pinned.peer.nodeID)
            card    \(addition.nodeID)
          """, hint: hint)
    }
    guard Self.isSame(pinned.authority, addition.authority) else {
      throw AdminRefusal(
        .identityChanged, reason: "\(name) is pinned with another certificate authority than the card's",
        hint: hint)
    }
  }

  /// Line ends and blank ends do not make another certificate.
  private static func isSame(_ one: String, _ other: String) -> Bool {
    one.split(whereSeparator: \.isWhitespace) == other.split(whereSeparator: \.isWhitespace)
  }

  private static func refusal(_ error: any Error, _ code: ErrorCode) -> AdminRefusal {
    switch error {
    case let error as Failure: AdminRefusal(code, reason: error.message, hint: error.hint)
    case let error as ConfigurationError:
      AdminRefusal(
        code, reason: error.problems.map(\.sentence).joined(separator: "\n"),
        hint: error.problems.compactMap(\.hint).first)
    default: AdminRefusal(code, reason: "\(type(of: error))")
    }
  }

  /// What the admin socket calls.
  nonisolated var administration: AdminPeers {
    AdminPeers(
      list: { await self.list() }, add: { await self.add($0) }, remove: { await self.remove($0) })
  }
}

extension PeerDocument {
  init(_ status: PeerStatus) {
    self.init(
      name: status.name.text, nodeID: "\(status.nodeID)", endpoint: status.endpoint, state: status.state.name,
      sinceMs: status.sinceMs, queued: status.queued, inFlight: status.inFlight, attempts: status.attempts,
      nextDialMs: status.nextDialMs, lastError: status.lastError == .none ? nil : status.lastError)
  }
}
