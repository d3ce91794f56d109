internal import EngramCore
internal import FoundationEssentials

/// How this client's devices share what comes in, in the node's words.
struct QueueSharing: Sendable, Decodable {
  let mode: String
  let changedMs: UInt64

  private enum CodingKeys: String, CodingKey {
    case mode
    case changedMs = "changed_ms"
  }

  /// Whether another device may have taken a message that could still be missing here.
  func mayHaveShared(atMs now: UInt64) -> Bool {
    mode == "one" || (changedMs > 0 && now < changedMs + Limits.ttlMsMax)
  }
}

extension NodeAPI {
  func queueSharing() async throws -> QueueSharing {
    let reply = try await authorised(NodeRequest("GET", path("queue")), expecting: [200])
    do { return try JSONDecoder().decode(QueueSharing.self, from: Data(reply.body)) } catch {
      throw EngramError(.untrusted, .malformed)
    }
  }

  /// - Returns: the node's signed directory answer about this client.
  func addDevice(_ item: CertificateItem) async throws -> [UInt8] {
    let request = NodeRequest(
      "POST", path("devices"), contentType: "application/vnd.engram.device", body: item.encoded())
    return try await authorised(request, expecting: [201]).body
  }
}
