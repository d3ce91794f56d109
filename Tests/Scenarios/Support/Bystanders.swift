import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport
import Testing

/// Two clients of a node that have nothing to do with an attack on it: whatever happens, they exchange
/// messages, and nothing else is in the store.
final class Bystanders: Sendable {
  let organisation: Organisation
  let sender: Member
  let recipient: Member

  init(of organisation: Organisation) async throws {
    self.organisation = organisation
    sender = try await organisation.member("bea")
    recipient = try await organisation.member("ben")
  }

  /// One message there and acknowledged, with its receipt back.
  func expectUnharmed(after attack: String) async throws {
    let sealed = try sender.seal("after \(attack)", to: [recipient])
    #expect(try await sender.send(sealed.bytes).outcome == .accepted, "after \(attack)")
    let received = try await recipient.drain { $0.ids.contains(sealed.id) }
    #expect(received.ids == [sealed.id], "after \(attack): something else was in the mailbox")
    let told = try await sender.drain { !$0.receipts.isEmpty }
    #expect(!told.receipts(by: recipient.device.key.publicKey).isEmpty, "after \(attack)")
  }

  /// How many messages the node holds; an attack must not add one.
  func stored() async throws -> Int { try await organisation.status().messages }
}
