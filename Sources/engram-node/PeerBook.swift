import EngramConfig
import EngramCore
import EngramFederation
import EngramHTTP
import Foundation

/// The peers as configured, changed by the administration one at a time: file first, then the running
/// federation.
actor PeerBook {
  private var peers: [PeerConfiguration]
  private let configPath: String
  private let federation: FederationService

  init(_ peers: [PeerConfiguration], configPath: String, federation: FederationService) {
    (self.peers, self.configPath, self.federation) = (peers, configPath, federation)
  }

  /// Hands the whole list to the federation.
  func apply() throws {
    let resolved = try peers.map { peer in
      guard let pem = FileManager.default.contents(atPath: peer.authorityPath) else {
        throw Failure(
          .configuration, "the authority of peer \(peer.name), \(peer.authorityPath), cannot be read")
      }
      return FederationPeer(
        name: peer.name, id: peer.nodeID, host: peer.endpoint.host, port: peer.endpoint.port,
        authorityPEM: String(decoding: pem, as: UTF8.self), isEnabled: peer.isEnabled)
    }
    do throws(PeerSetupError) { try federation.setPeers(resolved) } catch { throw Self.failure(error) }
  }

  private static func failure(_ error: PeerSetupError) -> Failure {
    switch error {
    case .authority(let name):
      Failure(.configuration, "the authority of peer \(name) is not a PEM certificate")
    case .duplicateName(let name): Failure(.configuration, "peer \(name) is there twice")
    case .node(let code): Failure(.ioError, code.sentence, hint: code.hint)
    case .ownName: Failure(.configuration, "a node cannot be its own peer")
    }
  }

  private func list() -> [PeerDocument] { federation.peers().map(PeerDocument.init) }

  private func add(_ addition: PeerAddition) -> Result<PeerDocument, AdminRefusal> {
    guard let endpoint = HostPort(addition.endpoint), endpoint.port > 0 else {
      return .failure(AdminRefusal(.malformed, reason: "the endpoint is not HOST:PORT"))
    }
    let before = peers
    do {
      let authority = try PeerFile.writeAuthority(addition.authority, of: addition.name, beside: configPath)
      let peer = PeerConfiguration(
        name: addition.name, endpoint: endpoint, nodeID: addition.nodeID, authorityPath: authority)
      peers = before.filter { $0.name != addition.name } + [peer]
      try apply()
      try PeerFile.write(peer, beside: configPath)
    } catch {
      peers = before
      try? apply()
      return .failure(AdminRefusal(.malformed, reason: Self.reason(error)))
    }
    guard let status = federation.peers().first(where: { $0.name == addition.name }) else {
      return .failure(AdminRefusal(.internalError))
    }
    return .success(PeerDocument(status))
  }

  private func remove(_ name: NodeName) -> Result<Void, AdminRefusal> {
    guard peers.contains(where: { $0.name == name }) else { return .failure(AdminRefusal(.notFound)) }
    do {
      try PeerFile.remove(name, beside: configPath)
      peers.removeAll { $0.name == name }
      try apply()
      return .success(())
    } catch { return .failure(AdminRefusal(.malformed, reason: Self.reason(error))) }
  }

  private static func reason(_ error: any Error) -> String {
    switch error {
    case let error as Failure: error.message
    case let error as ConfigurationError: error.description
    default: "\(type(of: error))"
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
