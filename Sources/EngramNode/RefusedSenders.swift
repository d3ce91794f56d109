internal import EngramCore
import Synchronization

/// Why certificates of peers' devices were refused. Their envelopes are refused for the same reason, so that
/// the senders hear of it: "unknown device" would put them off, again and again until they expire.
final class RefusedSenders: Sendable {
  /// Devices remembered per peer, about 100 bytes each; past it they are forgotten together, and envelopes
  /// are put off until their certificates come again on the next link.
  private static let perPeerMax = 4_096
  private let codes = Mutex<[NodeName: [Kid: ErrorCode]]>([:])

  /// What became of a certificate. A failure of ours says nothing about the device.
  func note(_ code: ErrorCode, of kid: Kid, from peer: NodeName) {
    let refusal = code == .none || code.isOurs ? nil : code
    codes.withLock { codes in
      guard refusal != nil || codes[peer] != nil else { return }
      var own = codes[peer] ?? [:]
      if own.count >= Self.perPeerMax, own[kid] == nil { own = [:] }
      own[kid] = refusal
      codes[peer] = own.isEmpty ? nil : own
    }
  }

  func code(of kid: Kid, from peer: NodeName) -> ErrorCode? { codes.withLock { $0[peer]?[kid] } }
}
