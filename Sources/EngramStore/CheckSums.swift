internal import EngramCore
internal import EngramCrypto

/// SQLite does not notice a flipped bit in a value, so what is handed on carries these 16 bytes. They find
/// damage, not forgery: whoever can write the file can compute them.
func checkSum(_ bytes: [UInt8]) -> [UInt8] {
  let transcript = Transcript("row")
  transcript.absorb(bytes)
  return Array(transcript.finish().prefix(checkSumBytes))
}

let checkSumBytes = 16

/// Covers every column that never changes, and through `checkSum` the bytes: fixed lengths first, the sender
/// last, so that no two rows have the same input.
func infoSum(_ message: MessageInfo, checkSum: [UInt8]) -> [UInt8] {
  var input: [UInt8] = []
  input.reserveCapacity(192)
  input += message.dedupe.bytes
  input += message.envelopeID.bytes
  input += message.senderKid.bytes
  input += [message.type.rawValue, message.priority.rawValue]
  let numbers = [
    message.createdMs, message.expiresMs, message.notBeforeMs, UInt64(bitPattern: message.origin),
    message.acceptedMs,
  ]
  for number in numbers { withUnsafeBytes(of: number.bigEndian) { input += $0 } }
  input += checkSum
  input += Array(message.sender.text.utf8)
  let transcript = Transcript("row-info")
  transcript.absorb(input)
  return Array(transcript.finish().prefix(checkSumBytes))
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
