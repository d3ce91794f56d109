/// What a message is for. Numbers are normative; unknown ones are refused.
package enum MessageType: UInt8, CaseIterable, Sendable {
  case startup = 1
  case shutdown = 2
  case heartbeat = 3
  case taskRequest = 16
  case taskProgress = 17
  case taskResult = 18
  case taskCancel = 19
  case query = 32
  case response = 33
  case broadcast = 34
  case direct = 35
  case error = 48
  case warning = 49
  case info = 50
  case capability = 64
  case handoff = 65
  case context = 66

  /// `TASK_REQUEST` and the like, as the command line and JSON spell it.
  package var name: String { Self.names[self] ?? "" }

  package init?(name: String) {
    guard let match = Self.byName[name.uppercased()] else { return nil }
    self = match
  }

  private static let names = Dictionary(uniqueKeysWithValues: allCases.map { ($0, $0.spelt) })
  private static let byName = Dictionary(uniqueKeysWithValues: allCases.map { ($0.spelt, $0) })

  private var spelt: String {
    "\(self)".reduce(into: "") { $0 += $1.isUppercase ? "_\($1)" : $1.uppercased() }
  }
}

package enum Priority: UInt8, CaseIterable, Sendable {
  case low = 1
  case normal = 2
  case high = 3
  case urgent = 4
  case critical = 5

  package var name: String { "\(self)".uppercased() }
  package init?(name: String) {
    guard let match = Self.allCases.first(where: { $0.name == name.uppercased() }) else { return nil }
    self = match
  }
}

/// What the sealed body is: something for people and agents, for the protocol, or a memory item.
package enum EnvelopeKind: UInt8, Sendable {
  case message = 1
  case control = 2
  case memory = 3
}

package enum PrekeyKind: UInt8, Sendable {
  case signed = 1
  case oneTime = 2
}

/// Cipher suite 1: Ed25519, X25519 sealed boxes, XChaCha20-Poly1305, BLAKE2b. There is no negotiation.
package enum Suite: UInt8, Sendable {
  case one = 1
}
