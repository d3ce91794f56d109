internal import EngramCore
internal import EngramCrypto

/// SQLite does not notice a flipped bit in a value, so what is handed on carries these 16 bytes. They find
/// damage, not forgery: whoever can write the file can compute them.
typealias CheckSum = Identifier16<RowTag>
enum RowTag {}

func checkSum(_ bytes: [UInt8]) -> CheckSum { bytes.withUnsafeBytes { checkSum($0) } }

func checkSum(_ bytes: UnsafeRawBufferPointer) -> CheckSum {
  let transcript = Transcript("row")
  transcript.absorb(unsafe: bytes)
  return half(transcript.identifier())
}

/// Covers every column that never changes, and through `checkSum` the bytes: fixed lengths first, the sender
/// last, so that no two rows have the same input.
func infoSum(_ message: MessageInfo, checkSum: CheckSum) -> CheckSum {
  let transcript = Transcript("row-info")
  transcript.absorb(message.dedupe)
  transcript.absorb(message.envelopeID)
  transcript.absorb(message.senderKid)
  transcript.absorb(checkSum)
  let numbers = (
    message.createdMs.bigEndian, message.expiresMs.bigEndian, message.notBeforeMs.bigEndian,
    message.origin.bigEndian, message.acceptedMs.bigEndian, message.type.rawValue, message.priority.rawValue
  )
  withUnsafeBytes(of: numbers) { transcript.absorb(unsafe: $0) }
  transcript.absorb(message.sender.text)
  return half(transcript.identifier())
}

private func half(_ digest: Digest) -> CheckSum {
  digest.withBytes { bytes in
    guard let sum = CheckSum(bytes.prefix(16)) else { preconditionFailure("16 of 32") }
    return sum
  }
}

extension NewMessage {
  /// As the row will read; the number comes from the database and is not summed.
  var info: MessageInfo {
    MessageInfo(
      message: 0, dedupe: dedupe, envelopeID: envelopeID, sender: sender, senderKid: senderKid, type: type,
      priority: priority, createdMs: createdMs, expiresMs: expiresMs, notBeforeMs: notBeforeMs,
      origin: origin, acceptedMs: acceptedMs, open: openDeliveries)
  }
}
