internal import ArgumentParser
internal import EngramClient
internal import Foundation

struct VerifyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Prove from its receipts what happened to a message of yours, offline.",
    discussion: """
      Every receipt is checked anew: that it is about the very envelope that this device signed, its \
      signature through the batch it was signed in, and that the key is the one pinned for whoever it \
      names. Nodes vouch for what they hold; only a device vouches for what it processed. No node is \
      asked.

      Exit code 5 when anything does not hold. --export writes envelope stub and receipts into a file, \
      without the body; --proof verifies such a file against the keys that this home has pinned.

      Examples:
        engram verify 5c1e…
        engram verify 5c1e… --export delivery.proof
        engram verify --proof delivery.proof --json
      """)

  @Argument(help: "The message id (32 digits) or the envelope id (64 digits).")
  var message: String?

  @Option(help: ArgumentHelp("Verify this file instead.", valueName: "file"), completion: .file())
  var proof: String?

  @Option(
    help: ArgumentHelp("Also write what was verified into this file.", valueName: "file"),
    completion: .file())
  var export: String?

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (message == nil) != (proof == nil) else {
      throw ValidationError("name either a message or a file with --proof")
    }
    guard export == nil || message != nil else { throw ValidationError("--export needs a message") }
  }

  func run() async throws {
    let holds = try await common.withClient { client in
      let verification: Verification
      if let proof {
        // One byte more than a proof may have is enough to be refused.
        let bytes = try readWhole(
          proof, bytesMax: 8 << 20 + 1, hint: "--proof names a file that --export wrote")
        verification = try await client.verify(proof: bytes)
      } else {
        verification = try await client.verify(message ?? "")
      }
      if let export, let message {
        let proof = Data(try await client.exportProof(of: message))
        do { try proof.write(to: URL(fileURLWithPath: export), options: .atomic) } catch {
          throw CommandFailure(.failed, name: "file", "\(export) cannot be written")
        }
      }
      let form = VerificationForm(verification)
      try Terminal.write(common.json ? jsonLine(form) : form.text)
      return verification.holds
    }
    guard holds else { throw ExitCode(ExitStatus.untrusted.rawValue) }
  }
}

struct VerificationForm: Encodable {
  struct Statement: Encodable {
    let proven: Bool
    let says: String
    let state: String?
    let role: String?
    let issuer: String?
    let recipient: String?
    let device: String?
    let atMs: UInt64?
    let key: String?
    let pin: String?
    let pinnedMs: UInt64?
    let index: UInt32?
    let count: UInt32?
    let code: UInt16
    let codeName: String
  }
  struct Finding: Encodable {
    let kind: String
    let says: String
    let recipient: String
    let device: String
    let states: [String]
  }
  let messageID: String
  let envelopeID: String
  let holds: Bool
  let ourEnvelope: Bool
  let statements: [Statement]
  let findings: [Finding]

  init(_ verification: Verification) {
    (messageID, envelopeID) = (verification.messageID, verification.envelopeID)
    (holds, ourEnvelope) = (verification.holds, verification.isOurEnvelope)
    statements = verification.statements.map { s in
      Statement(
        proven: s.isProven, says: s.sentence, state: s.state, role: s.role, issuer: s.issuer,
        recipient: s.recipient, device: s.recipientDevice, atMs: s.atMs, key: s.key, pin: s.pin?.rawValue,
        pinnedMs: s.pinnedMs, index: s.index, count: s.count, code: s.code, codeName: s.codeName)
    }
    findings = verification.findings.map {
      Finding(
        kind: $0.kind.rawValue, says: $0.sentence, recipient: $0.recipient, device: $0.recipientDevice,
        states: $0.states)
    }
  }

  var text: String {
    var text = "message: \(messageID)\nenvelope: \(envelopeID)\n"
    guard ourEnvelope else {
      return text + "REFUSED: this device did not sign that envelope; its receipts are not judged here\n"
        + "result: NOT to be relied on\n"
    }
    text += "signed by this device: yes\n"
    for statement in statements {
      text += (statement.proven ? "proven: " : "REFUSED: ") + statement.says + "\n"
    }
    for finding in findings {
      text += (finding.kind == "unproven" ? "open: " : "WRONG: ") + finding.says + "\n"
    }
    if statements.isEmpty { text += "nothing is proven yet: there are no receipts\n" }
    return text + (holds ? "result: everything that was looked at holds\n" : "result: NOT to be relied on\n")
  }
}

extension Verification.Statement {
  /// What is proven and by which key, as one sentence.
  fileprivate var sentence: String {
    let who = Terminal.printable(issuer ?? "somebody")
    guard isProven, let state, let atMs, let key else {
      return "a receipt in the name of \(who) does not verify (\(codeName))"
    }
    let about = recipientDevice.map { "device \($0.prefix(8)) of \(recipient ?? "")" } ?? "all that it is for"
    let verb =
      switch state {
      case "accepted": "has taken the message for delivery to \(about)"
      case "admitted": "has taken the message for \(about)"
      case "delivered": "handed it to \(about)"
      case "processed": "processed it"
      case "failed": "gave it up for \(about)"
      case "expired": "saw it expire for \(about)"
      case "dead-lettered": "put it aside for \(about)"
      case "cancelled": "dropped it, as asked, for \(about)"
      default: "said \(state) about \(about)"
      }
    let subject = role == "device" ? "device \((recipientDevice ?? "").prefix(8)) of \(who)" : "node \(who)"
    return "\(timeText(atMs)) \(subject) \(verb); \(basis(key))"
  }

  private func basis(_ key: String) -> String {
    let since = pinnedMs.map { " since \(timeText($0))" } ?? ""
    let batch = count.map { $0 > 1 ? ", receipt \((index ?? 0) + 1) of \($0) under one signature" : "" } ?? ""
    switch pin {
    case .approved: return "key \(key.prefix(16)), safety number compared\(since)\(batch)"
    case .firstUse: return "key \(key.prefix(16)), pinned on first use\(since), not compared\(batch)"
    case .ownNode: return "key \(key.prefix(16)) of your own node, pinned at registration\(batch)"
    case nil: return "key \(key.prefix(16))\(batch)"
    }
  }
}

extension Verification.Finding {
  fileprivate var sentence: String {
    let whom = "device \(recipientDevice.prefix(8)) of \(recipient)"
    return switch kind {
    case .contradiction: "\(states.joined(separator: " and ")) are both signed about \(whom)"
    case .reversed: "about \(whom), \(states.joined(separator: " is dated after "))"
    case .unproven: "nobody has signed \(states.joined(separator: ", ")) about \(whom)"
    }
  }
}
