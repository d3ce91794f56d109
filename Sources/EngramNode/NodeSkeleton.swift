package import EngramCore
package import EngramCrypto

// Temporary: the API that HTTP and federation compile against while the real thing is being written.
extension Node {
  package func openSession(token: String, completion: @escaping @Sendable (Result<SessionGrant, ErrorCode>) -> Void) { preconditionFailure("skeleton") }
  package func renewSession(_ bearer: String) -> Result<SessionGrant, ErrorCode> { preconditionFailure("skeleton") }
  package func session(_ bearer: String) -> Result<ClientSession, ErrorCode> { preconditionFailure("skeleton") }
  /// Called once when the session's client is disabled or its device revoked.
  package func watchSession(_ session: ClientSession, onEnd: @escaping @Sendable () -> Void) -> Watch { preconditionFailure("skeleton") }
  package func verify(_ bytes: [UInt8], from source: Source) -> Result<VerifiedEnvelope, ErrorCode> { preconditionFailure("skeleton") }
  package func accept(_ batch: [Result<VerifiedEnvelope, ErrorCode>], from session: ClientSession, completion: @escaping @Sendable ([ItemOutcome]) -> Void) { preconditionFailure("skeleton") }
  package func items(_ session: ClientSession, after: UInt64, maxCount: Int, maxBytes: Int, knownSenders: inout Set<Kid>) throws(ErrorCode) -> [MailboxItem] { preconditionFailure("skeleton") }
  package func acknowledge(_ acks: [MailboxAck], _ session: ClientSession, completion: @escaping @Sendable ([ItemOutcome]) -> Void) { preconditionFailure("skeleton") }
  package func watch(mailbox: Int64, _ onWork: @escaping @Sendable () -> Void) -> Watch { preconditionFailure("skeleton") }
  package func register(_ request: [UInt8], completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void) { preconditionFailure("skeleton") }
  package func directoryAnswer(_ address: Address, completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void) { preconditionFailure("skeleton") }
  /// Only about our own clients: what a peer may ask.
  package func localDirectoryAnswer(_ address: Address) -> Result<[UInt8], ErrorCode> { preconditionFailure("skeleton") }
  package func putPrekey(_ bytes: [UInt8], _ session: ClientSession, completion: @escaping @Sendable (ErrorCode) -> Void) { preconditionFailure("skeleton") }
  package func setPeers(_ peers: [Peer]) throws(ErrorCode) { preconditionFailure("skeleton") }
  package func setDirectoryPort(_ port: (any DirectoryPort)?) { preconditionFailure("skeleton") }
  package func linkState(_ peer: NodeName) throws(ErrorCode) -> LinkState { preconditionFailure("skeleton") }
  /// Draws a new epoch after a peer showed that we were rolled back.
  package func redrawEpoch(_ peer: NodeName, completion: @escaping @Sendable (Result<LinkState, ErrorCode>) -> Void) { preconditionFailure("skeleton") }
  package func outbound(_ peer: NodeName, after seq: UInt64, maxCount: Int, maxBytes: Int) throws(ErrorCode) -> [OutboundEnvelope] { preconditionFailure("skeleton") }
  package func certificate(_ kid: Kid) throws(ErrorCode) -> CertificateItem? { preconditionFailure("skeleton") }
  package func learn(_ certificate: CertificateItem, from peer: NodeName, completion: @escaping @Sendable (ErrorCode) -> Void) { preconditionFailure("skeleton") }
  package func acceptFromPeer(_ peer: NodeName, epoch: UInt64, firstSeq: UInt64, through: UInt64, batch: [Result<VerifiedEnvelope, ErrorCode>], completion: @escaping @Sendable ([AckFrame.Item]) -> Void) { preconditionFailure("skeleton") }
  package func settle(_ peer: NodeName, through: UInt64, items: [AckFrame.Item], completion: @escaping @Sendable () -> Void) { preconditionFailure("skeleton") }
  package func outboundReceipts(_ peer: NodeName, after seq: UInt64, maxCount: Int) throws(ErrorCode) -> [OutboundReceipts] { preconditionFailure("skeleton") }
  package func settleReceipts(_ peer: NodeName, through: UInt64, completion: @escaping @Sendable () -> Void) { preconditionFailure("skeleton") }
  package func acceptReceipts(_ peer: NodeName, epoch: UInt64, firstSeq: UInt64, receipts: [[UInt8]], completion: @escaping @Sendable (ErrorCode) -> Void) { preconditionFailure("skeleton") }
  package func invite(name: String, ttlMs: UInt64, completion: @escaping @Sendable (Result<String, ErrorCode>) -> Void) { preconditionFailure("skeleton") }
  package func invites() throws(ErrorCode) -> [InviteSummary] { preconditionFailure("skeleton") }
  package func clients() throws(ErrorCode) -> [ClientSummary] { preconditionFailure("skeleton") }
  package func disable(_ name: String, completion: @escaping @Sendable (ErrorCode) -> Void) { preconditionFailure("skeleton") }
  package func status() throws(ErrorCode) -> NodeStatus { preconditionFailure("skeleton") }
  package var metrics: NodeMetrics { preconditionFailure("skeleton") }
  package var isReady: Bool { preconditionFailure("skeleton") }
  package func pendingCount(mailbox: Int64) throws(ErrorCode) -> Int { preconditionFailure("skeleton") }
}

package final class Watch: Sendable {
  package func cancel() {}
  init() {}
}

/// Monotonic counters, read by `/metrics` and `admin status`: `counters()` yields (name, labels, value).
package final class NodeMetrics: Sendable {
  package func samples() -> [(name: String, labels: [(String, String)], value: UInt64)] { [] }
}
