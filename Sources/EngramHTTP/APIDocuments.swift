import EngramCore
import EngramNode
import FoundationEssentials

/// `GET /api/v1/node`.
struct NodeDocument: Encodable {
  var name: String
  var nodeID: String
  var version: String
  var api = "v1"

  private enum CodingKeys: String, CodingKey {
    case name, version, api
    case nodeID = "node_id"
  }
}

/// `POST /api/v1/sessions` and its renewal.
struct SessionDocument: Encodable {
  var session: String
  var expiresMs: UInt64

  init(_ grant: SessionGrant) { (session, expiresMs) = (grant.bearer, grant.expiresMs) }

  private enum CodingKeys: String, CodingKey {
    case session
    case expiresMs = "expires_ms"
  }
}

/// One outcome for clients that asked for JSON.
struct OutcomeDocument: Encodable {
  var outcome: String
  var code: UInt16
  var name: String
  /// Standard base64; empty without a receipt.
  var receipt: String

  init(_ outcome: ItemOutcome) {
    self.outcome = "\(outcome.outcome)"
    (code, name) = (outcome.code.rawValue, outcome.code.name)
    receipt = Data(outcome.receipt).base64EncodedString()
  }
}
