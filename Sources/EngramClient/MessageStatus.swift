internal import EngramClientStore
internal import EngramCore

/// Where a message stands for one recipient.
public enum DeliveryStatus: String, Sendable, CaseIterable {
  /// On its way: here, at a node, or in the recipient's mailbox.
  case pending
  /// Handed to the recipient's device; the application has not finished with it.
  case delivered
  /// The recipient's device has signed that its application took it.
  case processed
  case expired
  /// Refused for good, by a node or by the device.
  case failed
  /// Failed too often; kept aside by the recipient's node until an operator decides.
  case deadLettered = "dead-lettered"
  case cancelled

  /// Whether something may still happen without anybody asking for it.
  public var isOpen: Bool { self == .pending || self == .delivered }
}

/// What is known about one device that a message was sealed for, and by whose word.
public struct DeviceStatus: Sendable, Equatable {
  public let device: String
  public let state: DeliveryStatus
  /// 0 unless something went wrong.
  public let code: UInt16
  public let codeName: String
  /// How often it was handed out when this was said.
  public let attempt: UInt32
  /// Who signed it, nil while nobody has said anything about this device.
  public let issuer: String?
  public let role: String?
  public let atMs: UInt64?
}

/// A recipient of a message: the furthest of its devices speaks for it.
public struct RecipientStatus: Sendable, Equatable {
  public let address: String
  public let state: DeliveryStatus
  public let devices: [DeviceStatus]
}

/// Where a message of ours stands.
public struct MessageStatus: Sendable {
  public let messageID: String
  /// nil while it waits for a recipient's keys.
  public let envelopeID: String?
  public let thread: String
  public let type: String
  public let priority: String
  public let labels: [String: String]
  public let createdMs: UInt64
  public let expiresMs: UInt64
  public let notBeforeMs: UInt64?
  /// On this machine and at the home node.
  public let outbox: OutboxEntry.State
  /// Why it waits here or was refused.
  public let reason: EngramError?
  /// `processed` when every recipient's is; open while one is.
  public let state: DeliveryStatus
  public let recipients: [RecipientStatus]
}

/// One device's state as the receipts add up.
struct DeviceState: Equatable {
  var state: DeliveryStatus
  var receipt: ReceiptRow?
}

/// What receipts say about one device, as far as they do. Their order does not matter.
///
/// - `processed` is the device's own word and stands whatever anybody else says.
/// - Of the rest the latest attempt counts, and within it the state that comes last in a delivery's life. So an
///   operator who puts a dead letter back makes it pending or delivered again.
/// - Devices do not count attempts: what one says is about the last that a node reported.
/// - A receipt without a recipient is about everybody (home node), or about all clients of the node that
///   signed it.
func messageState(of receipts: [ReceiptRow], for address: Address, _ kid: Kid) -> DeviceState {
  let about = receipts.filter { receipt in
    guard receipt.recipient == nil else {
      return receipt.recipient == address && receipt.recipientKid == kid
    }
    return receipt.role == .homeNode || receipt.issuer == address.node.text
  }
  if let processed = about.first(where: { $0.state == .processed }) {
    return DeviceState(state: .processed, receipt: processed)
  }
  let lastAttempt = about.filter { $0.role != .device }.map(\.attempt).max() ?? 0
  func place(_ receipt: ReceiptRow) -> (UInt32, Int, UInt64) {
    (receipt.role == .device ? lastAttempt : receipt.attempt, receipt.state.stage, receipt.atMs)
  }
  guard let last = about.max(by: { place($0) < place($1) }) else {
    return DeviceState(state: .pending, receipt: nil)
  }
  return DeviceState(state: last.state.status, receipt: last)
}

extension ReceiptState {
  var status: DeliveryStatus {
    switch self {
    case .accepted, .admitted: .pending
    case .cancelled: .cancelled
    case .deadLettered: .deadLettered
    case .delivered: .delivered
    case .expired: .expired
    case .failed: .failed
    case .processed: .processed
    }
  }

  /// The order of states in a delivery's life.
  fileprivate var stage: Int {
    switch self {
    case .accepted: 0
    case .admitted: 1
    case .delivered: 2
    case .failed: 3
    case .expired: 4
    case .cancelled: 5
    case .deadLettered: 6
    case .processed: 7
    }
  }
}

/// One state for several: open while one is, `processed` only when all are, otherwise the worst.
func combinedState(_ states: [DeliveryStatus]) -> DeliveryStatus {
  let byWeight: [DeliveryStatus] = [
    .pending, .delivered, .failed, .deadLettered, .expired, .cancelled, .processed,
  ]
  return byWeight.first { states.contains($0) } ?? .pending
}

/// One state for the devices of an address: the best. One device is enough where they share a mailbox, and
/// for people where they do not.
func addressState(_ states: [DeliveryStatus]) -> DeliveryStatus {
  let byWeight: [DeliveryStatus] = [
    .processed, .delivered, .pending, .deadLettered, .failed, .expired, .cancelled,
  ]
  return byWeight.first { states.contains($0) } ?? .pending
}

extension ClientSnapshot {
  /// The state of a sealed message, recipient by recipient in the header's order.
  func recipientStates(_ row: OutboxRow, _ header: EnvelopeHeader) throws -> [RecipientStatus] {
    let said = try receipts(of: row.envelopeID)
    return header.recipientAddresses.map { address in
      let devices = header.recipients.filter { $0.address == address }.map { recipient in
        DeviceStatus(deviceState(row, said, address, recipient.kid), kid: recipient.kid)
      }
      return RecipientStatus(
        address: address.text, state: addressState(devices.map(\.state)), devices: devices)
    }
  }

  private func deviceState(
    _ row: OutboxRow, _ said: [ReceiptRow], _ address: Address, _ kid: Kid
  ) -> (DeviceState, ErrorCode) {
    let state = messageState(of: said, for: address, kid)
    // Without a receipt the node's refusal, or our own change of mind, is all there is to say.
    switch row.state {
    case .cancelled where state.receipt == nil: return (DeviceState(state: .cancelled), .none)
    case .refused where state.receipt == nil: return (DeviceState(state: .failed), row.code)
    case .accepted, .cancelled, .refused, .waiting: return (state, state.receipt?.code ?? .none)
    }
  }

  /// The state of a message that was sent from here, by its envelope id; nil when only its history is left.
  func sentState(_ id: EnvelopeID) throws -> DeliveryStatus? {
    guard let row = try outbox(envelope: id), let header = try? UnverifiedEnvelope(parsing: row.envelope).header
    else { return nil }
    return combinedState(try recipientStates(row, header).map(\.state))
  }
}

extension DeviceStatus {
  fileprivate init(_ judged: (state: DeviceState, code: ErrorCode), kid: Kid) {
    let receipt = judged.state.receipt
    self.init(
      device: kid.description, state: judged.state.state, code: judged.code.rawValue,
      codeName: judged.code.name, attempt: receipt?.attempt ?? 0, issuer: receipt?.issuer,
      role: receipt?.role.name, atMs: receipt?.atMs)
  }
}

extension MessageStatus {
  init(_ row: OutboxRow, in rows: ClientSnapshot) throws {
    guard let header = try? UnverifiedEnvelope(parsing: row.envelope).header else {
      throw ClientStoreError.damaged
    }
    let recipients = try rows.recipientStates(row, header)
    let entry = OutboxEntry(row)
    self.init(
      messageID: row.messageID.description, envelopeID: row.envelopeID.description,
      thread: header.thread.description, type: header.type.name, priority: header.priority.name,
      labels: header.labels.dictionary, createdMs: header.createdMs, expiresMs: header.expiresMs,
      notBeforeMs: header.notBeforeMs == 0 ? nil : header.notBeforeMs, outbox: entry.state,
      reason: entry.reason, state: combinedState(recipients.map(\.state)), recipients: recipients)
  }

  /// A message that waits for keys has no devices yet.
  init(_ row: QueuedRow) {
    let entry = OutboxEntry(row)
    let state: DeliveryStatus = entry.state == .refused ? .expired : .pending
    let draft = row.draft
    self.init(
      messageID: draft.messageID.description, envelopeID: nil, thread: draft.thread.description,
      type: draft.type.name, priority: draft.priority.name, labels: draft.labels.dictionary,
      createdMs: draft.createdMs, expiresMs: draft.expiresMs,
      notBeforeMs: draft.notBeforeMs == 0 ? nil : draft.notBeforeMs, outbox: entry.state,
      reason: entry.reason, state: state,
      recipients: draft.recipients.map {
        RecipientStatus(address: $0.text, state: state, devices: [])
      })
  }
}

extension [Label] {
  var dictionary: [String: String] {
    Dictionary(map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
  }
}

extension ReceiptRole {
  var name: String {
    switch self {
    case .device: "device"
    case .homeNode: "home-node"
    case .recipientNode: "recipient-node"
    }
  }
}
