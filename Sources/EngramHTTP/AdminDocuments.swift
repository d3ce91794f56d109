import EngramCore
import EngramNode
import FoundationEssentials

/// `GET /admin/v1/status`.
struct StatusDocument: Encodable {
  let name: String
  let nodeID: String
  let version: String
  let startedMs: UInt64
  let messages: Int
  let openDeliveries: Int
  let notices: Int
  let clients: Int
  let devices: Int
  let sessions: Int
  let storeBytes: Int
  let ready: Bool
  let counters: [String: UInt64]
  let peers: [PeerDocument]

  init(_ status: NodeStatus, version: String, metrics: NodeMetrics, peers: [PeerDocument]) {
    (name, nodeID, self.version) = (status.name.text, "\(status.id)", version)
    (startedMs, ready, self.peers) = (status.startedMs, status.isReady, peers)
    (messages, openDeliveries, notices) = (status.messages, status.openDeliveries, status.notices)
    (clients, devices, sessions) = (status.clients, status.devices, status.sessions)
    storeBytes = status.storeBytes
    let samples = metrics.samples().filter { $0.labels.isEmpty }.map { ($0.name, $0.value) }
    counters = Dictionary(samples, uniquingKeysWith: { first, _ in first })
  }

  private enum CodingKeys: String, CodingKey {
    case name, version, messages, notices, clients, devices, sessions, ready, counters, peers
    case nodeID = "node_id"
    case startedMs = "started_ms"
    case openDeliveries = "open_deliveries"
    case storeBytes = "store_bytes"
  }
}

/// An element of `GET /admin/v1/clients`.
struct ClientDocument: Encodable {
  let address: String
  let identity: String
  let devices: [String]
  let disabled: Bool
  let createdMs: UInt64
  let waiting: Int

  init(_ client: ClientSummary) {
    (address, identity) = (client.address.text, "\(client.identity)")
    (devices, disabled) = (client.devices.map { "\($0)" }, client.isDisabled)
    (createdMs, waiting) = (client.createdMs, client.waiting)
  }

  private enum CodingKeys: String, CodingKey {
    case address, identity, devices, disabled, waiting
    case createdMs = "created_ms"
  }
}

/// The body of `POST /admin/v1/clients/invite`.
struct InviteRequest: Decodable {
  let name: String
  let ttlHours: UInt64

  private enum CodingKeys: String, CodingKey {
    case name
    case ttlHours = "ttl_hours"
  }
}

/// Its answer: what the administrator passes on to the new client.
struct InviteDocument: Encodable {
  let token: String
  let expiresMs: UInt64
  let nodeID: String

  private enum CodingKeys: String, CodingKey {
    case token
    case expiresMs = "expires_ms"
    case nodeID = "node_id"
  }
}

/// An element of `GET /admin/v1/invites`. Tokens are not kept, so they cannot be shown.
struct InviteSummaryDocument: Encodable {
  let name: String
  let expiresMs: UInt64

  init(_ invite: InviteSummary) { (name, expiresMs) = (invite.name, invite.expiresMs) }

  private enum CodingKeys: String, CodingKey {
    case name
    case expiresMs = "expires_ms"
  }
}

/// The body of `POST /admin/v1/peers`.
struct PeerRequest: Decodable {
  let name: String
  let endpoint: String
  let nodeID: String
  let authority: String
  let replace: Bool?

  private enum CodingKeys: String, CodingKey {
    case name, endpoint, replace
    case nodeID = "node_id"
    case authority = "ca_pem"
  }

  func checked() throws(Problem) -> PeerAddition {
    guard let name = try? NodeName(name) else {
      throw Problem(.nonCanonical, detail: "the peer's name is not a lower-case DNS name")
    }
    guard let nodeID = try? NodeID(parsing: nodeID) else {
      throw Problem(
        .nonCanonical, hint: "it is engram-node: and 52 characters; ask for the card again",
        detail: "the peer's node id is not one")
    }
    return PeerAddition(
      name: name, nodeID: nodeID, endpoint: endpoint, authority: authority, mayReplace: replace ?? false)
  }
}
