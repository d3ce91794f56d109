import EngramCore
import EngramCrypto
import EngramSealing
import Glibc

/// What single steps cost on this machine, in CPU time of one thread: the parts that every prediction is made
/// of.
struct Primitives {
  let options: BenchOptions

  private static let rounds = 2_000
  private static let syncs = 50

  func run() throws -> Figures {
    let sender = try Device("alice@acme.example")
    let recipient = try Device("bob@globex.example")
    let body = randomBytes(options.bodyBytes)
    let sealed = try sender.seal(body, index: 0, to: recipient)
    let envelope = try UnverifiedEnvelope(parsing: sealed.bytes)
    let verified = try VerifiedEnvelope(envelope, sender: sender.certificate)
    let signature = sender.key.sign(over: body)
    var figures: Figures = [:]
    figures["ed25519_sign_us"] = cost { _ = sender.key.sign(over: body) }
    figures["ed25519_verify_us"] = try cost {
      try sender.certificate.key.verify(signature[...], over: body)
    }
    figures["envelope_parse_us"] = try cost { _ = try UnverifiedEnvelope(parsing: sealed.bytes) }
    figures["envelope_verify_us"] = try cost {
      _ = try VerifiedEnvelope(envelope, sender: sender.certificate)
    }
    figures["envelope_seal_us"] = try cost { _ = try sender.seal(body, index: 0, to: recipient) }
    figures["envelope_open_us"] = try cost {
      _ = try EngramSealing.open(verified, as: recipient.address, kid: recipient.kid) { _ in
        recipient.prekeySecret
      }
    }
    figures["receipt_in_batch_us"] = receiptCost(sender, recipient, sealed.id)
    figures["fsync_wall_us"] = try syncCost()
    return figures
  }

  /// Signing a batch as large as a group commit under load, per receipt.
  private func receiptCost(_ sender: Device, _ recipient: Device, _ id: EnvelopeID) -> Double {
    let body = ReceiptBody(
      role: .homeNode, issuerName: "acme.example", issuerKey: sender.identity.publicKey, envelope: id,
      sender: sender.address, senderKid: sender.kid, messageID: MessageIndex.messageID(0), state: .accepted,
      atMs: wallClockMs())
    let batch = [ReceiptBody](repeating: body, count: 256)
    return cost(rounds: 20) { _ = signReceipts(batch, with: sender.identity) } / Double(batch.count)
  }

  /// µs of this thread's CPU time per call.
  private func cost(rounds: Int = Primitives.rounds, _ body: () throws -> Void) rethrows -> Double {
    for _ in 0..<(rounds / 10) { try body() }
    let start = threadCPUNs()
    for _ in 0..<rounds { try body() }
    return Double(threadCPUNs() - start) / 1_000 / Double(rounds)
  }

  /// Median wall-clock µs of an append of 16 KiB with fdatasync, in the nodes' directory.
  private func syncCost() throws -> Double {
    let path = "\(options.directory)/sync"
    let descriptor = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw BenchError("\(path) cannot be written") }
    defer {
      close(descriptor)
      unlink(path)
    }
    let page = [UInt8](repeating: 1, count: 16 << 10)
    return median(
      (0..<Self.syncs).map { _ in
        let start = monotonicNs()
        _ = write(descriptor, page, page.count)
        fdatasync(descriptor)
        return Double(monotonicNs() - start) / 1_000
      })
  }
}

private func threadCPUNs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
