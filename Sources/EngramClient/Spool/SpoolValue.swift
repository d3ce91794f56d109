internal import FoundationEssentials

/// JSON that is kept as it is and means nothing to us.
indirect enum SpoolValue: Codable, Equatable, Sendable {
  case flag(Bool)
  case list([SpoolValue])
  case none
  case number(Decimal)
  case object([String: SpoolValue])
  case text(String)

  init(from decoder: any Decoder) throws {
    let single = try decoder.singleValueContainer()
    if single.decodeNil() {
      self = .none
    } else if let flag = try? single.decode(Bool.self) {
      self = .flag(flag)
    } else if let text = try? single.decode(String.self) {
      self = .text(text)
    } else if let number = try? single.decode(Decimal.self) {
      self = .number(number)
    } else if let list = try? single.decode([SpoolValue].self) {
      self = .list(list)
    } else {
      self = .object(try single.decode([String: SpoolValue].self))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var single = encoder.singleValueContainer()
    switch self {
    case .flag(let flag): try single.encode(flag)
    case .list(let list): try single.encode(list)
    case .none: try single.encodeNil()
    case .number(let number): try single.encode(number)
    case .object(let object): try single.encode(object)
    case .text(let text): try single.encode(text)
    }
  }
}

extension SpoolValue {
  /// A verified receipt, for those who read the file.
  init(_ receipt: DeliveryReceipt) {
    var fields: [String: SpoolValue] = [
      "state": .text(receipt.state), "by": .text(receipt.issuer), "role": .text(receipt.role),
      "at": .text(Timestamp.text(receipt.atMs)),
    ]
    fields["recipient"] = receipt.recipient.map(SpoolValue.text)
    fields["device"] = receipt.recipientDevice.map(SpoolValue.text)
    if receipt.code != 0 { fields["code"] = .text(receipt.codeName) }
    self = .object(fields)
  }
}
