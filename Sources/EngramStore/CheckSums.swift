internal import EngramCore
internal import EngramCrypto

/// SQLite does not notice a flipped bit in a value, so what is handed on carries these 16 bytes: SipHash
/// under a public key. They find damage, not forgery, and without a secret a hash of any strength would do no
/// more: whoever can write the file can compute it. BLAKE2b took 4 µs per message.
typealias CheckSum = Identifier16<RowTag>
enum RowTag {}

/// Sums of bytes and of columns are told apart by their keys.
private enum SumKey {
  static let bytes: (UInt64, UInt64) = (1, 0)
  static let info: (UInt64, UInt64) = (2, 0)
}

func checkSum(_ bytes: [UInt8]) -> CheckSum { bytes.withUnsafeBytes { checkSum($0) } }

func checkSum(_ bytes: UnsafeRawBufferPointer) -> CheckSum { rowSum(bytes, key: SumKey.bytes) }

/// Covers every column that never changes, and through `checkSum` the bytes: fixed lengths first, the sender
/// last, so that no two rows have the same input.
func infoSum(_ message: MessageInfo, checkSum: CheckSum) -> CheckSum {
  let numbers = (
    message.createdMs.bigEndian, message.expiresMs.bigEndian, message.notBeforeMs.bigEndian,
    message.origin.bigEndian, message.acceptedMs.bigEndian, message.type.rawValue, message.priority.rawValue
  )
  var sender = message.sender.text
  return sender.withUTF8 { sender in
    let count = 32 + 32 + 16 + 16 + 42 + sender.count
    return withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { buffer in
      var end = 0
      func put(_ bytes: UnsafeRawBufferPointer) {
        for byte in bytes {
          buffer[end] = byte
          end += 1
        }
      }
      message.dedupe.withBytes(put)
      message.envelopeID.withBytes(put)
      message.senderKid.withBytes(put)
      checkSum.withBytes(put)
      // Without the padding behind the last of them, whose content is not defined.
      withUnsafeBytes(of: numbers) { put(UnsafeRawBufferPointer(rebasing: $0.prefix(42))) }
      put(UnsafeRawBufferPointer(sender))
      return rowSum(UnsafeRawBufferPointer(rebasing: buffer[..<end]), key: SumKey.info)
    }
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
